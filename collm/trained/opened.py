"""Opens a finished run: its settings are read again, and its files must be those that it was made with."""

from __future__ import annotations

from pathlib import Path

import yaml

from collm.arguments import wrong_argument
from collm.component import BuildContext
from collm.contracts.backbone import Dtype
from collm.engine.device import DTYPES, choose_device, prepare_machine
from collm.errors import RunError, SpecError, UnknownName
from collm.registry import Registry, default_registry
from collm.runs.files import require_whole
from collm.runs.records import RunResults
from collm.runs.store import RunFolder
from collm.spec.contents import section_contents
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import load_spec
from collm.trained.model import TrainedModel


def open_run(
    path: Path,
    *,
    cache_dir: Path,
    registry: Registry | None = None,
    device: str | None = None,
    threads: int | None = None,
    dtype: Dtype | None = None,
) -> TrainedModel:
    """Opens a finished run for scoring.

    Args:
        path: The run folder; its stages lie beside it in `stages/`.
        cache_dir: User cache, where backbone weights lie.
        registry: Where components come from; default: what is installed.
        device: Device name; None = the first CUDA device, else the processor.
        threads: Processor threads; None = torch's own choice.
        dtype: Number format of the language model's frozen weights; None = the one it was tuned in.

    Returns:
        The model.

    Raises:
        UsageError: If there is no such number format.
        RunError: If the run is not finished, is an ensemble, is of another version, or has no language model whose
            number format could be chosen.
    """
    if dtype is not None and dtype not in tuple(DTYPES):
        raise wrong_argument("dtype", dtype, f"one of: {', '.join(DTYPES)}")
    folder = RunFolder.at(path)
    if not folder.is_done():
        raise RunError(f"{path}: not a finished run; `collm runs` lists them")
    require_whole(path, advice="repeat its `collm run`")
    results = folder.results()
    plain = yaml.safe_load((path / "spec.yaml").read_text(encoding="utf-8"))
    if "ensemble" in plain:
        raise RunError(f"{path}: an ensemble has no model of its own; use its members: {', '.join(plain['ensemble'])}")
    found = registry or default_registry()
    spec = _spec(path, found, results.spec_hash)
    if dtype is not None and spec.backbone is None:
        raise RunError(f"{path}: the run has no language model, so no number format to choose; leave {dtype} out")
    _require_same_files(path, spec, results)
    prepare_machine(threads)
    return TrainedModel(
        path,
        results=results,
        spec=spec,
        registry=found,
        context=BuildContext(cache_dir=cache_dir, find=found.get),
        device=choose_device(device),
        dtype=dtype,
    )


def updates_left_out(model: TrainedModel) -> str:
    """Returns what to say where a model is not the one that all of the run's numbers are of, else empty text.

    Args:
        model: What `open_run` gave.
    """
    if model.spec.evaluate.policy == "frozen":
        return ""
    return (
        f"{model.path}: prequential evaluation updated the model before each window; this is the model that training "
        "made, without those updates"
    )


def _require_same_files(path: Path, spec: ResolvedSpec, results: RunResults) -> None:
    """Refuses files beside the data (weights, vectors) that are not those of the run; its data lies in its stages."""
    recorded = results.inputs
    now = section_contents(spec, "encoder", "backbone", "prompt", "tuning")
    changed = sorted(field for field, digest in now.items() if recorded.get(field, digest) != digest)
    if changed:
        raise RunError(
            f"{path}: the contents of {', '.join(changed)} are not those that the run was made with; put the old files "
            "back, or repeat its `collm run`"
        )


def _spec(path: Path, registry: Registry, spec_hash: str) -> ResolvedSpec:
    file = path / "spec.yaml"
    try:
        spec = load_spec(file, [], registry, cwd=path)
    except (SpecError, UnknownName) as error:
        raise RunError(
            f"{file}: this version cannot read the run's settings; repeat its `collm run`:\n{error}"
        ) from error
    if spec.spec_hash != spec_hash:
        raise RunError(
            f"{file}: its settings hash to {spec.spec_hash}, the run's to {spec_hash}: it is of another version of "
            "collm, or the file was edited; repeat its `collm run`"
        )
    return spec
