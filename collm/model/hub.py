"""Models of the Hugging Face hub: fetched once into the user cache, or read from a folder that the user names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from collm.component import BuildContext
from collm.contracts.model_folder import HUB_ID, WEIGHTS, check_model_folder, hub_folder
from collm.errors import DataError, RunError, UsageError
from collm.visible import without_passwords

logger = logging.getLogger(__name__)

# Config, tokenizer and model card, which names the licence; no code, and nothing that another framework reads.
_FILES = (
    "README.md",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)
# The first kind that the repository has is taken: many hold the same weights in several.
_WEIGHTS = (
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)


@dataclass(frozen=True)
class HubModel:
    """A model of the hub.

    Attributes:
        component: Name of the backbone, as in `collm fetch NAME`.
        repository: `owner/name` on the hub.
        size_gb: About how much is downloaded, in 10^9 bytes; None where only the hub knows.
        revision: Branch, tag or commit; None = the hub's main branch.
        settings: Field -> value that `collm fetch NAME` needs besides.
    """

    component: str
    repository: str
    size_gb: float | None
    revision: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the model's folder in the cache."""
        return hub_folder(self.repository, self.revision)

    @property
    def size(self) -> str:
        """How much is downloaded, for messages; empty where only the hub knows."""
        return "" if self.size_gb is None else f"about {self.size_gb:g} GB "

    @property
    def command(self) -> str:
        """The command that fetches it."""
        return " ".join([f"collm fetch {self.component}", *(f"--set {name}={v}" for name, v in self.settings.items())])


def fetch_model(model: HubModel, context: BuildContext) -> Path:
    """Returns the model's folder in the cache, downloading it where it is not there yet.

    What a broken download left is kept, and the next one goes on from there.

    Args:
        model: What to fetch.
        context: Where the cache is.

    Raises:
        DataError: If the hub cannot be reached, does not give the model, or the disk cannot take it.
    """
    target = _cached(model, context)
    if target.is_dir():
        return target
    partial = target.with_name(f".{target.name}.partial")
    logger.info("fetching %s (%sfrom the Hugging Face hub)", model.repository, model.size)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        wanted = files_to_fetch(HfApi().list_repo_files(model.repository, revision=model.revision))
        snapshot_download(model.repository, revision=model.revision, local_dir=partial, allow_patterns=wanted)
        check_model_folder(partial)
        partial.rename(target)
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise DataError(
            f"{model.repository}: the hub does not give this model without permission ({_first_line(error)}); accept "
            f"its licence there and log in with 'hf auth login', or {_by_hand(model)}"
        ) from error
    except (OSError, ValueError) as error:
        if target.is_dir():
            return target
        raise DataError(
            f"{model.repository}: cannot be fetched from the Hugging Face hub ({_first_line(error)}); what has arrived "
            f"is kept, so try again, or {_by_hand(model)}"
        ) from error
    return target


def model_folder(model: HubModel, path: Path | None, context: BuildContext) -> Path:
    """Returns the folder to read a model from; nothing is downloaded.

    Args:
        model: The model of the hub.
        path: The user's own folder; None = what `collm fetch` left in the cache.
        context: Where the cache is.

    Raises:
        DataError: If there is neither.
    """
    if path is not None:
        return path
    target = _cached(model, context)
    if not target.is_dir():
        raise DataError(
            f"backbone '{model.component}': its weights are not on this machine; run '{model.command}' "
            f"({model.size}from the Hugging Face hub), or {_by_hand(model)}"
        )
    return target


def files_to_fetch(names: Sequence[str]) -> list[str]:
    """Chooses files of a repository: config, tokenizer, and the weights in one format, safetensors where there are any.

    Args:
        names: All files of the repository.

    Raises:
        ValueError: If it has no weights in either format.
    """
    for patterns in _WEIGHTS:
        if any(fnmatch(name, patterns[0]) for name in names):
            return [name for name in names if any(fnmatch(name, pattern) for pattern in (*_FILES, *patterns))]
    raise ValueError("the repository holds no model*.safetensors and no pytorch_model*.bin")


def check_repository(name: str) -> None:
    """Accepts the name of a repository.

    Raises:
        UsageError: If it is not `owner/name`.
    """
    if not HUB_ID.fullmatch(name):
        raise UsageError(f"'{name}': not the name of a repository of the hub, which is OWNER/NAME")


def push_folder(folder: Path, repository: str, *, public: bool) -> str:
    """Uploads a folder to a model repository of the hub, which is made where there is none.

    Args:
        folder: The folder.
        repository: `owner/name`.
        public: Whether a repository that is made here can be read by everybody.

    Returns:
        Address of the commit.

    Raises:
        RunError: If the hub refuses or cannot be reached.
    """
    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export of a collm run")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise RunError(
            f"{repository}: the hub did not take {folder} ({without_passwords(_first_line(error))}); the folder is "
            "whole: log in with 'hf auth login', or check the name, and push it with 'hf upload'"
        ) from error
    return str(commit.commit_url)


def _cached(model: HubModel, context: BuildContext) -> Path:
    return context.cache_dir / WEIGHTS / model.folder


def _by_hand(model: HubModel) -> str:
    spec = f"backbone: {{name: {model.component}, path: FOLDER}}"
    return f"put a copy of {model.repository} into a folder and name it: {spec}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
