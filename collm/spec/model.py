"""What a spec is once it is resolved: the core's own sections, and the whole with every value filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic import (
    Field,
)

from collm.component import ComponentConfig, Kind
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig
from collm.contracts.prompt import PromptConfig
from collm.contracts.tuning import TuningConfig
from collm.spec.fingerprint import dump_config, fingerprint
from collm.spec.node import Place
from collm.spec.sections import (
    AnswerConfig,
    EvaluateConfig,
    HistoryConfig,
    MappingConfig,
    Section,
    SelectConfig,
    SlicesConfig,
)

Profile = Literal["paper", "reference", "recommended"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


class Head(Section):
    """The fields of a spec that are not sections."""

    name: str = Field(
        pattern=NAME_PATTERN,
        max_length=120,
        description="Name of the run and of its folder: letters, digits, '.', '_', '+', '-'.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything random.")
    profile: Profile = Field(
        default="recommended", description="Named set of defaults: the paper's, its code's, or what works best."
    )


COMPONENT_SECTIONS: Mapping[str, str] = {
    "dataset": "Where interactions come from.",
    "encoder": "The classic recommender; without a backbone it is the recommender, without it the prompt is text only.",
    "backbone": "The language model; without it the encoder alone is evaluated.",
    "prompt": "The prompt template.",
    "tuning": "Which parts train in which order.",
}
# The section that holds several encoders by name, in place of `encoder`.
ENCODERS = "encoders"
ENCODERS_DESCRIPTION = "Several encoders by name, in place of `encoder`; the prompt's slots name them: `{user.NAME}`."
CORE_SECTIONS: Mapping[str, type[Section]] = {
    "history": HistoryConfig,
    "slices": SlicesConfig,
    "answer": AnswerConfig,
    "mapping": MappingConfig,
    "select": SelectConfig,
    "evaluate": EvaluateConfig,
}


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec with every value filled in and checked.

    Attributes:
        name: Name of the run.
        seed: Seed of everything random.
        profile: The profile that filled what the user left open.
        dataset: Settings of the dataset component, in that component's own class; the same holds for the four below.
        encoder: None = text only.
        backbone: None = the encoder alone.
        prompt: None without a backbone.
        tuning: None without a backbone.
        history: Which earlier positives a row may see.
        slices: What is warm and cold.
        answer: How a score is read.
        mapping: How vectors become token embeddings.
        select: Validation rows that select.
        evaluate: What is measured.
        encoders: Name -> settings of an encoder, where there are several; `encoder` is None then.
        sources: Dotted path of every value -> `user`, `--set`, `profile NAME` or `default`.
        places: Dotted path of every value that was written somewhere -> where; the document itself under "".
    """

    name: str
    seed: int
    profile: Profile
    dataset: DatasetConfig
    encoder: EncoderConfig | None
    backbone: BackboneConfig | None
    prompt: PromptConfig | None
    tuning: TuningConfig | None
    history: HistoryConfig
    slices: SlicesConfig
    answer: AnswerConfig
    mapping: MappingConfig
    select: SelectConfig
    evaluate: EvaluateConfig
    encoders: Mapping[str, EncoderConfig] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    @property
    def all_encoders(self) -> dict[str, EncoderConfig]:
        """Name -> settings of every encoder, sorted: the empty name for that of `encoder`, else those of `encoders`."""
        return dict(sorted(self.encoders.items())) if self.encoder is None else {"": self.encoder}

    def components(self) -> Iterator[tuple[str, Kind, ComponentConfig]]:
        """Yields dotted path, kind and settings of every component that the spec names."""
        for section in COMPONENT_SECTIONS:
            if section == "encoder":
                for name, each in self.all_encoders.items():
                    yield encoder_path(name), "encoder", each
            elif (config := getattr(self, section)) is not None:
                yield section, cast(Kind, section), config

    def plain(self, *, locations: bool = True) -> dict[str, Any]:
        """Returns the whole spec as plain data that can be read again as a spec; absent sections are left out.

        Args:
            locations: Whether fields that say only where something lies are kept.
        """
        return self._dump(locations=locations)

    def place(self, path: str) -> Place:
        """Returns where a value was written, or the nearest part of the spec that holds it.

        Args:
            path: Dotted path, with numbers for list items.
        """
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, Place(self.name))

    @property
    def spec_hash(self) -> str:
        """10 hex characters over everything but the name and locations."""
        payload = self._dump(locations=False) | {"history": self.history.payload()}
        del payload["name"]
        return fingerprint(payload)[:10]

    def _dump(self, *, locations: bool) -> dict[str, Any]:
        head: dict[str, Any] = {"name": self.name, "seed": self.seed, "profile": self.profile}
        sections = {key: getattr(self, key) for key in (*COMPONENT_SECTIONS, *CORE_SECTIONS)}
        content = {key: dump_config(each, locations=locations) for key, each in sections.items() if each is not None}
        content["history"] = self.history.plain(locations=locations)
        if self.encoders:
            content[ENCODERS] = {name: dump_config(each, locations=locations) for name, each in self.encoders.items()}
        return head | content


def encoder_path(name: str) -> str:
    """Returns the dotted path of an encoder's settings in a spec; the empty name is that of `encoder`."""
    return f"{ENCODERS}.{name}" if name else "encoder"
