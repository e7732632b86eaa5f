"""What chooses points and stops trials: the study's sampler and pruner, built from their components."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from collm.component import ComponentConfig, Kind
from collm.errors import CollmError, PluginError, RunError, SpecError
from collm.spec.contents import config_contents
from collm.spec.fingerprint import dump_config
from collm.study.storage import StudyStorage, journal_fault

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from collm.study.check import CheckedStudy


class Search:
    """Builds a study's sampler for each trial, and its pruner."""

    def __init__(self, checked: CheckedStudy) -> None:
        """Takes the checked study."""
        self._checked, self._file = checked, checked.file

    def sampler(self, number: int) -> BaseSampler:
        """Returns the sampler for one trial.

        Each trial number has a seed of its own, so that commands which start together do not draw the same points, and
        the same history gives the same next point everywhere.

        Raises:
            SpecError: If it cannot be built.
        """
        config = self._file.sampler
        seed = trial_seed(config.seed, number)
        built: BaseSampler = self._built("sampler", config, optuna.samplers.BaseSampler, seed=seed)
        return built

    def pruner(self) -> BasePruner:
        """Returns the pruner.

        Raises:
            SpecError: If it cannot be built.
        """
        built: BasePruner = self._built("pruner", self._file.pruner, optuna.pruners.BasePruner)
        return built

    def described(self) -> dict[str, Any]:
        """Returns which sampler and pruner these are, as plain data: settings, code, and digests of files they name."""
        found: dict[str, Any] = {"optuna": optuna.__version__}
        for kind, config in self._parts():
            found[kind] = {
                "settings": dump_config(config, locations=False),
                "code": self._checked.registry.code_version(kind, config.name),
                "files": config_contents(config, kind),
            }
        return found

    @contextlib.contextmanager
    def naming(self, kind: Kind, storage: StudyStorage) -> Iterator[None]:
        """Names the sampler or pruner whose code raises inside; errors of the storage pass."""
        try:
            yield
        except (CollmError, SQLAlchemyError, StorageInternalError, OSError):
            raise
        # The plugin boundary: a stranger's sampler may raise anything.
        except Exception as error:
            if storage.address.kind == "journal" and storage.address.path and journal_fault(storage.address.path):
                raise
            config = self._file.sampler if kind == "sampler" else self._file.pruner
            owner = self._checked.registry.origin(kind, config.name).label()
            reason = storage.address.clean(f"{type(error).__name__}: {error}")
            raise RunError(
                f"{self._file.name}: {kind} '{config.name}', {owner}, failed: {reason}; finished trials are kept: the "
                "same command goes on once it works"
            ) from error

    def _built(self, kind: Kind, config: ComponentConfig, base: type, **more: Any) -> Any:
        factory = self._checked.registry.get(kind, config.name).load_factory()
        try:
            built = factory(config, context=self._checked.context, **more)
            if not isinstance(built, base):
                raise PluginError(f"its factory returned {built!r:.80}, must be an optuna {base.__name__}")
        # The plugin boundary: whatever a stranger's factory raises is reported at the place of its settings.
        except Exception as error:
            known = isinstance(error, CollmError)
            message = str(error) if known else f"{type(error).__name__}: {error}"
            place = self._file.node.nearest((kind,)).place
            problem = place.problem(f"{kind} '{config.name}' cannot be built: {message}", f"study.{kind}")
            raise SpecError([problem]) from error
        return built

    def _parts(self) -> tuple[tuple[Kind, ComponentConfig], ...]:
        return ("sampler", self._file.sampler), ("pruner", self._file.pruner)


def trial_seed(seed: int, number: int) -> int:
    """Returns the seed of one trial's sampler, 32 bits.

    Args:
        seed: The study's.
        number: Number of the trial.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")
