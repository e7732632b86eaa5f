"""A spec that loads, and the problems of one that does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from collm.errors import Problem, SpecError
from collm.spec.model import ResolvedSpec

Load = Callable[..., ResolvedSpec]


def problems(load: Load, text: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError, match=r".") as caught:
        load(text, *overrides)
    return caught.value.problems
