"""The restricted unpickler: reads plain tables, refuses everything else before any of it runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collm.errors import DataError
from collm.ingest import restricted_pickle
from collm.ingest.restricted_pickle import read_frame

PROTOCOLS = range(6)


class Call:
    """Pickles into a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def attacks(target: Path) -> dict[str, Any]:
    make = f"open({str(target)!r}, 'w').close()"
    return {
        "system": Call(os.system, f"touch {target}"),
        "eval": Call(eval, make),
        "exec": Call(exec, make),
        "open": Call(open, str(target), "w"),
        "popen": Call(subprocess.Popen, ["touch", str(target)]),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "import": Call(__import__, "os"),
        "nested in containers": {"a": [(1, {"b": Call(os.system, f"touch {target}")})]},
        "argument of an allowed call": Call(slice, Call(os.system, f"touch {target}"), 1),
        "numpy.load": Call(np.load, str(target)),
        "file of numpy": Call(np.memmap, str(target), "uint8", "w+", 0, (1,)),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", attacks(Path("x")))
def test_a_malicious_pickle_is_refused_before_anything_runs(tmp_path: Path, name: str, protocol: int) -> None:
    target = tmp_path / "ran"
    data = pickle.dumps(attacks(target)[name], protocol=protocol)
    with pytest.raises(DataError, match=r"bad\.pkl: refused as unsafe, nothing of it was run: it names '"):
        read_frame(data, name="bad.pkl")
    assert not target.exists()


def test_the_attacks_of_this_file_would_run_in_an_ordinary_unpickler(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    pickle.loads(pickle.dumps(attacks(target)["eval"]))
    assert target.exists()


def glob(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


ONE_STRING = b"X\x01\x00\x00\x00a"
HAND_WRITTEN = {
    "attribute of an allowed name": b"\x80\x04X\x05\x00\x00\x00numpyX\x11\x00\x00\x00ndarray.__class__\x93.",
    "os through numpy": b"\x80\x04X\x05\x00\x00\x00numpyX\x02\x00\x00\x00os\x93.",
    "instruction INST": b"(ios\nsystem\n.",
    "state set on a function": glob("builtins", "slice") + b"N}" + ONE_STRING + b"K\x01s\x86b.",
    "state set on a class": glob("pandas.core.frame", "DataFrame") + b"N}" + ONE_STRING + b"K\x01s\x86b.",
    "state set on a marker": glob("numpy", "ndarray") + b"N}" + ONE_STRING + b"K\x01s\x86b.",
    "direct call of ndarray": glob("numpy", "ndarray") + b"K\x01\x85R.",
    "another array class": glob("numpy.core.multiarray", "_reconstruct")
    + glob("pandas.core.frame", "DataFrame")
    + b"K\x00\x85C\x01b\x87R.",
    "record type": glob("numpy", "dtype") + b"X\x08\x00\x00\x00O,i8,f4 \x85R.",
    "void type": glob("numpy", "dtype") + b"X\x02\x00\x00\x00V8\x85R.",
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_tricks_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"bad\.pkl: (refused as unsafe|not a readable pickled table)"):
        read_frame(HAND_WRITTEN[name], name="bad.pkl")


def test_object_bytes_never_become_pointers() -> None:
    """Numpy would read raw bytes as object pointers if a pickle could alter its type descriptions."""
    dtype = glob("numpy", "dtype") + b"X\x02\x00\x00\x00O8\x85R"
    array = (
        glob("numpy.core.multiarray", "_reconstruct") + glob("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
        b"(K\x01K\x01\x85" + dtype + b"\x89C\x08\x01\x02\x03\x04\x05\x06\x07\x08tb"
    )
    with pytest.raises(DataError, match=r"refused as unsafe"):
        read_frame(framed(array), name="bad.pkl")


def framed(array: bytes) -> bytes:
    """Puts array instructions into a table of one block."""
    index = glob("pandas.core.indexes.base", "_new_Index") + glob("pandas.core.indexes.range", "RangeIndex")
    axis = index + b"}(X\x05\x00\x00\x00startK\x00X\x04\x00\x00\x00stopK\x01X\x04\x00\x00\x00stepK\x01u\x86R"
    block = (
        glob("pandas._libs.internals", "_unpickle_block")
        + array
        + glob("builtins", "slice")
        + b"K\x00K\x01K\x01\x87RK\x02\x87R"
    )
    manager = glob("pandas.core.internals.managers", "BlockManager") + block + b"\x85](" + axis + axis + b"e\x86R"
    return b"\x80\x03" + glob("pandas.core.frame", "DataFrame") + b")\x81}X\x04\x00\x00\x00_mgr" + manager + b"sb."


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1])
def test_a_broken_pickle_is_named(cut: int) -> None:
    with pytest.raises(DataError, match=r"half\.pkl: not a readable pickled table"):
        read_frame(pickle.dumps(list(range(1000)), protocol=4)[:cut], name="half.pkl")


@pytest.mark.parametrize("value", [1, [1, 2], {"a": 1}, None])
def test_something_else_than_a_table_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="does not hold one pandas DataFrame"):
        read_frame(pickle.dumps(value), name="x.pkl")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_reads_what_pandas_writes(protocol: int) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {0: [3, 1, 2], 1: [0.5, np.nan, 2.5], 2: [True, False, True], 3: [7, 8, 9]}, index=[5, 6, 8]
    )
    frame[4] = pandas.Series([[1, 2], [3, 4], ["x", "y"]], index=frame.index, dtype=object)
    read = read_frame(io.BytesIO(pickle.dumps(frame, protocol=protocol)), name="frame.pkl")
    assert list(read.columns) == ["0", "1", "2", "3", "4"]
    for name, values in read.columns.items():
        np.testing.assert_array_equal(values, frame[int(name)].to_numpy())
    np.testing.assert_array_equal(read.index, [5, 6, 8])


def test_nothing_of_the_process_is_changed_by_reading() -> None:
    before = dict(vars(builtins))
    for data in HAND_WRITTEN.values():
        with pytest.raises(DataError, match=r"refused|not a readable"):
            read_frame(data, name="bad.pkl")
    assert dict(vars(builtins)) == before
    test_reads_what_pandas_writes(5)


HASH_BOMBS = {
    "doubled": b"}" + b")" + b"2\x86" * 60 + b"Ns.",
    "through the memo": b"}" + b")\x94" + b"".join(b"h%c\x86\x94h%c" % (n, n + 1) for n in range(60)) + b"Ns.",
    "as a member of a set": b"\x80\x04\x8f(" + b")" + b"2\x86" * 60 + b"\x90.",
    "threefold": b"}" + b")" + b"22\x87" * 40 + b"Ns.",
}


@pytest.mark.parametrize("name", HASH_BOMBS)
def test_a_pickle_that_is_never_read_to_its_end_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(restricted_pickle, "_LONGEST_S", 2.0)
    with pytest.raises(DataError, match=r"bad\.pkl: (refused as unsafe: reading it did not end|not a readable)"):
        read_frame(HASH_BOMBS[name], name="bad.pkl")
