"""What every component promises whatever its kind, as tests: the record, its config class, its settings."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from collm.component import BuildContext, Component, ComponentConfig, component_kind, is_location, models_in
from collm.contracts.component_check import component_faults
from collm.errors import DataError
from collm.files import folder_files
from collm.registry import Registry, default_registry
from collm.spec.component_config import component_config
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload, dump_config
from collm.spec.profiles import PROFILES

# Larger files are not copied for a check.
_COPIED = 256 * 2**20


class ComponentContract:
    """Base of the contract suites. A method whose name begins with `test_` is one check; its docstring is the promise.

    The suites need no pytest: `collm plugin check` runs the same methods.

    Attributes:
        component: The record under test.
        settings: Fields of its config that the tests set; defaults otherwise.
        registry: Where components inside its config are looked up; None = the installed ones.
        cache_dir: Cache folder that factories get; None = a temporary one.
    """

    component: ClassVar[Component]
    settings: ClassVar[Mapping[str, Any]] = {}
    registry: ClassVar[Registry | None] = None
    cache_dir: ClassVar[Path | None] = None

    # -- what the tests build -------------------------------------------------------------------------------------

    def make_config(self) -> ComponentConfig:
        """Returns the settings under test, as a spec with these fields would give them."""
        return component_config(self.component, to_jsonable_python(self.settings), self.known_components())

    def known_components(self) -> Registry:
        """Returns the components that may appear inside others."""
        return self.registry if self.registry is not None else _installed()

    def context(self) -> BuildContext:
        """Returns what the factory gets."""
        folder = self.cache_dir if self.cache_dir is not None else _scratch_folder()
        return BuildContext(cache_dir=folder, find=self.known_components().get)

    # -- the record and its settings ------------------------------------------------------------------------------

    def test_record_keeps_the_contract(self) -> None:
        """Name, summary, config class and profiles are in order, each field is described, the factory is there."""
        faults = component_faults(self.component)
        expect(not faults, "; ".join(faults))
        expect(callable(self.component.load_factory()), f"factory {self.component.factory} is not callable")

    def test_config_survives_a_round_trip(self) -> None:
        """Settings written as JSON and read again are equal."""
        config = self.make_config()
        plain = {name: value for name, value in dump_config(config, locations=True).items() if name != "name"}
        read = component_config(self.component, plain, self.known_components())
        expect(read == config, f"config changed in a JSON round trip: {config} became {read}")

    def test_nested_settings_keep_their_defaults(self) -> None:
        """A spec that sets one field of a nested section leaves the section's other defaults as they are."""
        faults = list(_nested_faults(self.component.config))
        expect(not faults, "; ".join(faults))

    def test_every_profile_gives_valid_settings(self) -> None:
        """What the component's profiles fill in is accepted by its config class."""
        settings = to_jsonable_python(self.settings)
        for profile in PROFILES:
            if profile in self.component.profiles:
                component_config(self.component, settings, self.known_components(), profile=profile)

    def test_results_belong_to_their_files(self) -> None:
        """Other bytes in a file or folder that the settings name give another fingerprint; another place does not."""
        config = self.make_config()
        for name, info in type(config).model_fields.items():
            place = getattr(config, name)
            if not is_location(info) or not isinstance(place, Path) or not place.exists() or _bytes(place) > _COPIED:
                continue
            with tempfile.TemporaryDirectory(prefix="collm-contract-") as folder:
                copied, changed = (_copy(place, Path(folder) / part) for part in ("copied", "changed"))
                _flip(changed)
                before, moved, after = (
                    self._fingerprint(config.model_copy(update={name: path})) for path in (place, copied, changed)
                )
            expect(
                moved == before,
                f"the fingerprint changes with the place of `{name}`: hash bytes in content_hash, never paths",
            )
            expect(
                after != before,
                f"the fingerprint stays the same when the bytes of `{name}` change: hash them in content_hash, and "
                "name every file that is read in location_field(files=...)",
            )

    def _fingerprint(self, config: ComponentConfig) -> object:
        """Returns what decides results of a component's settings; an error that bytes cause counts as a difference."""
        kind = self.component.kind
        content = ""
        try:
            if kind in ("dataset", "backbone"):
                content = self.component.load_factory()(config, context=self.context()).content_hash()
        except DataError as error:
            content = f"unreadable: {type(error).__name__}"
        contents = {} if kind == "backbone" else config_contents(config, kind)
        return content, contents, config_payload(config)


def _files(place: Path) -> list[Path]:
    return [place / name for name in folder_files(place)] if place.is_dir() else [place]


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in _files(place))


def _copy(place: Path, folder: Path) -> Path:
    # Under the same name: endings say how a file is read.
    folder.mkdir()
    target = folder / place.name
    if place.is_dir():
        shutil.copytree(place, target)
    else:
        shutil.copyfile(place, target)
    return target


def _flip(place: Path) -> None:
    """Changes the last byte but one of each file: the middle of a line, a number, a weight."""
    for path in _files(place):
        content = bytearray(path.read_bytes())
        if content:
            content[max(0, len(content) - 2)] ^= 1
            path.write_bytes(content)


def _nested_faults(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        nested = models_in(field.annotation)
        if component_kind(field.json_schema_extra) is not None or not isinstance(default, BaseModel) or not nested:
            continue
        try:
            empty = nested[0].model_validate({})
        except ValidationError as error:
            missing = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            yield f"config field '{name}' has a default, but `{name}: {{}}` is refused: {missing} need defaults too"
            continue
        lost = [
            f"{key} ({value!r} becomes {getattr(empty, key, None)!r})"
            for key, value in default
            if getattr(empty, key, None) != value
        ]
        if lost:
            yield (
                f"config field '{name}' loses defaults where a spec sets only a part of it: {', '.join(lost)}; "
                f"make a subclass of {nested[0].__name__} with these defaults and annotate the field with it"
            )
        yield from _nested_faults(nested[0])


@functools.cache
def _installed() -> Registry:
    return default_registry()


@functools.cache
def _scratch_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="collm-contract-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def expect(kept: bool, fault: str) -> None:
    """Fails the test with a sentence that names the fault.

    Args:
        kept: Whether the contract is kept.
        fault: What is wrong, what was got and what is asked.

    Raises:
        AssertionError: If the contract is not kept.
    """
    if not kept:
        raise AssertionError(fault)


@contextmanager
def naming_the_step(step: str) -> Iterator[None]:
    """Puts what was being done before the sentence of whatever goes wrong inside.

    Args:
        step: What is done, e.g. "training on a last batch of one row".

    Raises:
        AssertionError: If anything is raised inside; the original error is its cause.
    """
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{step}: {error}") from error
    # The plugin boundary: whatever a stranger's code raises is named with the step, and stays attached as the cause.
    except Exception as error:
        raise AssertionError(f"{step} raised {type(error).__name__}: {error}") from error
