"""Where a run departs from the paper: its protocol, its components' settings, the rows that were used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collm.component import KINDS
from collm.errors import UnknownName
from collm.registry import Registry
from collm.runs.records import RunResults
from collm.spec.profiles import CHOICES

PAPER_BACKBONES = ("vicuna-7b", "qwen2-1.5b")
PAPER_ENCODERS = ("mf", "lightgcn", "sasrec", "din", "ctrl-din", "id-tokens", "soft-prompt")
# Section 5.1.3: what is fixed, and the learning rates that are searched.
PAPER_VALUES: Mapping[str, Any] = {
    "prompt.chat": False,
    "tuning.lora.r": 8,
    "tuning.lora.alpha": 16,
    "tuning.lora.dropout": 0.05,
    "tuning.lora.use_rslora": False,
    "tuning.lora.use_dora": False,
    "tuning.loss": "bce",
    "tuning.text.start": None,
    "tuning.text.weight_decay": 1e-3,
    "tuning.collaborative.weight_decay": 1e-3,
}
PAPER_RATES = (1e-2, 1e-3, 1e-4)
# Sections that decide nothing where there is no language model, and those that need vectors in the prompt besides.
LANGUAGE_SECTIONS = ("prompt", "answer", "mapping", "tuning", "select")
WITHOUT_VECTORS = ("none", "text-only")


@dataclass(frozen=True)
class Deviation:
    """One departure.

    Attributes:
        field: Dotted path in the spec, or what differs.
        value: What the run used.
        paper: What the paper used.
    """

    field: str
    value: str
    paper: str


def deviations(spec: Mapping[str, Any], results: RunResults, registry: Registry) -> list[Deviation]:
    """Lists a run's departures from the paper.

    Args:
        spec: The resolved spec as plain data.
        results: Its results.
        registry: Knows the paper's settings of components (their profile `paper`).
    """
    if "ensemble" in spec:
        return []
    return [*_choices(spec), *_values(spec), *_components(spec, registry), *_rows(results)]


def has_biases(found: list[Deviation]) -> bool:
    """Whether the run's encoder has bias terms that the paper's encoder of that name lacks."""
    return any(each.field == "encoder.biases" for each in found)


def _choices(spec: Mapping[str, Any]) -> Iterator[Deviation]:
    names = {str(kind): str((spec.get(kind) or {}).get("name", "")) for kind in KINDS}
    for path, choice in CHOICES.items():
        if not choice.stated or not _decides(path.partition(".")[0], spec):
            continue
        used, paper = _find(spec, path), choice.of("paper", names)
        if used is not ABSENT and used != paper:
            yield Deviation(path, str(used), str(paper))


def _values(spec: Mapping[str, Any]) -> Iterator[Deviation]:
    for path, paper in PAPER_VALUES.items():
        used = _find(spec, path)
        if used is not ABSENT and used != paper and _decides("tuning", spec):
            yield Deviation(path, str(used), str(paper))
    for step in ("text", "collaborative"):
        used = _find(spec, f"tuning.{step}.learning_rate")
        if used is not ABSENT and used not in PAPER_RATES:
            yield Deviation(f"tuning.{step}.learning_rate", str(used), " or ".join(map(str, PAPER_RATES)))


def _components(spec: Mapping[str, Any], registry: Registry) -> Iterator[Deviation]:
    dataset = str((spec.get("dataset") or {}).get("name", ""))
    if several := spec.get("encoders"):
        used = ", ".join(f"{name}: {each['name']}" for name, each in several.items())
        yield Deviation("encoders", used, "one encoder")
    for kind, papers in (("encoder", PAPER_ENCODERS), ("backbone", PAPER_BACKBONES)):
        section = spec.get(kind)
        if not section:
            continue
        name = str(section["name"])
        if name not in papers:
            yield Deviation(f"{kind}.name", name, " or ".join(papers))
            continue
        try:
            component = registry.get(kind, name)  # type: ignore[arg-type]
        except UnknownName:
            continue
        paper = {**component.profiles.get("paper", {}), **component.dataset_profiles.get(dataset, {}).get("paper", {})}
        for path, value in paper.items():
            used = _find(section, path)
            if used is not ABSENT and used != value:
                yield Deviation(f"{kind}.{path}", str(used), str(value))
        if kind == "backbone" and (made := section.get("dtype")) == "float32":
            yield Deviation("backbone.dtype", made, "half precision")


def _rows(results: RunResults) -> Iterator[Deviation]:
    counts, full = results.counts, results.full_counts
    for split in ("train", "valid", "test"):
        if split in counts and split in full and counts[split] != full[split]:
            yield Deviation(f"dataset.limit.{split}", f"{counts[split]:,} rows", f"all {full[split]:,}")
    for stage, facts in results.tuning_steps():
        if "train" in full and facts.rows is not None and facts.rows < full["train"]:
            yield Deviation(f"rows of {stage}", f"{facts.rows:,}", f"all {full['train']:,}")


ABSENT = object()


def _find(values: Mapping[str, Any], path: str) -> Any:
    """Returns the value at a dotted path, `ABSENT` where there is none."""
    found: Any = values
    for key in path.split("."):
        if not isinstance(found, Mapping) or key not in found:
            return ABSENT
        found = found[key]
    return found


def _decides(section: str, spec: Mapping[str, Any]) -> bool:
    """Whether a section has any effect on the run's scores."""
    if section not in LANGUAGE_SECTIONS:
        return True
    if not spec.get("backbone"):
        return False
    strategy = (spec.get("tuning") or {}).get("name")
    if section == "mapping":
        return strategy not in WITHOUT_VECTORS and bool(spec.get("encoder") or spec.get("encoders"))
    return section in ("prompt", "answer") or strategy != "none"
