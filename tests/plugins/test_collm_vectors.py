"""Vectors of one's own: formats, ids, scores against numpy and scikit-learn, and everything that is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData
from collm.errors import DataError, SpecError
from collm.registry import default_registry
from collm.spec.component_config import component_config
from collm.testing.fakes import N_ITEMS, N_USERS, encoder_batch, encoder_data
from collm.testing.plugin_check import check_component
from collm_vectors import register_encoders
from collm_vectors.files import look

REGISTRY = default_registry()
(COMPONENT,) = register_encoders()
WIDTH = 6
DATA = encoder_data()


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


FORMS = ("npy", "safetensors", "parquet-lists", "parquet-arrays", "parquet-columns")


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_vectors_of_its_ids(tmp_path: Path, form: str) -> None:
    encoder, wanted = build(settings_in(tmp_path, form)), expected_tables()
    np.testing.assert_allclose(encoder.user_vectors.detach(), wanted["user"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(encoder.item_vectors.detach(), wanted["item"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("score", ["dot", "cosine", "logistic"])
def test_it_keeps_the_contract(tmp_path: Path, score: str) -> None:
    for data in (None, DATA):
        results = check_component(COMPONENT, registry=REGISTRY, settings=settings_in(tmp_path, score=score), data=data)
        assert [(each.name, each.fault) for each in results if not each.ok] == []


def all_pairs() -> EncoderBatch:
    user, item = np.meshgrid(np.arange(N_USERS + 1), np.arange(N_ITEMS + 1), indexing="ij")
    return EncoderBatch(user=torch.from_numpy(user.ravel()), item=torch.from_numpy(item.ravel()))


def test_dot_and_cosine_are_numpys(tmp_path: Path) -> None:
    batch, tables = all_pairs(), expected_tables()
    u, v = tables["user"][batch.user.numpy()], tables["item"][batch.item.numpy()]
    dot = (u * v).sum(axis=1)
    cosine = dot / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    for score, wanted in (("dot", dot), ("cosine", cosine)):
        got = build(settings_in(tmp_path, score=score)).score(batch).detach().numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_zero_vector_has_cosine_zero_and_is_counted(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, score="cosine")
    ids, vectors = vectors_of("item")
    vectors[ids.index("i5")] = 0
    settings |= write(tmp_path, "item", "npy", ids, vectors)
    encoder = build(settings)
    scores = encoder.score(EncoderBatch(user=torch.arange(1, 5), item=torch.full((4,), 5)))
    assert scores.tolist() == [0.0] * 4
    assert any(note.startswith("1 users or items have the vector 0") for note in encoder.describe().score_notes)


@pytest.mark.parametrize("item_width", [WIDTH, 4])
def test_the_logistic_head_is_scikit_learns(tmp_path: Path, item_width: int) -> None:
    encoder = build(settings_in(tmp_path, score="logistic", item_width=item_width, l2=0.5))
    user, item = encoder.user_vectors.detach().double().numpy(), encoder.item_vectors.detach().double().numpy()

    def features(users: Any, items: Any) -> np.ndarray[Any, Any]:
        u, v = user[users], item[items]
        return np.hstack([u, v, u * v] if u.shape == v.shape else [u, v])

    train = features(DATA.train.user, DATA.train.item)
    centre, scale = train.mean(axis=0), train.std(axis=0)
    reference = LogisticRegression(C=2.0, max_iter=1000).fit((train - centre) / scale, DATA.train.label)
    batch = all_pairs()
    rows = (features(batch.user.numpy(), batch.item.numpy()) - centre) / scale
    np.testing.assert_allclose(
        encoder.score(batch).detach().numpy(), reference.decision_function(rows), rtol=1e-4, atol=1e-4
    )
    said = encoder.describe()
    assert said.facts["converged"]
    assert said.facts["train_rows"] == len(DATA.train.user)
    assert any("ranks the items alike for all users" in note for note in said.score_notes) == (item_width != WIDTH)


def test_the_logistic_head_is_fitted_on_so_many_rows_at_most(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, score="logistic", fit_rows=50)
    first, second = build(settings), build(settings)
    assert first.describe().facts["train_rows"] == 50
    assert torch.equal(first.head_weight, second.head_weight)


def test_missing_and_unused_ids_are_counted_and_said(tmp_path: Path) -> None:
    said = build(settings_in(tmp_path)).describe()
    assert said.facts["users"] == {
        "width": WIDTH,
        "in_file": N_USERS,
        "in_data": N_USERS,
        "without_vector": 1,
        "not_in_data": 1,
    }
    assert said.facts["items"]["without_vector"] == 1
    assert said.notes[0] == (
        f"1 of {N_USERS} users have no vector in the file of user vectors; the mean of its {N_USERS} vectors stands "
        "for each of them."
    )
    assert said.notes[1] == f"1 of {N_USERS} ids in the file of user vectors are not in the data."


def test_numbers_as_ids_and_half_precision_are_read(tmp_path: Path) -> None:
    data = replace(DATA, user_ids=["", *map(str, range(1, N_USERS + 1))])
    settings = settings_in(tmp_path)
    del settings["user_ids"]
    values = np.arange(N_USERS * WIDTH, dtype=np.float32).reshape(N_USERS, WIDTH)
    settings["users"] = str(tmp_path / "u.parquet")
    pl.DataFrame({"id": np.arange(1, N_USERS + 1), "v": values.tolist()}).write_parquet(settings["users"])
    item_ids, items = vectors_of("item")
    save_file({"x": torch.from_numpy(items).to(torch.bfloat16)}, tmp_path / "i.safetensors")
    encoder = build(settings | {"items": str(tmp_path / "i.safetensors")}, data)
    np.testing.assert_array_equal(encoder.user_vectors.detach()[1:], values)
    row = items[item_ids.index("i7")]
    np.testing.assert_allclose(encoder.item_vectors.detach()[7], row, rtol=1e-2)


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
        good.replace("stranger", "u5"): ("1 user ids stand there more than once: 'u5'",),
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
