"""Settings of `vectors`: which files, what names their rows, how a pair is scored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from collm.component import location_field
from collm.contracts.encoder import EncoderConfig

Side = Literal["user", "item"]
SIDES: tuple[Side, ...] = ("user", "item")
ENDINGS = (".npy", ".parquet", ".pq", ".safetensors")
PARQUET = (".parquet", ".pq")
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin")

_IDS = (
    "File with one raw {side} id per line, UTF-8, in the order of the rows of `{side}s`; needed with .npy and "
    ".safetensors, refused with .parquet."
)
_KEY = (
    "Name inside the file: of a .parquet file the column of raw ids (null = `{side}`, `{side}_id` or `id`), of a "
    ".safetensors file the tensor (null = the only one, or `{side}s` or `{side}`); refused with .npy."
)


class VectorsConfig(EncoderConfig):
    """Settings of `vectors`."""

    users: Path = location_field(
        ...,
        description="File of user vectors: .npy (array [n_rows, width]), .parquet (a column of ids, and one column of "
        "lists or a numeric column per dimension) or .safetensors (tensor [n_rows, width]).",
    )
    items: Path = location_field(..., description="File of item vectors, in the same formats.")
    user_ids: Path | None = location_field(description=_IDS.format(side="user"))
    item_ids: Path | None = location_field(description=_IDS.format(side="item"))
    user_key: str | None = Field(default=None, min_length=1, description=_KEY.format(side="user"))
    item_key: str | None = Field(default=None, min_length=1, description=_KEY.format(side="item"))
    score: Literal["dot", "cosine", "logistic"] = Field(
        default="dot",
        description="A pair's logit: dot product or cosine of its vectors (which then have one width), or logistic: a "
        "logistic regression fitted on training rows, for any widths.",
    )
    l2: float = Field(
        default=1.0,
        gt=0,
        description="score: logistic: L2 coefficient of the weights, of standardised features, beside the loss summed "
        "over rows.",
    )
    fit_rows: int = Field(
        default=200_000,
        ge=2,
        description="score: logistic: training rows that the head is fitted on at most; of more, so many are drawn.",
    )

    @field_validator("users", "items", mode="after")
    @classmethod
    def _is_readable(cls, value: Path) -> Path:
        ending = value.suffix.lower()
        if ending in PICKLES:
            raise ValueError(
                f"'{value.name}' is a pickle or may hold one, which can run code when it is read, so it is never "
                "loaded; write it as .npy (numpy.save) or .safetensors (safetensors.torch.save_file)"
            )
        if ending not in ENDINGS:
            raise ValueError(f"'{value.name}': unknown ending; readable are {', '.join(ENDINGS)}")
        return value

    @field_validator("user_ids", "item_ids", mode="after")
    @classmethod
    def _ids_belong(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        side = str(info.field_name).removesuffix("_ids")
        vectors = info.data.get(f"{side}s")
        if vectors is None:
            return value
        is_parquet = vectors.suffix.lower() in PARQUET
        if is_parquet and value is not None:
            raise ValueError(
                f"'{vectors.name}' holds its ids itself; name their column in {side}_key and leave this out"
            )
        if not is_parquet and value is None:
            raise ValueError(
                f"'{vectors.name}' does not say whose its rows are; name a file with one raw {side} id per line, in "
                "the order of the rows"
            )
        return value

    @field_validator("user_key", "item_key", mode="after")
    @classmethod
    def _key_belongs(cls, value: str | None, info: ValidationInfo) -> str | None:
        vectors = info.data.get(f"{str(info.field_name).removesuffix('_key')}s")
        if value is not None and vectors is not None and vectors.suffix.lower() == ".npy":
            raise ValueError(f"'{vectors.name}' is one array without names; leave this out")
        return value

    def look(self) -> Iterable[tuple[str, str]]:
        """Reads headers and ids: names, shapes, types, numbers of ids, duplicates, and whether widths fit the score."""
        from collm_vectors.files import look

        return look(self)
