"""Using a finished run: scoring pairs, recommending, exporting. `open_run` is where Python code begins."""

from collm.trained.model import TrainedModel
from collm.trained.opened import open_run

__all__ = ["TrainedModel", "open_run"]
