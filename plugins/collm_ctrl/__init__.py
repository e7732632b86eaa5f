"""CTRL: an encoder whose vectors are first aligned with a language model's view of the same rows, then fitted."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_ctrl.config import CtrlConfig, CtrlDinConfig

TEXT_BACKBONE = {"text_backbone.name": "smollm2-135m"}
DIN_AND_TEXT_BACKBONE = {"encoder.name": "din", **TEXT_BACKBONE}


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns CTRL on any encoder, and CTRL on DIN as the paper compares it."""
    profiles = ("paper", "reference", "recommended")
    needs, gives = frozenset({"history", "text"}), frozenset({"scores", "vectors"})
    return [
        Component(
            kind="encoder",
            name="ctrl",
            factory="collm_ctrl.encoder:build",
            config=CtrlConfig,
            summary="CTRL on an encoder of your choice: contrastive alignment with text, then the encoder's own fit.",
            needs=needs,
            gives=gives,
            profiles=dict.fromkeys(profiles, TEXT_BACKBONE),
        ),
        Component(
            kind="encoder",
            name="ctrl-din",
            factory="collm_ctrl.encoder:build",
            config=CtrlDinConfig,
            summary="CTRL on DIN (Li et al. 2023): contrastive alignment with a language model's text, then BCE.",
            needs=needs,
            gives=gives,
            profiles=dict.fromkeys(profiles, DIN_AND_TEXT_BACKBONE),
        ),
    ]
