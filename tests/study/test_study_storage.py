from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from collm.errors import RunError
from collm.spec.node import Node, Place
from collm.study.storage import StorageAddress, StudyStorage, read_address
from collm.visible import without_passwords

SECRET = "s3cret/p@ss"
HOLD = """\
import sys
from pathlib import Path
from collm.study.storage import StorageAddress, StudyStorage
storage = StudyStorage(StorageAddress("journal", Path(sys.argv[1])))
with storage.lock("search"):
    print("held", flush=True)
    sys.stdin.read()
"""


def address(tmp_path: Path, text: str) -> StorageAddress:
    problems: list[object] = []
    found = read_address(Node(text, Place("x", folder=tmp_path)), tmp_path / "default.log", problems)  # type: ignore[arg-type]
    assert problems == []
    return found


def test_addresses(tmp_path: Path) -> None:
    assert address(tmp_path, "journal:a.log").path == tmp_path / "a.log"
    assert address(tmp_path, "sqlite:///a.db").url == f"sqlite:///{tmp_path}/a.db"
    assert address(tmp_path, "postgresql://me@host/db").url == "postgresql+psycopg://me@host/db"


def test_a_password_is_in_no_text_of_an_address(tmp_path: Path) -> None:
    secret = address(tmp_path, "postgresql://me:s3cret%2Fp%40ss@host/db?sslpassword=other")
    assert pickle.loads(pickle.dumps(secret)).url == secret.url
    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        secret.clean(f"failed: {secret.url} {SECRET} s3cret%2Fp%40ss"),
    ):
        assert "s3cret" not in text
        assert "other" not in text
    assert str(secret).startswith("postgresql+psycopg://me:***@host/db")


def test_redaction_reaches_to_the_last_at_sign() -> None:
    assert without_passwords("see postgresql://me:a@b:c@host/db now") == "see postgresql://me:***@host/db now"
    assert without_passwords("no address") == "no address"


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    storage = StudyStorage(StorageAddress("journal", path))
    study = optuna.create_study(study_name="one", storage=storage.optuna)
    study.add_trial(optuna.create_trial(value=1.0))
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "study')
    study.add_trial(optuna.create_trial(value=2.0))
    again = optuna.load_study(study_name="one", storage=StudyStorage(StorageAddress("journal", path)).optuna)
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    storage = StudyStorage(StorageAddress("journal", path))
    with storage.lock("search"), storage.lock("search"):
        pass


def test_a_storage_that_cannot_be_reached_is_named_without_password() -> None:
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    with pytest.raises(RunError, match=r"study storage postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/db") as caught:
        StudyStorage(StorageAddress("postgresql", None, "postgresql+psycopg://me:s3cret@127.0.0.1:1/db"))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
