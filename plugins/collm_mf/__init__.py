"""Matrix factorisation: `mf` as the reference has it, and `mf-bias` with the bias terms it lacks (finding 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_mf.config import MfBiasConfig, MfConfig

# Facts 16 and 47, but for the stopping rule: see README, "The reference's stopping rule". Also the class defaults now;
# named again so that a better default cannot change what `reference` means.
_REFERENCE_MF: Mapping[str, Any] = {
    "embedding_size": 256,
    "init_std": 1.0,
    "fit.learning_rate": 1e-3,
    "fit.weight_decay": 1e-4,
    "fit.batch_size": 2048,
    "fit.epochs": 500,
    "fit.patience": 250,
}


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns both encoders."""
    gives = frozenset({"scores", "vectors"})
    return [
        Component(
            kind="encoder",
            name="mf",
            factory="collm_mf.encoders:build_mf",
            config=MfConfig,
            summary="Matrix factorisation without biases, N(0, 1) start: the paper's MF.",
            gives=gives,
            # The paper searches a grid that holds the reference's shipped values (section 5.1.3).
            profiles={"reference": _REFERENCE_MF, "paper": _REFERENCE_MF},
            dataset_profiles={
                "amazon-book": {name: {"fit.batch_size": 10240} for name in ("paper", "reference")},
            },
        ),
        Component(
            kind="encoder",
            name="mf-bias",
            factory="collm_mf.encoders:build_mf_bias",
            config=MfBiasConfig,
            summary="Matrix factorisation with user, item and global bias and a small start.",
            gives=gives,
        ),
    ]
