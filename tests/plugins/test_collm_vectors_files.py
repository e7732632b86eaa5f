"""Vector files that are refused, each with its field and reason."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from vector_files import COMPONENT, DATA, FORMS, REGISTRY, WIDTH, all_pairs, build, settings_in, vectors_of

from collm.contracts.encoder import EncoderData
from collm.errors import DataError, SpecError
from collm.spec.component_config import component_config
from collm_vectors.files import look


def found_by_look(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return list(look(component_config(COMPONENT, settings, REGISTRY)))


def refused(settings: dict[str, Any], field: str, *words: str) -> None:
    """`validate` finds it at its field, and a run says the same."""
    found = found_by_look(settings)
    assert [name for name, _ in found] == [field], found
    assert [word for word in words if word not in found[0][1]] == []
    with pytest.raises(DataError) as raised:
        build(settings)
    assert [word for word in words if word not in str(raised.value)] == []


def test_sound_files_pass_the_look(tmp_path: Path) -> None:
    for form in FORMS:
        assert found_by_look(settings_in(tmp_path, form)) == []


def test_ids_that_do_not_fit_their_vectors(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    place = Path(settings["user_ids"])
    good = place.read_text(encoding="utf-8-sig")
    cases = {
        "user\n" + good: ("13 ids for the 12 vectors of users.npy", "is its first line a heading?"),
        good.replace("stranger", "u5"): ("1 user ids appear there more than once: 'u5'",),
        good.replace("u5", ""): ("no id in row ",),
        "\n".join(good.split("\n")[:5]): ("5 ids for the 12 vectors",),
    }
    for text, words in cases.items():
        place.write_text(text, encoding="utf-8")
        refused(settings, "user_ids", str(place), *words)
    place.write_bytes(good.encode().replace(b"u5", b"\xff5"))
    refused(settings, "user_ids", "not UTF-8 text, from byte ")


def test_arrays_that_are_no_vectors(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    path = Path(settings["users"])
    cases: list[tuple[Any, str]] = [
        (np.zeros(12), "holds float64 [12], must be numbers [n_rows, width]"),
        (np.zeros((12, 2, 2)), "holds float64 [12, 2, 2]"),
        (np.zeros((12, 2), dtype=complex), "holds complex128"),
        (np.full((12, 2), "1"), "holds <U1"),
        (np.array([[1, "a"]] * 12, dtype=object), "pickles and arrays of objects are never loaded"),
    ]
    for array, words in cases:
        np.save(path, array)
        refused(settings, "users", str(path), words)
    np.savez(tmp_path / "z", a=np.zeros((12, 2)))
    (tmp_path / "z.npz").rename(path)
    refused(settings, "users", "is an .npz archive of several arrays")
    path.write_bytes(pickle.dumps(np.zeros((12, 2))))
    refused(settings, "users", "pickles and arrays of objects are never loaded")
    path.write_bytes(b"")
    refused(settings, "users", "not a .npy array of numbers")


class Trap:
    """Its pickle would write a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def test_a_pickle_inside_an_array_does_not_run(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    np.save(settings["users"], np.array([[Trap(tmp_path / "ran")]] * 12, dtype=object), allow_pickle=True)
    refused(settings, "users", "never loaded")
    assert not (tmp_path / "ran").exists()


def test_numbers_that_are_none(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    ids, vectors = vectors_of("user")
    for bad in (np.nan, np.inf, 1e300):
        values = vectors.astype(np.float64)
        values[4, 2] = bad
        np.save(settings["users"], values)
        assert found_by_look(settings) == []  # only the numbers show it
        with pytest.raises(DataError, match=rf"beyond the range of float32 in vectors of users '{ids[4]}' \(1 among"):
            build(settings)


def test_dot_products_beyond_float32_are_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for side in ("user", "item"):
        np.save(settings[f"{side}s"], vectors_of(side)[1] * np.float32(1e19))
    with pytest.raises(DataError, match=r"dot products may reach .* beyond float32; scale the vectors"):
        build(settings)
    assert torch.isfinite(build(settings | {"score": "cosine"}).score(all_pairs())).all()


def test_ids_of_another_kind_are_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    place = Path(settings["item_ids"])
    place.write_text("".join(f"film/{line}\n" for line in place.read_text("utf-8-sig").split()))
    with pytest.raises(DataError, match=r"has none of its 20 item ids: the file has 'film/.*the data 'i1', 'i2', 'i3'"):
        build(settings)


def test_widths_must_fit_the_score(tmp_path: Path) -> None:
    for score in ("dot", "cosine"):
        words = ("users.npy has 6 numbers per vector and items.npy 4", "`score: logistic`, which takes any")
        refused(settings_in(tmp_path, item_width=4, score=score), "score", f"'{score}' multiplies", *words)
    for form in FORMS:
        encoder = build(settings_in(tmp_path, form, item_width=4, score="logistic"))
        assert (encoder.user_dim, encoder.item_dim) == (6, 4)
    # Only the values tell the width of lists: the run says it.
    with pytest.raises(DataError, match="has 6 numbers per vector"):
        build(settings_in(tmp_path, "parquet-lists", item_width=4))


def test_parquet_files_that_do_not_say_what_is_what(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "parquet-lists")
    path = Path(settings["users"])
    ids, vectors = vectors_of("user")
    lists = vectors.tolist()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": ids, "v": lists}, "no column of ids called user, user_id, id; the file has name, v"),
        ({"id": ids, "v": lists, "w": lists}, "v, w are columns of lists"),
        ({"id": ids, "v": [["a"]] * 12}, "column 'v' is List(String)"),
        ({"id": ids, "title": ids, "d0": vectors[:, 0]}, "title (String): beside 'id' there must be one column"),
        ({"id": vectors[:, 0], "v": lists}, "column 'id' is Float32; ids are text or whole numbers"),
        ({"id": [*ids[:-1], None], "v": lists}, "no id in row 12"),
        ({"id": ids}, "holds no vectors"),
        # What pandas writes beside columns of floats where its index is not that of a whole table.
        ({"id": ids, "__index_level_0__": range(12), "d0": vectors[:, 0]}, "__index_level_0__: whole numbers beside"),
    ]
    for columns, words in cases:
        pl.DataFrame(columns).write_parquet(path)
        refused(settings, "users", str(path), words)
    path.write_bytes(b"PAR1 not really")
    refused(settings, "users", "cannot be read as parquet")
    pl.DataFrame({"id": ids, "v": lists}).write_parquet(path)
    refused(settings | {"user_key": "ident"}, "users", "no column of ids 'ident'", "name it in user_key")
    for strange, words in (
        ([*lists[:-1], [1.0]], r"differ in width: .*6 \(11\), 1 \(1\)"),
        ([*lists[:-1], None], "none"),
    ):
        pl.DataFrame({"id": ids, "v": strange}).write_parquet(path)
        with pytest.raises(DataError, match=words):
            build(settings)
    for columns in ({"v": [*lists[:-1], [1.0] * 5 + [None]]}, {"d0": [*vectors[:-1, 0].tolist(), None]}):
        pl.DataFrame({"id": ids, **columns}).write_parquet(path)
        with pytest.raises(DataError, match="1 numbers of vectors are missing"):
            build(settings)


def test_dimensions_may_all_be_whole_numbers(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "parquet-columns")
    ids, vectors = vectors_of("user")
    whole = (vectors * 100).astype(np.int16)
    pl.DataFrame({"id": ids, **{f"d{k}": whole[:, k] for k in range(WIDTH)}}).write_parquet(settings["users"])
    given = build(settings).user_vectors.detach().numpy()
    np.testing.assert_array_equal(given[int(ids[0][1:])], whole[0])


def test_tensors_are_found_by_name(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "safetensors")
    path, vectors = Path(settings["users"]), torch.from_numpy(vectors_of("user")[1])
    save_file({"a": vectors, "b": vectors * 2}, path)
    refused(settings, "users", "no tensor of vectors called users, user; the file has a, b; name it in user_key")
    refused(settings | {"user_key": "c"}, "users", "no tensor of vectors 'c'")
    assert torch.equal(
        build(settings | {"user_key": "b"}).user_vectors, 2 * build(settings | {"user_key": "a"}).user_vectors
    )
    save_file({"a": vectors[0]}, path)
    refused(settings, "users", "tensor 'a' is F32 [6]")
    path.write_bytes(b"no tensors")
    refused(settings, "users", "cannot be read as safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"users": "u.pt"}, "'u.pt' is a pickle or may hold one"),
        ({"users": "u.pkl"}, "never loaded; write it as .npy"),
        ({"users": "u.csv"}, "unknown ending; readable are .npy, .parquet, .pq, .safetensors"),
        ({"user_ids": None}, "does not say whose its rows are; name a file with one raw user id per line"),
        ({"users": "u.parquet"}, "'u.parquet' holds its ids itself; name their column in user_key"),
        ({"user_key": "x"}, "'users.npy' is one array without names; leave this out"),
        ({"score": "euclid"}, "euclid"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words.replace(".", r"\.")):
        component_config(COMPONENT, settings_in(tmp_path) | changes, REGISTRY)


def test_data_without_raw_ids_is_refused(tmp_path: Path) -> None:
    old = EncoderData(DATA.n_users, DATA.n_items, DATA.titles, DATA.train, 5)
    with pytest.raises(DataError, match="this data has no raw ids"):
        build(settings_in(tmp_path), old)
