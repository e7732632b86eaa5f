"""The model card of an export: data, protocol, numbers with intervals, use, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

import collm
from collm.contracts.backbone import BackboneConfig
from collm.contracts.model_folder import HUB_ID
from collm.runs.records import MetricRecord, RunResults
from collm.trained.model import TrainedModel


@dataclass(frozen=True)
class CardRow:
    """One method of a table, with a cell per metric."""

    method: str
    cells: list[str]


@dataclass(frozen=True)
class CardTable:
    """Metrics of one slice of a split."""

    title: str
    metrics: list[str]
    rows: list[CardRow]


@dataclass(frozen=True)
class ScriptCheck:
    """How `score.py` compares with the run.

    Attributes:
        rows: Rows that both scored.
        gap: Largest difference of probabilities.
        fault: Why the script is left out; empty where it is not.
    """

    rows: int
    gap: float
    fault: str


def hub_name(backbone: BackboneConfig) -> str:
    """Returns what the hub calls the model of a backbone; empty where the settings name a folder, or nothing."""
    base = backbone.base_name()
    return base if HUB_ID.fullmatch(base) else ""


def model_card(model: TrainedModel, check: ScriptCheck, *, per_row: list[str]) -> str:
    """Returns the text of an export's README.md.

    Args:
        model: The run.
        check: How `score.py` compares with it.
        per_row: Slots whose vectors depend on the row.
    """
    spec, results = model.spec, model.results
    assert spec.backbone is not None and spec.tuning is not None
    base = hub_name(spec.backbone)
    values: dict[str, Any] = {
        "name": spec.name,
        "base_model": base,
        "base": f"`{base}`" if base else f"the weights of backbone `{spec.backbone.name}`",
        "licence": spec.backbone.licence(),
        "what": _what(model),
        "version": collm.__version__,
        "run": model.path.name,
        "dataset": spec.dataset.name,
        "counts": _counts(results),
        "visibility": results.protocol.visibility,
        "history_items": spec.history.max_items,
        "warm": spec.slices.warm,
        "cold": spec.slices.cold,
        "notes": results.notes,
        "tables": _tables(results),
        "script_fault": check.fault,
        "script_gap": f"{check.gap:.2g}",
        "script_rows": check.rows,
        "per_row": ", ".join(f"`{name}`" for name in per_row),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("collm.trained"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template("model_card.md.j2").render(values)


def _what(model: TrainedModel) -> str:
    spec = model.spec
    named = [f"{config.name} ({name})" if name else config.name for name, config in spec.all_encoders.items()]
    strategy = f"tuned with the strategy {spec.tuning.name}" if spec.tuning else "not tuned"
    return f"{strategy}, {'with slots for ' + ' and '.join(named) if named else 'from titles alone'}"


def _counts(results: RunResults) -> str:
    counts = results.counts
    rows = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "valid", "test") if split in counts)
    return f"{rows} rows of {counts.get('users', 0):,} users and {counts.get('items', 0):,} items"


def _tables(results: RunResults) -> list[CardTable]:
    found = []
    for split, slices in results.metrics.items():
        for name, metrics in slices.items():
            floors = results.floors.get(split, {}).get(name, {})
            rows = [CardRow(floor, _cells(metrics, values)) for floor, values in floors.items()]
            rows.append(CardRow(f"**{results.run}**", _cells(metrics, metrics)))
            n = max((metric.n for metric in metrics.values()), default=0)
            found.append(CardTable(f"{split}, {name} rows (n at most {n:,})", list(metrics), rows))
    return found


def _cells(names: Mapping[str, MetricRecord], values: Mapping[str, MetricRecord]) -> list[str]:
    return [_cell(values.get(name)) for name in names]


def _cell(metric: MetricRecord | None) -> str:
    if metric is None or metric.value is None:
        return "none" if metric is None else metric.reason or "none"
    interval = "" if metric.low is None or metric.high is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
    return f"{metric.value:.4f}{interval}"
