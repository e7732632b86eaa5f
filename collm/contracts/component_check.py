"""What every component record must keep, whatever its kind: found at registration, long before it is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from collm.component import KINDS, Component, ComponentConfig, component_kind, models_in
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import GIVES, NEEDS, EncoderConfig
from collm.contracts.metric import MetricConfig
from collm.contracts.prompt import PromptConfig
from collm.contracts.search import SAMPLER_NEEDS, PrunerConfig, SamplerConfig
from collm.contracts.tuning import TuningConfig

# A point comes between digits alone, as in qwen2-1.5b.
COMPONENT_NAME = re.compile(r"[a-z0-9]+((-|(?<=[0-9])\.(?=[0-9]))[a-z0-9]+)*")
MEASURES = frozenset({"rows", "lists"})
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

CONFIG_BASES: Mapping[str, type[ComponentConfig]] = {
    "dataset": DatasetConfig,
    "encoder": EncoderConfig,
    "backbone": BackboneConfig,
    "tuning": TuningConfig,
    "prompt": PromptConfig,
    "metric": MetricConfig,
    "sampler": SamplerConfig,
    "pruner": PrunerConfig,
}


def component_faults(component: Component) -> list[str]:
    """Returns every breach of the component contract, one sentence each; empty where there is none."""
    label = f"{component.kind} '{component.name}'"
    faults = [*_record_faults(component), *_fact_faults(component)]
    base = CONFIG_BASES.get(component.kind, ComponentConfig)
    if not (isinstance(component.config, type) and issubclass(component.config, base)):
        faults.append(f"config {component.config!r} must be a subclass of {base.__name__}")
    else:
        faults.extend(_config_faults(component.config))
        faults.extend(_profile_faults(component))
    return [f"{label}: {fault}" for fault in faults]


def config_field(model: type[BaseModel], dotted: str) -> bool:
    """Whether a dotted path names a field of a config class, through nested models."""
    head, _, rest = dotted.partition(".")
    field = model.model_fields.get(head)
    if field is None:
        return False
    return not rest or any(config_field(nested, rest) for nested in models_in(field.annotation))


def _record_faults(component: Component) -> Iterator[str]:
    if component.kind not in KINDS:
        yield f"unknown kind; kinds: {', '.join(KINDS)}"
    if not COMPONENT_NAME.fullmatch(component.name):
        yield (
            "the name must be lower-case letters and digits with single hyphens between (points inside numbers), "
            "e.g. 'light-gcn'"
        )
    if not component.summary.strip() or "\n" in component.summary:
        yield "the summary must be one non-empty line"
    for role, reference in (("factory", component.factory), ("fetch", component.fetch)):
        if reference is not None and not _REFERENCE.fullmatch(reference):
            yield f"{role} must be 'package.module:function', got '{reference}'"
    if component.fetch_fields and component.fetch is None:
        yield "`fetch_fields` without `fetch`"
    for name in component.fetch_fields:
        if not (isinstance(component.config, type) and name in component.config.model_fields):
            yield f"fetch_fields names '{name}', which is not a field of its config class"


def _fact_faults(component: Component) -> Iterator[str]:
    if not component.measures or not component.measures <= MEASURES:
        yield f"measures must be a non-empty subset of {sorted(MEASURES)}, got {sorted(component.measures)}"
    if component.kind != "encoder":
        if component.gives or component.floor or component.ranking_floor:
            yield "`gives`, `floor` and `ranking_floor` belong to encoders only"
        if component.kind == "sampler" and not component.needs <= set(SAMPLER_NEEDS):
            yield f"needs must be a subset of {sorted(SAMPLER_NEEDS)}, got {sorted(component.needs)}"
        return
    if not component.gives or not component.gives <= GIVES:
        yield f"gives must be a non-empty subset of {sorted(GIVES)}, got {sorted(component.gives)}"
    if len(fills := component.gives - {"scores"}) > 1:
        yield f"gives names {' and '.join(sorted(fills))}; a slot takes one of them"
    if not component.needs <= NEEDS:
        yield f"needs must be a subset of {sorted(NEEDS)}, got {sorted(component.needs)}"
    if (component.floor or component.ranking_floor) and "scores" not in component.gives:
        yield "a floor must give scores"


def _config_faults(config: type[BaseModel]) -> Iterator[str]:
    for model in _models_below(config):
        bare = [name for name, field in model.model_fields.items() if not (field.description or "").strip()]
        if bare:
            yield f"config class {model.__name__} has fields without a description: {', '.join(bare)}"
        if model.model_config.get("extra") != "forbid":
            yield f'config class {model.__name__} must set extra="forbid", so that a misspelled field is an error'


def _models_below(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        if component_kind(field.json_schema_extra) is None:
            for nested in models_in(field.annotation):
                yield from _models_below(nested, seen)


def _profile_faults(component: Component) -> Iterator[str]:
    listed = [component.profiles, *component.dataset_profiles.values()]
    for profile, values in ((name, values) for profiles in listed for name, values in profiles.items()):
        for dotted in values:
            if dotted == "name" or not config_field(component.config, dotted):
                yield f"profile '{profile}' sets '{dotted}', which {component.config.__name__} does not have"
