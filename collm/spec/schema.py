"""JSON Schema (draft 2020-12) of specs, suites and studies over every installed component, for editors.

It accepts every file that resolves; rules across sections are left to `collm validate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from collm.component import KINDS, Component
from collm.registry import Registry
from collm.spec.model import COMPONENT_SECTIONS, CORE_SECTIONS, ENCODERS, ENCODERS_DESCRIPTION, NAME_PATTERN, Head
from collm.spec.profiles import PROFILES, component_defaults
from collm.spec.study_section import StudySection

Schema = dict[str, Any]
# Marks the field of a component inside whose name a profile fills, until `_point_to_sections` reads it.
NAME_FILLED = "x-collm-name-filled"


def json_schema(registry: Registry) -> Schema:
    """Returns the schema of a spec or, where the file has `base`, of a suite, with `study` too of a study."""
    components = list(registry.components())
    models: list[type[BaseModel]] = [Head, *CORE_SECTIONS.values(), StudySection]
    models += [component.config for component in components]
    unique = list(dict.fromkeys(models))
    references, shared = models_json_schema([(model, "validation") for model in unique])
    bodies = {model: _body(references[(model, "validation")], shared["$defs"]) for model in unique}
    defs: Schema = dict(shared["$defs"])
    defs |= {_key(component): _component_schema(component, bodies[component.config]) for component in components}
    defs |= {f"section.{kind}": _choice(kind, registry) for kind in KINDS}
    defs["spec"] = _spec_schema(bodies, registry)
    defs["suite"] = _suite_schema(registry)
    defs["study"] = _study_schema(bodies[StudySection])
    _point_to_sections(defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "collm spec, suite or study",
        "if": {"required": ["base"]},
        "then": {
            "if": {"required": ["study"]},
            "then": {"$ref": "#/$defs/study"},
            "else": {"$ref": "#/$defs/suite"},
        },
        "else": {"$ref": "#/$defs/spec"},
        "$defs": defs,
    }


def _body(reference: Mapping[str, Any], defs: Mapping[str, Schema]) -> Schema:
    return defs[reference["$ref"].rpartition("/")[2]]


def _key(component: Component) -> str:
    return f"{component.kind}.{component.name}"


def _component_schema(component: Component, body: Schema) -> Schema:
    """A component's own fields; fields that a profile fills are never required."""
    paths = {path for profile in PROFILES for path in component_defaults(component, profile, {})}
    filled = {path.partition(".")[0] for path in paths}
    properties = {
        field: {**schema, NAME_FILLED: True} if f"{field}.name" in paths else schema
        for field, schema in body["properties"].items()
    }
    name = {**body["properties"]["name"], "const": component.name}
    return {
        **body,
        "title": f"{component.kind} {component.name}",
        "description": component.summary,
        "properties": {**properties, "name": name},
        "required": ["name", *(each for each in body.get("required", ()) if each != "name" and each not in filled)],
    }


def _choice(kind: str, registry: Registry) -> Schema:
    """A section that may hold any component of a kind: the name decides which fields there are."""
    components = [component for component in registry.components() if component.kind == kind]
    if not components:
        # The standard asks for at least one entry of `enum` and `allOf`.
        return {"not": {}, "description": f"No {kind} is installed."}
    return {
        "type": "object",
        "required": ["name"],
        "properties": {"name": _name_schema(components)},
        "allOf": [
            {
                "if": {"type": "object", "properties": {"name": {"const": each.name}}, "required": ["name"]},
                "then": {"$ref": f"#/$defs/{_key(each)}"},
            }
            for each in components
        ],
    }


def _name_schema(components: Sequence[Component]) -> Schema:
    lines = [f"`{each.name}`: {each.summary}" for each in components]
    return {"enum": [each.name for each in components], "description": "\n".join(lines)}


def _spec_schema(bodies: Mapping[type[BaseModel], Schema], registry: Registry) -> Schema:
    properties: Schema = dict(bodies[Head]["properties"])
    for section, description in COMPONENT_SECTIONS.items():
        body = {"$ref": f"#/$defs/section.{section}"}
        required = section == "dataset"
        properties[section] = {"description": description, **(body if required else _or_null(body))}
    several = {"type": "object", "additionalProperties": _or_null({"$ref": "#/$defs/section.encoder"})}
    properties[ENCODERS] = {"description": ENCODERS_DESCRIPTION, **_or_null(several)}
    for section, model in CORE_SECTIONS.items():
        properties[section] = {"description": _first_line(model), **_or_null(_with_metrics(bodies[model], registry))}
    return {
        "type": "object",
        "title": "collm spec",
        "additionalProperties": False,
        "required": ["name", "dataset"],
        "properties": properties,
    }


def _with_metrics(body: Schema, registry: Registry) -> Schema:
    if "metrics" not in body["properties"]:
        return body
    metrics = registry.components("metric")
    texts = [{"const": each.name, "description": each.summary} for each in metrics]
    # Names are lower-case letters, digits and hyphens, which mean nothing else in a pattern.
    forms = [(each, r"(@.+|\(.*\))" if "k" in each.config.model_fields else r"\(.*\)") for each in metrics]
    with_settings = [{"type": "string", "pattern": f"^{each.name}{form}$"} for each, form in forms]
    items = {"items": {"anyOf": [*texts, *with_settings, {"$ref": "#/$defs/section.metric"}]}}
    return {**body, "properties": {**body["properties"], "metrics": {**body["properties"]["metrics"], **items}}}


def _suite_schema(registry: Registry) -> Schema:
    properties: Schema = {
        **_head_schema("Name of the suite."),
        "runs": {"description": "Run name -> overrides.", "additionalProperties": _run_schema(registry)},
        "matrix": {
            "description": "Dotted path -> values, crossed with the runs.",
            "additionalProperties": {"type": "array", "minItems": 1},
        },
        "seeds": {
            "description": "Seeds, crossed with everything.",
            "items": {"type": "integer", "minimum": 0},
            "uniqueItems": True,
        },
        "exclude": {
            "description": "Runs that are left out: full names, or values of run, seed and matrix paths.",
            "items": {"type": ["string", "object"]},
        },
    }
    for field, kind in (("runs", "object"), ("matrix", "object"), ("seeds", "array"), ("exclude", "array")):
        properties[field]["type"] = [kind, "null"]
    return {
        "type": "object",
        "title": "collm suite",
        "additionalProperties": False,
        "required": ["name", "base"],
        "properties": properties,
    }


def _head_schema(name: str) -> Schema:
    """The fields that suites and studies have in common."""
    return {
        "name": {"type": "string", "pattern": NAME_PATTERN, "description": name},
        "base": {
            "description": "A spec's file name, relative to this file, or a spec written out.",
            "anyOf": [{"type": "string"}, {"type": "object"}],
        },
    }


def _study_schema(section: Schema) -> Schema:
    """What is searched is any path of a spec, so only the form of an entry is checked."""
    return {
        "type": "object",
        "title": "collm study",
        "additionalProperties": False,
        "required": ["name", "base", "study"],
        "properties": {
            **_head_schema("Name of the study, also in Optuna."),
            "study": {"description": "What is searched, how, and where trials are kept.", **section},
        },
    }


def _run_schema(registry: Registry) -> Schema:
    """Overrides are partial, so of a component only the name is checked."""
    overrides: Schema = {section: {"type": ["object", "null"]} for section in CORE_SECTIONS}
    for kind, description in COMPONENT_SECTIONS.items():
        components = [component for component in registry.components() if component.kind == kind]
        name = {"name": _name_schema(components)}
        overrides[kind] = {"type": ["object", "null"], "description": description, "properties": name}
    overrides[ENCODERS] = {"type": ["object", "null"], "description": ENCODERS_DESCRIPTION}
    overrides |= {field: {} for field in Head.model_fields if field != "name"}
    dotted: Schema = {f"^({'|'.join(overrides)})\\.": {}}
    return {
        "type": ["object", "null"],
        "description": "Overrides on the base; null removes a section.",
        "properties": overrides,
        "patternProperties": dotted,
        "additionalProperties": False,
    }


def _or_null(body: Schema) -> Schema:
    return {"anyOf": [body, {"type": "null"}]}


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


def _point_to_sections(defs: Schema) -> None:
    """Lets a field made by `component_field` refer to all components of its kind."""
    for schema in [node for body in defs.values() for node in _mappings(body)]:
        kind, name_filled = schema.pop("x-collm-component", None), schema.pop(NAME_FILLED, False)
        schema.pop("x-collm-gives", None)
        if kind is None:
            continue
        optional = any(branch.get("type") == "null" for branch in schema.get("anyOf", ()))
        kept = {key: schema[key] for key in ("description", "default") if key in schema}
        reference: Schema = {"$ref": f"#/$defs/section.{kind}"}
        if name_filled:
            # Which fields there are is then decided by a name that a profile gives, not the file.
            reference = {"type": "object", "if": {"required": ["name"]}, "then": reference}
        schema.clear()
        schema.update(kept | (_or_null(reference) if optional else reference))


def _mappings(value: Any) -> Iterator[Schema]:
    if isinstance(value, dict):
        yield value
        for below in list(value.values()):
            yield from _mappings(below)
    elif isinstance(value, list):
        for below in value:
            yield from _mappings(below)
