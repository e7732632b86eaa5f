"""Document + registry -> ResolvedSpec, or every problem of the document in one error.

First the structure and the core's sections, then each component's own config by its class, then rules across sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from collm.component import Component, Kind
from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.component_config import ConfigReader, fill_component, fill_section, find_component, section_names
from collm.spec.metric_entries import read_entries, with_names_alone
from collm.spec.model import COMPONENT_SECTIONS, CORE_SECTIONS, ENCODERS, Head, Profile, ResolvedSpec, encoder_path
from collm.spec.node import Node, Place, dotted, from_plain, leaves
from collm.spec.override import apply_overrides
from collm.spec.problems import unknown_key
from collm.spec.ranking import RankingConfig
from collm.spec.read import read_file
from collm.spec.rules import RULES, Draft
from collm.spec.sections import EvaluateConfig

TOP_LEVEL: tuple[str, ...] = (*Head.model_fields, *COMPONENT_SECTIONS, ENCODERS, *CORE_SECTIONS)
# Names of encoders appear in templates, `{user.NAME}`, and in names of tensors.
ENCODER_NAME = re.compile(r"[a-z][a-z0-9_-]*")
SUITE_KEYS = ("base", "runs", "matrix", "seeds", "ensembles", "exclude")


def load_spec(path: Path, overrides: Sequence[str], registry: Registry, *, cwd: Path) -> ResolvedSpec:
    """Reads, overrides and resolves a spec file.

    Args:
        path: The YAML file.
        overrides: `path=value` texts of `--set`.
        registry: What is installed.
        cwd: Folder that relative locations in `overrides` resolve against.

    Raises:
        SpecError: With every problem of the file and the overrides.
    """
    return resolve_document(apply_overrides(read_file(path), overrides, cwd=cwd), registry)


def resolve_document(document: Node, registry: Registry) -> ResolvedSpec:
    """Resolves a located tree.

    Args:
        document: The tree, overrides applied.
        registry: What is installed.

    Raises:
        SpecError: With every problem, in the order of the file.
    """
    return _Resolution(document, registry).run()


class _Resolution:
    """One pass over one document."""

    def __init__(self, document: Node, registry: Registry) -> None:
        self.registry = registry
        self.reader = ConfigReader(registry)
        self.problems = self.reader.problems
        self.root = self._without_removed(document)
        self.configs: dict[str, Any] = {}
        self.components: dict[str, Component] = {}

    def run(self) -> ResolvedSpec:
        self._check_keys()
        head = self._read_head()
        profile, names = self._profile(), section_names(self.root)
        for section, model in CORE_SECTIONS.items():
            node = self.root.fields.get(section) or Node({}, self.root.place)
            if isinstance(node.value, Mapping):
                node = fill_section(section, model, node, profile, names)
            self._put((section,), node)
            self.configs[section] = self.reader.read(model, with_names_alone(node), (section,))
        for section in COMPONENT_SECTIONS:
            self._read_component(cast(Kind, section), profile, names)
        self.configs[ENCODERS] = self._read_encoders(profile, names)
        self._read_metrics()
        self._check_rules()
        if self.problems:
            raise SpecError(in_file_order(self.problems))
        spec = ResolvedSpec(name=head.name, seed=head.seed, profile=head.profile, **self.configs)
        object.__setattr__(spec, "sources", self._sources(spec))
        object.__setattr__(spec, "places", dict(_places(self.root, "")))
        return spec

    def _without_removed(self, document: Node) -> Node:
        if not isinstance(document.value, Mapping):
            message = f"got {document.shown()}, a spec must be a mapping with `name`, `dataset`, ..."
            raise SpecError([document.place.problem(message)])
        sections = {*COMPONENT_SECTIONS, ENCODERS, *CORE_SECTIONS}
        kept = {key: node for key, node in document.fields.items() if node.value is not None or key not in sections}
        return document.with_fields(kept)

    def _check_keys(self) -> None:
        for key, node in self.root.fields.items():
            if key in TOP_LEVEL:
                continue
            message = unknown_key(key, TOP_LEVEL, what="section")
            if key in SUITE_KEYS:
                message = f"'{key}' belongs to a suite, which is run with `collm run` and not used as one spec"
            elif key == "study":
                message = "'study' belongs to a study file, which is run with `collm study`"
            elif "." in key:
                message += "; a dotted name is for --set only, nest the fields in YAML"
            self.problems.append(node.where.problem(message, key))

    def _read_head(self) -> Head:
        fields = {key: node for key, node in self.root.fields.items() if key in Head.model_fields}
        return cast(Head, self.reader.read(Head, self.root.with_fields(fields), ()))

    def _profile(self) -> Profile:
        node = self.root.fields.get("profile")
        return node.value if node is not None and node.value in get_args(Profile) else "recommended"  # type: ignore[return-value]

    def _read_component(self, kind: Kind, profile: Profile, chosen: Mapping[str, str]) -> None:
        self.configs[kind] = None
        node = self.root.fields.get(kind)
        if node is None:
            if kind == "dataset":
                names = ", ".join(self.registry.names("dataset"))
                message = f"required section is missing: add e.g. `dataset: {{name: ...}}`; names: {names or 'none'}"
                self.problems.append(self.root.place.problem(message, kind))
            return
        self.configs[kind] = self._component(kind, (kind,), node, profile, chosen)

    def _read_encoders(self, profile: Profile, chosen: Mapping[str, str]) -> dict[str, Any]:
        """Returns name -> config of the encoders of `encoders`; a name that is removed (null) is left out."""
        node = self.root.fields.get(ENCODERS)
        if node is None:
            return {}
        given = {name: each for name, each in node.fields.items() if each.value is not None}
        if not given:
            message = f"got {node.shown()}, must map names of your choice to encoders: {{cf: {{name: mf-bias}}, ...}}"
            self.problems.append(node.place.problem(message, ENCODERS))
            return {}
        found = {}
        for name, each in given.items():
            if not ENCODER_NAME.fullmatch(name):
                message = f"got '{name}', a name must be lower-case letters, digits, '_' and '-', a letter first"
                self.problems.append(each.where.problem(message, encoder_path(name)))
                continue
            found[name] = self._component("encoder", (ENCODERS, name), each, profile, chosen)
        return found

    def _component(
        self, kind: Kind, path: tuple[str, ...], node: Node, profile: Profile, chosen: Mapping[str, str]
    ) -> Any:
        component = find_component(kind, node, self.registry, path, self.problems)
        if component is None:
            return None
        self.components[dotted(path)] = component
        node = fill_component(component, node, self.registry, profile, chosen)
        self._put(path, node)
        return self.reader.read(component.config, node, path)

    def _read_metrics(self) -> None:
        """Puts the metrics' own settings where the section's check had text alone."""
        evaluate: EvaluateConfig | None = self.configs["evaluate"]
        written = self.root.find(("evaluate", "metrics"))
        if written is None:
            written = from_plain(EvaluateConfig.model_fields["metrics"].default, self.root.place)
        # Read even where another field of the section has a mistake, which must not hide a misspelled metric.
        update: dict[str, Any] = {"metrics": read_entries(written, self.reader, ("evaluate", "metrics"))}
        path = ("evaluate", "ranking", "metrics")
        listed = self.root.find(path) or from_plain(RankingConfig.model_fields["metrics"].default, self.root.place)
        ranking = None if evaluate is None else evaluate.ranking
        if ranking is not None or self.root.find(path) is not None:
            entries = read_entries(listed, self.reader, path, of="lists")
            update["ranking"] = ranking and ranking.model_copy(update={"metrics": entries})
        if evaluate is not None:
            self.configs["evaluate"] = evaluate.model_copy(update=update)

    def _check_rules(self) -> None:
        given = frozenset(key for key in (*COMPONENT_SECTIONS, ENCODERS) if key in self.root.fields)
        draft = Draft(self.root, given, self.components, self.configs["evaluate"], self.registry)
        for check in RULES:
            self.problems.extend(check(draft))

    def _put(self, path: tuple[str, ...], node: Node) -> None:
        section, *below = path
        if below:
            outer = self.root.fields[section]
            node = outer.with_fields({**outer.fields, below[0]: node})
        self.root = self.root.with_fields({**self.root.fields, section: node})

    def _sources(self, spec: ResolvedSpec) -> dict[str, str]:
        """Where each value of the finished spec came from."""
        values = from_plain(spec.plain(), self.root.place)
        sources = {}
        for path, _ in leaves(values):
            node = self.root.find(path)
            sources[dotted(path)] = node.place.origin if node is not None else "default"
        return sources


def _places(node: Node, path: str) -> Iterator[tuple[str, Place]]:
    yield path, node.place
    for key, below in node.fields.items():
        yield from _places(below, f"{path}.{key}" if path else key)
    for number, below in enumerate(node.value if isinstance(node.value, tuple) else ()):
        yield from _places(below, f"{path}[{number}]")


def in_file_order(problems: Iterable[Problem]) -> list[Problem]:
    """Returns the problems sorted by place, without repetition."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.file, problem.line or 0, problem.column or 0))
