"""What a spec names outside of itself, looked at before anything starts: places, model folders, LoRA names, headers."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from collm.component import BuildContext, ComponentConfig
from collm.contracts.adapter_folder import base_fault, lora_faults, read_adapter
from collm.contracts.backbone import BackboneConfig
from collm.contracts.model_folder import WEIGHTS
from collm.contracts.tuning import AdapterStepConfig, LoraConfig, TuningConfig
from collm.errors import DataError, Problem
from collm.prompt.template import answer_fault, include_fault, slot_faults, template_faults
from collm.registry import Registry
from collm.spec.contents import spec_locations
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import in_file_order

_SHOWN = 12
# As a path an address has one slash.
_ADDRESS = re.compile(r"(?:^|/)(https?|s3|gs|az|hf|ftp):/")


def look_around(specs: Iterable[ResolvedSpec], registry: Registry, context: BuildContext) -> list[Problem]:
    """Returns what is wrong with the files that specs name, each at its place in the YAML file.

    Names and headers are read, no weights and no rows beyond the first; torch is not needed.

    Args:
        specs: The resolved specs of one file.
        registry: Where their components come from.
        context: What components are built with.
    """
    eyes = _Eyes(registry, context)
    return in_file_order(problem for spec in specs for problem in eyes.problems(spec))


class _Eyes:
    """Looks at each component of a suite's many runs once."""

    def __init__(self, registry: Registry, context: BuildContext) -> None:
        self._registry, self._context = registry, context
        self._seen: dict[str, list[tuple[str, str]]] = {}

    def problems(self, spec: ResolvedSpec) -> Iterator[Problem]:
        faults: dict[str, str] = {}
        try:
            spec = _with_weights(spec, self._context)
        except DataError as error:
            faults["backbone.checkpoint"] = str(error)
        for path, _, config in spec.components():
            faults |= dict(self._once(f"{path} {config!r}", functools.partial(_own_look, config, path)))
        for number, entry in enumerate(spec.evaluate.metrics):
            if not isinstance(entry, str):
                faults |= dict(_own_look(entry, f"evaluate.metrics[{number}]"))
        for each in spec_locations(spec, self._registry):
            if each.is_own:
                continue
            for _, message in self._once(f"path {each.path}", functools.partial(_missing, each.path)):
                faults.setdefault(each.field, message)
        if not any(field.startswith("backbone.") for field in faults):
            faults |= dict(self._once(f"lora {spec.backbone!r} {spec.tuning!r}", lambda: list(_lora_faults(spec))))
        if spec.backbone is not None and not any(field.startswith("prompt.") for field in faults):
            what = f"prompt {spec.prompt!r} {spec.backbone!r} {spec.all_encoders!r} {spec.tuning!r} {spec.history!r}"
            faults |= dict(self._once(what, lambda: [*self._prompt_faults(spec), *self._tuning_faults(spec)]))
        if not any(field.startswith("dataset.") for field in faults):
            faults |= dict(self._once(f"data {spec.dataset!r}", lambda: self._dataset_faults(spec)))
        yield from (spec.place(field).problem(message, field) for field, message in faults.items())

    def _once(self, what: str, look: Callable[[], list[tuple[str, str]]]) -> list[tuple[str, str]]:
        if what not in self._seen:
            self._seen[what] = look()
        return self._seen[what]

    def _prompt_faults(self, spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
        """Builds the template, and compares its answer words with those that the backbone reads."""
        if spec.prompt is None or spec.backbone is None:
            return
        whole = self._registry.get("prompt", spec.prompt.name).load_factory()(spec.prompt)
        template = whole.under(spec.history.include)
        faults = template_faults(whole) or [
            *slot_faults(template, tuple(spec.all_encoders)),
            include_fault(template, spec.history.include),
        ]
        if (words := spec.backbone.answer_words()) is not None:
            faults.append(answer_fault(template, words))
        if said := "; ".join(fault for fault in faults if fault):
            yield "prompt", said
        if spec.prompt.chat and (said := spec.backbone.chat_fault()):
            yield "prompt.chat", f"{said}; set it to false, or use a model that was trained for chats"

    def _tuning_faults(self, spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
        """Compares the parts that a strategy trains with what the encoders give: words need no mapping."""
        if spec.tuning is None or not spec.all_encoders:
            return
        words = ["words" in self._registry.get("encoder", each.name).gives for each in spec.all_encoders.values()]
        build = self._registry.get("tuning", spec.tuning.name).load_factory()
        names = ", ".join(each.name for each in spec.all_encoders.values())
        for step in build(spec.tuning).plan():
            maps = not {"projector", "encoder"}.isdisjoint(step.groups)
            if step.variant == "hybrid" and maps and all(words):
                yield (
                    "tuning.name",
                    f"step '{step.name}' of '{spec.tuning.name}' trains a mapping, but {names} writes words into the "
                    "prompt and has no vectors to map; use a strategy that trains LoRA on them (words, words-once)",
                )
            if step.variant == "hybrid" and not maps and not all(words):
                yield (
                    "tuning.name",
                    f"step '{step.name}' of '{spec.tuning.name}' has no mapping for the vectors of {names}; use a "
                    "strategy that has one (default, t1, t2, t3)",
                )

    def _dataset_faults(self, spec: ResolvedSpec) -> list[tuple[str, str]]:
        """Asks a dataset that can look at its files' headers to do so."""
        if not any(each.field.startswith("dataset.") for each in spec_locations(spec, self._registry)):
            return []
        try:
            build = self._registry.get("dataset", spec.dataset.name).load_factory()
            look = getattr(build(spec.dataset, context=self._context), "look", None)
            if look is not None:
                look()
        except DataError as error:
            return [("dataset", str(error))]
        return []


def _with_weights(spec: ResolvedSpec, context: BuildContext) -> ResolvedSpec:
    """Returns the spec with the fetched folder as its backbone's path, where the backbone says where that is.

    Raises:
        DataError: If it was not fetched.
    """
    if spec.backbone is None or (fetched := spec.backbone.fetched_folder()) is None:
        return spec
    name, command = fetched
    folder = context.cache_dir / WEIGHTS / name
    if not folder.is_dir():
        raise DataError(f"its weights are not on this machine: run '{command}', or give a copy in backbone.path")
    return replace(spec, backbone=spec.backbone.model_copy(update={"path": folder}))


def _own_look(config: ComponentConfig, at: str) -> list[tuple[str, str]]:
    """Asks a component's settings, and those of the components that its fields hold."""
    found = [(f"{at}.{field}", message) for field, message in config.look()]
    for name in type(config).model_fields:
        inner = getattr(config, name)
        if isinstance(inner, ComponentConfig):
            found += _own_look(inner, f"{at}.{name}")
    return found


def _missing(path: Path) -> list[tuple[str, str]]:
    message = _what_is_missing(path)
    return [("", message)] if message else []


def _what_is_missing(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        if found := _ADDRESS.search(str(path)):
            return f"'{found[1]}://...' is an address; this field takes a file or folder on this machine"
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"'{path}' cannot be read ({error.strerror})"
        where = "a relative path starts at the YAML file's folder, with --set at the working directory"
        return f"'{path}': no such file or folder{_nearest(path)}; {where}"
    except ValueError as error:
        return f"{str(path)!r} cannot be a path ({error})"
    return ""


def _nearest(path: Path) -> str:
    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        return f" (the folder '{path.parent}' does not exist either)"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean '{path.with_name(close[0])}'?)" if close else ""


def _lora_faults(spec: ResolvedSpec) -> Iterator[tuple[str, str]]:
    """Compares names of LoRA targets, and adapters that are begun from, with the backbone's modules."""
    if spec.backbone is None or not isinstance(spec.tuning, TuningConfig):
        return
    for name in type(spec.tuning).model_fields:
        settings = getattr(spec.tuning, name)
        if isinstance(settings, AdapterStepConfig) and settings.start is not None:
            yield from _adapter_faults(f"tuning.{name}.start", settings.start, spec.backbone, spec.tuning.lora)
    wanted = spec.tuning.lora.target_modules
    if not isinstance(wanted, tuple) or (modules := spec.backbone.modules()) is None:
        return
    for number, name in enumerate(wanted):
        if not any(each == name or each.endswith(f".{name}") for each in modules):
            yield f"tuning.lora.target_modules[{number}]", _unknown_module(name, sorted(modules))


def _adapter_faults(field: str, folder: Path, backbone: BackboneConfig, lora: LoraConfig) -> Iterator[tuple[str, str]]:
    try:
        adapter = read_adapter(folder)
        yield from ((f"tuning.lora.{name}", message) for name, message in lora_faults(adapter, lora))
        shapes = backbone.weight_shapes()
    except DataError as error:
        yield field, str(error)
        return
    checkpoint = getattr(backbone, "checkpoint", None)
    if shapes is not None and (said := base_fault(adapter, shapes, checkpoint)):
        yield field, said


def _unknown_module(name: str, modules: Sequence[str]) -> str:
    last = sorted({each.rpartition(".")[2] for each in modules})
    close = difflib.get_close_matches(name, last, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    shown = ", ".join(last[:_SHOWN]) + (", ..." if len(last) > _SHOWN else "")
    return f"the backbone has no module '{name}'{hint}; its modules: {shown}"
