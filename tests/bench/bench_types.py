"""Types of the fixtures here, in a module whose name no other folder has."""

from __future__ import annotations

from collections.abc import Callable

from collm.bench.subject import Subject

OpenSubject = Callable[..., Subject]
