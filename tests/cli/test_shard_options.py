"""Options of `collm score` that belong to shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.cli.score_shards import ShardOptions
from collm.errors import UsageError

NONE = dict.fromkeys(("launcher", "workers", "cpus", "gpus", "shard_rows", "device", "dtype"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 2}, "--workers: belongs to --launcher local or ray"),
        ({"shard_rows": 2}, "--shard-rows: belongs to"),
        ({"cpus": 2}, "--cpus-per-worker: belongs to"),
        ({"gpus": 0.0}, "--gpus-per-worker: belongs to"),
        ({"launcher": "slurm"}, "--launcher: got 'slurm'; allowed are local, ray, ray:ADDRESS"),
        ({"launcher": "ray:"}, "--launcher: got 'ray:'; allowed are"),
        ({"launcher": "local:2"}, "--launcher: got 'local:2'; allowed are"),
        ({"launcher": "local", "gpus": 1.0}, "--gpus-per-worker: belongs to --launcher ray"),
    ],
)
def test_options_that_do_not_fit_are_refused(given: dict, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        ShardOptions(**(NONE | given)).check(Path("out"))
    assert said in str(refused.value)


def test_shards_are_for_a_folder() -> None:
    assert not ShardOptions(**NONE).check(None)
    options = ShardOptions(**(NONE | {"launcher": "ray:10.0.0.1:6379", "workers": 2}))
    assert options.check(Path("out"))
    with pytest.raises(UsageError, match="name it with -o DIR"):
        options.check(None)
