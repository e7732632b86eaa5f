"""The harness's own log lines on stderr while a command works."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from collm.visible import ShownFormatter


@contextmanager
def log_lines(*, debug: bool) -> Iterator[None]:
    """Shows what `collm` and its plugins log while the block runs; other libraries speak up only for warnings.

    Args:
        debug: Whether to show the finest lines, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ShownFormatter("%(message)s"))
    plugins = {name.partition(".")[0] for name in sys.modules if name.startswith("collm_")}
    loggers = [logging.getLogger(name) for name in ("collm", *sorted(plugins))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
