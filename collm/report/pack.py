"""Finished runs as one zip that goes with a paper: specs, results, scores, environment, the report; weights if asked.

The same runs give the same bytes: names are sorted, and no time of packing appears anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import collm
from collm.errors import RunError
from collm.files import folder_files, replacing
from collm.report.collect import Collected, ReportRun, read_run
from collm.report.packed import MANIFEST, RUNS
from collm.runs.files import DONE, damage, listed_files
from collm.runs.records import TRAINING, kind_of
from collm.runs.store import RUN_FILES, STAGES, StageStore

README = "README.md"
# Files that are compressed already; compressing weights takes long and saves little.
_STORED = (".parquet", ".safetensors")
_CHUNK_BYTES = 1 << 20

# Returns name -> text of the pages that go with staged runs, which lie in a folder.
Pages = Callable[[Collected, Path], Mapping[str, str]]


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        n_runs: Number of runs.
        n_bytes: Size of the zip.
        sha256: Hex digest of the zip.
        local_paths: Examples of places of this machine that appear in the packed specs and command lines.
    """

    n_runs: int
    n_bytes: int
    sha256: str
    local_paths: tuple[str, ...]


def pack(collected: Collected, output: Path, scratch: Path, *, pages: Pages, weights: bool) -> Packed:
    """Writes runs as one zip; it appears whole or not at all.

    Args:
        collected: The runs.
        output: The zip; one that is there is replaced.
        scratch: Empty folder for copies of the runs' own files, which are checked before they are packed.
        pages: Makes the report from these copies.
        weights: Whether the stages that trained (fitted encoders, tuning steps) are packed too.

    Raises:
        RunError: If a run is missing, not finished or damaged, two have one name, or the zip cannot be written.
    """
    if collected.missing:
        causes = "; ".join(f"{each.method} (seed {each.seed}): {each.cause}" for each in collected.missing)
        raise RunError(f"not finished: {causes}. Run them first, or name those that are to be packed with --only")
    staged = _staged(collected, scratch)
    texts = {README: _readme(staged, weights), **pages(staged, scratch)}
    sources: dict[str, Path | bytes] = {name: text.encode("utf-8") for name, text in texts.items()}
    for run in staged.runs:
        sources |= {f"{RUNS}/{run.path.name}/{path.name}": path for path in run.path.iterdir()}
    if weights:
        for run in collected.runs:
            sources |= dict(_training_stages(run))
    with replacing(output) as temporary:
        _write(temporary, staged, dict(sorted(sources.items())), weights)
        content_hash = _digest_of(temporary)
        size = temporary.stat().st_size
    return Packed(len(staged.runs), size, content_hash, tuple(_local_paths(staged.runs)))


def _staged(collected: Collected, scratch: Path) -> Collected:
    """Copies the runs' own files and reads the copies: a run that changes meanwhile is seen as damaged."""
    staged: dict[str, ReportRun] = {}
    departures = {}
    for run in collected.runs:
        name = run.path.resolve().name
        if name in staged:
            raise RunError(
                f"{run.path}: another run is called '{name}', with other results: pack them apart, or rename a folder"
            )
        copy = scratch / RUNS / name
        copy.mkdir(parents=True)
        for file in (*RUN_FILES, DONE):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(run.path / file, copy / file)
        try:
            read = read_run(copy)
        except RunError as error:
            raise RunError(str(error).replace(str(copy), str(run.place))) from error
        staged[name] = replace(read, method=run.method, seed=run.seed, place=Path(RUNS) / name)
        departures[copy] = collected.departures[run.path]
    return replace(collected, runs=tuple(staged.values()), departures=departures)


def _training_stages(run: ReportRun) -> Iterator[tuple[str, Path]]:
    """Yields name in the zip and place of every file of the stages that trained a run."""
    for name, fingerprint in run.results.stages.items():
        # The fits of several encoders are recorded as `fit_encoder.NAME`.
        stage = name.partition(".")[0]
        if kind_of(stage) not in TRAINING:
            continue
        folder = run.path.resolve().parent / STAGES / f"{stage}-{fingerprint}"
        if not StageStore(folder.parent.parent).is_done(stage, fingerprint):
            raise RunError(f"{folder}: missing or unfinished; pack without --weights, or repeat the `collm run`")
        if found := damage(folder):
            raise RunError(f"{found}; repeat the `collm run`")
        listed = listed_files(folder)
        for file in folder_files(folder) if listed is None else (*listed, DONE):
            yield f"{RUNS}/{STAGES}/{folder.name}/{file}", folder / file


def _write(path: Path, staged: Collected, sources: Mapping[str, Path | bytes], weights: bool) -> None:
    files: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in sources.items():
            files[name] = _add(archive, name, source)
        manifest = {
            "schema": 1,
            "collm": collm.__version__,
            "title": staged.title,
            "weights": weights,
            "notes": list(staged.notes),
            "runs": [{"folder": run.path.name, "method": run.method, "seed": run.seed} for run in staged.runs],
            "files": files,
        }
        _add(archive, MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=True) + "\n").encode())


def _add(archive: zipfile.ZipFile, name: str, source: Path | bytes) -> dict[str, Any]:
    """Adds a file and returns its size and digest as they were written."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
    entry.file_size = len(source) if isinstance(source, bytes) else source.stat().st_size
    digest, size = hashlib.sha256(), 0
    opened: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with opened as stream, archive.open(entry, "w") as sink:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            sink.write(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def _digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _local_paths(runs: Sequence[ReportRun]) -> Iterator[str]:
    """Yields the places of this machine that settings and command lines name, each once, as `dataset.path: ...`."""
    seen: set[str] = set()
    for run in runs:
        words = run.environment.get("command", [])
        leaves = [*_texts(run.spec, ""), *(("command", word.rpartition("=")[2]) for word in words)]
        for field, text in leaves:
            if text.startswith(("/", "~/")) and text not in seen:
                seen.add(text)
                yield f"{field}: {text}"


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, path)
    elif isinstance(value, str):
        yield path, value


def _readme(staged: Collected, weights: bool) -> str:
    rows = "\n".join(f"| `{RUNS}/{run.path.name}` | {run.method} | {run.seed} |" for run in staged.runs)
    trained = f"\n| `{RUNS}/{STAGES}/` | fitted encoders and tuning steps of the runs |" if weights else ""
    return f"""# {staged.title}

Finished runs, packed by collm {collm.__version__}. `collm report FILE.zip` compares every file that it reads with
`{MANIFEST}` and shows the tables; of the unpacked folder it does the same.

| run | method | seed |
|---|---|---|
{rows}

| file | content |
|---|---|
| `report.html`, `report.md`, `report.csv` | the report, if it was packed |
| `{MANIFEST}` | sizes and SHA-256 digests of all files |
| `{RUNS}/*/spec.yaml` | the complete settings; `collm run` of it repeats the run on the same data |
| `{RUNS}/*/environment.json` | command, commits, versions, devices, digests of data and weights |
| `{RUNS}/*/results.json` | metrics with intervals, floors, times, notes |
| `{RUNS}/*/scores.parquet`, `floors.parquet` | every scored row: ids, label, logit, score, slices; the floors' scores |
| `{RUNS}/*/events.jsonl`, `done` | what happened; the list of a run's files |{trained}
"""
