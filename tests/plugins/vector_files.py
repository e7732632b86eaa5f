"""Files of vectors in every format that `collm_vectors` reads, and an encoder from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData
from collm.registry import default_registry
from collm.spec.component_config import component_config
from collm.testing.fakes import N_ITEMS, N_USERS, encoder_batch, encoder_data
from collm_vectors import register_encoders

REGISTRY = default_registry()
(COMPONENT,) = register_encoders()
WIDTH = 6
DATA = encoder_data()
FORMS = ("npy", "safetensors", "parquet-lists", "parquet-arrays", "parquet-columns")


def vectors_of(side: str, width: int = WIDTH) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Ids in an order of their own, without the third and with a stranger, and their vectors."""
    generator = np.random.default_rng(len(side) + ord(side[0]))
    n = {"user": N_USERS, "item": N_ITEMS}[side]
    ids = [f"{side[0]}{number}" for number in generator.permutation(n) + 1 if number != 3]
    return [*ids, "stranger"], generator.normal(size=(len(ids) + 1, width)).astype(np.float32)


def write(folder: Path, side: str, form: str, ids: list[str], vectors: np.ndarray[Any, Any]) -> dict[str, str]:
    """Writes one side's file in a form, and returns the settings that name it."""
    path = folder / f"{side}s.{'parquet' if form.startswith('parquet') else form.partition('-')[0]}"
    if form == "parquet-lists":
        pl.DataFrame({"title": ids, f"{side}_id": ids, "vector": vectors.tolist()}).write_parquet(path)
    elif form == "parquet-arrays":
        pl.DataFrame({"id": ids, "v": pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))}).write_parquet(
            path
        )
    elif form == "parquet-columns":
        pl.DataFrame({side: ids, **{f"d{k}": vectors[:, k] for k in range(vectors.shape[1])}}).write_parquet(path)
    elif form == "npy":
        np.save(path, vectors)
    else:
        save_file({"other": torch.zeros(1), f"{side}s": torch.from_numpy(vectors)}, path)
    if form.startswith("parquet"):
        return {f"{side}s": str(path)}
    (folder / f"{side}s.txt").write_text("\r\n".join(ids) + "\r\n", encoding="utf-8-sig")
    return {f"{side}s": str(path), f"{side}_ids": str(folder / f"{side}s.txt")}


def settings_in(folder: Path, form: str = "npy", *, item_width: int = WIDTH, **more: Any) -> dict[str, Any]:
    return (
        write(folder, "user", form, *vectors_of("user"))
        | write(folder, "item", form, *vectors_of("item", item_width))
        | more
    )


def build(settings: dict[str, Any], data: EncoderData = DATA) -> Any:
    config = component_config(COMPONENT, settings, REGISTRY)
    encoder = COMPONENT.load_factory()(config, data=data, context=BuildContext(cache_dir=Path("unused")))
    if encoder.fit_mode == "direct":
        encoder.fit_direct(data, iter([encoder_batch(data)]))
    return encoder.eval()


def expected_tables() -> dict[str, np.ndarray[Any, Any]]:
    """Vectors by dense id, put together by a dictionary; ids without one have the mean of the file's."""
    found = {}
    for side, n in (("user", N_USERS), ("item", N_ITEMS)):
        ids, vectors = vectors_of(side)
        known = dict(zip(ids, vectors, strict=True))
        mean = vectors.astype(np.float64).mean(axis=0)
        found[side] = np.array([known.get(f"{side[0]}{k}", mean) if k else mean for k in range(n + 1)])
    return found


def all_pairs() -> EncoderBatch:
    user, item = np.meshgrid(np.arange(N_USERS + 1), np.arange(N_ITEMS + 1), indexing="ij")
    return EncoderBatch(user=torch.from_numpy(user.ravel()), item=torch.from_numpy(item.ravel()))
