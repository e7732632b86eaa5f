"""The stages that a finished run recorded, in place of those that would work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm.errors import RunError
from collm.runs.files import require_whole
from collm.stages.stage import StageResult, StageRunner, Work


class RecordedStages(StageRunner):
    """Gives the stages that a run recorded, and never works."""

    def __init__(self, runs_dir: Path, fingerprints: Mapping[str, str]) -> None:
        """Takes the runs directory and stage -> fingerprint of `results.json`."""
        super().__init__(runs_dir, finished=lambda _: None)
        self._runs_dir, self._fingerprints = runs_dir, fingerprints

    def run(
        self,
        name: str,
        payload: Mapping[str, Any],  # noqa: ARG002
        work: Work,  # noqa: ARG002
        *,
        shared: bool = False,  # noqa: ARG002
        label: str = "",  # noqa: ARG002
    ) -> StageResult:
        """Returns the recorded stage.

        Raises:
            RunError: If the run did not record it, or its folder is gone.
        """
        return self.recorded(name)

    def recorded(self, name: str) -> StageResult:
        """Returns a recorded stage by name."""
        digest = self._fingerprints.get(name)
        if digest is None:
            raise RunError(f"the run recorded no stage '{name}': it is of another version; repeat its `collm run`")
        # The fits of several encoders are recorded as `fit_encoder.NAME`.
        name = name.partition(".")[0]
        if not self._store.is_done(name, digest):
            raise RunError(
                f"{self._store.folder(name, digest)}: missing or unfinished, and the run needs it; "
                "repeat its `collm run`"
            )
        folder = self._store.folder(name, digest)
        require_whole(folder, advice="`collm runs rm` the run, then repeat its `collm run`")
        return self._report(name, digest, time.monotonic(), reused=True)
