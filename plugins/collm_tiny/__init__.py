"""Random models without files (`tiny`, `random-shape`) and the dataset `tiny`, for tests, dry runs and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_tiny.config import RandomShapeConfig, TinyConfig, TinyDataConfig


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbones."""
    return [
        Component(
            kind="backbone",
            name="tiny",
            factory="collm_tiny.backbone:build",
            config=TinyConfig,
            summary="A random Llama of a few thousand parameters: no files, for tests and dry runs.",
        ),
        Component(
            kind="backbone",
            name="random-shape",
            factory="collm_tiny.random_shape:build",
            config=RandomShapeConfig,
            summary="Random weights of a shape that you name, e.g. Vicuna-7B's: for benchmarks.",
        ),
    ]


@hookimpl
def register_datasets() -> Sequence[Component]:
    """Returns the dataset."""
    return [
        Component(
            kind="dataset",
            name="tiny",
            factory="collm_tiny.dataset:build",
            config=TinyDataConfig,
            summary="A few thousand made-up ratings of made-up films: no files, for tests and dry runs.",
        )
    ]
