"""Entries of `evaluate.metrics`: `name`, `name@k`, `name(field=value)`, or a mapping; each has one label."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from collm.component import Component
from collm.contracts.metric import MetricConfig, metric_label
from collm.errors import SpecError, UnknownName
from collm.registry import Registry
from collm.spec.component_config import ConfigReader, find_component
from collm.spec.node import Node, Path_, Place, dotted, from_plain

MetricEntry = str | MetricConfig
_TEXT = re.compile(r"(?P<name>[^@(]*)(?:@(?P<k>.*)|\((?P<fields>.*)\))?", re.DOTALL)
_FIELD = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*")
# A value without quotes, up to the next comma.
_WORD = re.compile(r"[^,\"\[\]{}()]+(?=,|$)")
# Commas that are not within the brackets of an entry.
_BETWEEN = re.compile(r",(?![^()]*\))")


def parse_metric(text: str) -> tuple[str, dict[str, Any]]:
    """Splits `name`, `name@k` and `name(field=value, ...)` into the name and the settings.

    Values are JSON, or words without quotes.

    Raises:
        ValueError: If the text has none of these forms; says which they are.
    """
    match = _TEXT.fullmatch(text)
    if match is None or not match["name"]:
        raise ValueError(f"got '{text}', an entry is NAME, NAME@K, NAME(FIELD=VALUE, ...) or a mapping with `name`")
    if match["k"] is not None:
        return match["name"], {"k": _scalar(match["k"])}
    return match["name"], _settings(match["fields"] or "", text)


def _settings(rest: str, text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    while rest.strip():
        field = _FIELD.match(rest)
        if field is None or field["name"] in settings:
            raise ValueError(f"got '{text}', the brackets hold FIELD=VALUE, separated by commas, each field once")
        rest = rest[field.end() :]
        if word := _WORD.match(rest):
            value, end = _scalar(word[0].strip()), word.end()
        else:
            try:
                value, end = json.JSONDecoder().raw_decode(rest)
            except ValueError as error:
                raise ValueError(f"got '{text}', the value of {field['name']} is neither a word nor JSON") from error
        settings[field["name"]] = value
        rest = rest[end:].lstrip()
        if rest and not rest.startswith(","):
            raise ValueError(f"got '{text}', after the value of {field['name']} a comma or the end is expected")
        rest = rest[1:]
    return settings


def _scalar(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def split_metrics(text: str) -> list[str]:
    """Splits `auc, ndcg@10, fbeta(beta=2, mode=x)` at the commas between entries."""
    return [each.strip() for each in _BETWEEN.split(text)]


def entry_name(entry: MetricEntry) -> str:
    """Returns the component's name of an entry."""
    return parse_metric(entry)[0] if isinstance(entry, str) else entry.name


def entry_label(entry: MetricEntry) -> str:
    """Returns what an entry of a resolved spec is called in results; such an entry is a plain name or settings."""
    return entry if isinstance(entry, str) else metric_label(entry)


def entry_config(entry: MetricEntry | Mapping[str, Any], registry: Registry) -> MetricConfig:
    """Returns the settings of an entry.

    Args:
        entry: An entry of a resolved spec, a text as a user writes it, or a mapping as `spec.yaml` of a run holds it.
        registry: Where metrics are looked up.

    Raises:
        SpecError: If there is no such metric, or it does not take the settings.
    """
    if isinstance(entry, MetricConfig):
        return entry
    reader = ConfigReader(registry)
    config = read_entry(from_plain(entry, Place("metrics", origin="metrics")), reader, ())
    if config is None:
        raise SpecError(reader.problems)
    return config


def read_entry(node: Node, reader: ConfigReader, path: Path_) -> MetricConfig | None:
    """Reads one entry; None where it has a problem, which the reader then holds.

    Args:
        node: A text or a mapping.
        reader: Validates and collects problems.
        path: Path of the entry in the spec.
    """
    if not isinstance(node.value, str):
        component = find_component("metric", node, reader.registry, path, reader.problems)
        return None if component is None else _read(component, node, reader, path)
    try:
        name, settings = parse_metric(node.value)
        component = reader.registry.get("metric", name)
        _check_k(component, node.value)
    except (ValueError, UnknownName) as error:
        message = error.problems[0].message if isinstance(error, UnknownName) else str(error)
        reader.problems.append(node.place.problem(message, dotted(path)))
        return None
    return _read(component, from_plain({"name": name, **settings}, node.place), reader, path)


def _read(component: Component, node: Node, reader: ConfigReader, path: Path_) -> MetricConfig | None:
    config: Any = None
    if set(node.fields) == {"name"}:
        # Defaults need no reading; where a field has none, the reader says so.
        with contextlib.suppress(ValidationError):
            config = component.config(name=component.name)
    if config is None:
        config = reader.read(component.config, node, path)
    found: MetricConfig | None = config
    return found


def _check_k(component: Component, text: str) -> None:
    fields = [name for name in component.config.model_fields if name != "name"]
    if "@" in text.partition("(")[0] and "k" not in fields:
        takes = f"its fields are {', '.join(fields)}" if fields else f"it takes no settings: write {component.name}"
        raise ValueError(f"got '{text}', metric '{component.name}' has no field k, which @ sets; {takes}")


def read_entries(node: Node, reader: ConfigReader, path: Path_, *, of: str = "rows") -> tuple[MetricEntry, ...]:
    """Reads a list of entries.

    Args:
        node: The list; items that are neither text nor mappings are left to the section's own check.
        reader: Validates and collects problems.
        path: Path of the list in the spec.
        of: What the metrics must measure: `rows` or `lists`.

    Returns:
        The name of each metric whose settings are all defaults, the settings of the others, a text of any kind where
        there is a problem.
    """
    entries: list[MetricEntry] = []
    for place, item in enumerate(node.value if isinstance(node.value, tuple) else ()):
        config = read_entry(item, reader, (*path, place)) if isinstance(item.value, str | Mapping) else None
        if config is not None and of not in reader.registry.get("metric", config.name).measures:
            reader.problems.append(
                item.place.problem(_elsewhere(config.name, of, reader.registry), dotted((*path, place)))
            )
        if config is None:
            entries.append(item.value if isinstance(item.value, str) else f"entry {place}")
        else:
            entries.append(config.name if metric_label(config) == config.name else config)
    return tuple(entries)


def _elsewhere(name: str, of: str, registry: Registry) -> str:
    """Says that a metric measures something else than the list that it appears in, and which metrics belong there."""
    fitting = ", ".join(each.name for each in registry.components("metric") if of in each.measures)
    what = {"rows": "labelled rows", "lists": "ranked candidates"}[of]
    other = {"rows": "evaluate.ranking.metrics", "lists": "evaluate.metrics"}[of]
    return f"got '{name}', which does not measure {what}: put it under {other}; metrics of {what}: {fitting}"


def with_names_alone(section: Node) -> Node:
    """Returns the section `evaluate` with each mapping among its metrics as a text, for the section's own check."""
    if (ranking := section.fields.get("ranking")) is not None and ranking.fields:
        section = section.with_fields({**section.fields, "ranking": with_names_alone(ranking)})
    metrics = section.fields.get("metrics")
    if metrics is None or not isinstance(metrics.value, tuple):
        return section
    items = tuple(Node("", each.place) if isinstance(each.value, Mapping) else each for each in metrics.value)
    return section.with_fields({**section.fields, "metrics": Node(items, metrics.place, metrics.key_place)})


def chosen_entries(texts: Iterable[str], written: Sequence[Any], registry: Registry) -> list[MetricConfig]:
    """Returns the settings of metrics that are asked for by their labels.

    Args:
        texts: Labels, or texts as a user writes them.
        written: `evaluate.metrics` of runs as plain data; an entry of that label is taken first, since a label does not
            tell where a file lies.
        registry: Where metrics are looked up.

    Raises:
        SpecError: If there is no such metric, or it does not take the settings.
    """
    with_settings = [entry_config(each, registry) for each in written if isinstance(each, Mapping)]
    known = {metric_label(config): config for config in with_settings}
    return [known.get(text) or entry_config(text, registry) for text in texts]
