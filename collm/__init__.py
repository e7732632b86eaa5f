"""collm: an experiment harness for language models with collaborative signals (CoLLM).

`run` runs a spec or a suite, `load_results` reads the numbers of finished runs, `open_run` opens one as a model. They
are loaded when they are first used, so that `import collm` takes a moment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collm.api import CollmError, Result, RunOutcome, RunResults, load_results, open_run, run

__version__ = "0.2.0"
__all__ = ["CollmError", "Result", "RunOutcome", "RunResults", "__version__", "load_results", "open_run", "run"]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used."""
    if name in __all__:
        found = getattr(importlib.import_module("collm.api"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'collm' has no attribute '{name}'; public: {', '.join(__all__)}")


def __dir__() -> list[str]:
    """Returns the public names, those not loaded yet among them."""
    return sorted({*globals(), *__all__})
