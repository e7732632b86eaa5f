"""The same on a server that speaks S3: conditional writes, locks, credentials, and what an object store refuses."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest
from s3_server import SECRET, Bucket

from collm.errors import InUse, RunError
from collm.runs import remote_lock
from collm.runs.objects import open_objects
from collm.runs.remote import Remote, mirror_of, remote_of
from collm.runs.remote_lock import RemoteLock
from collm.runs.store import RunFolder, StageStore


@pytest.fixture(autouse=True)
def machine_settings(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.variables(tmp_path).items():
        monkeypatch.setenv(name, value)


def mirror(place: Bucket, tmp_path: Path, name: str) -> Path:
    return mirror_of(place.address, tmp_path / name, place.endpoint)


def remote(place: Bucket, tmp_path: Path, name: str) -> Remote:
    found = remote_of(mirror(place, tmp_path, name))
    assert found is not None
    return found


def lock(place: Bucket, machine: str, *, wait: bool = False) -> RemoteLock:
    objects = open_objects(place.address, place.endpoint)
    return RemoteLock(objects, "stages/a/lock", mirror=machine, wait=wait)


def test_objects_are_created_once_and_replaced_where_nothing_changed(bucket: Bucket) -> None:
    objects = open_objects(bucket.address, bucket.endpoint)
    assert objects.conditional()
    assert bucket.names() == []
    assert objects.read("a/b") is None
    first = objects.create("a/b", b"1")
    assert first is not None
    assert objects.create("a/b", b"2") is None
    second = objects.replace("a/b", b"2", first)
    assert second not in (None, first)
    assert objects.replace("a/b", b"3", first) is None
    held = objects.read("a/b")
    assert held is not None
    assert (held.data, held.tag) == (b"2", second)
    assert objects.folders() == ["a"]
    objects.delete("a/b")
    objects.delete("a/b")
    assert objects.read("a/b") is None


def test_files_of_several_parts(bucket: Bucket, tmp_path: Path) -> None:
    objects = open_objects(bucket.address, bucket.endpoint)
    data = bytes(range(256)) * 50_000
    (tmp_path / "large").write_bytes(data)
    objects.put_file("a/large", tmp_path / "large")
    objects.get_file("a/large", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == data


def test_a_stage_of_one_machine_is_finished_on_the_other(bucket: Bucket, tmp_path: Path) -> None:
    with StageStore(mirror(bucket, tmp_path, "a")).claim("tune_1", "f00") as folder:
        assert "stages/tune_1-f00/lock" in bucket.names()
        (folder / "weights").write_text("weights")
    (done,) = [key for key in bucket.names() if key.endswith("f00/done")]
    assert len(bucket.names()) == 3
    assert bucket.content(done).count(b"sha256") == 3
    store = StageStore(mirror(bucket, tmp_path, "b"))
    assert store.is_done("tune_1", "f00")
    assert (store.folder("tune_1", "f00") / "weights").read_text() == "weights"


def test_a_stage_that_another_machine_works_on_is_waited_for(bucket: Bucket, tmp_path: Path) -> None:
    first, second = (StageStore(mirror(bucket, tmp_path, name)) for name in "ab")
    waiting = threading.Event()
    found = []

    def work() -> None:
        with second.claim("tune_1", "f00", on_wait=lambda _: waiting.set()):
            found.append(second.is_done("tune_1", "f00"))

    with first.claim("tune_1", "f00") as folder:
        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(30)
        assert found == []
        (folder / "weights").write_text("weights")
    thread.join(30)
    assert found == [True]


def test_a_run_that_another_machine_works_on_is_in_use(bucket: Bucket, tmp_path: Path) -> None:
    first, second = (RunFolder(mirror(bucket, tmp_path, name), "n", "abc") for name in "ab")
    with (
        first.lock(),
        pytest.raises(InUse, match=r"/n-abc/lock: in use by pid \d+ on host .*120 seconds after its process is gone"),
        second.lock(wait=False),
    ):
        pass
    with second.lock(wait=False):
        assert "n-abc/lock" in bucket.names()
    assert bucket.names() == []


def test_a_lock_is_renewed_and_not_taken_over(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "RENEW_S", 0.1)
    monkeypatch.setattr(remote_lock, "LOST_S", 1.0)
    with lock(bucket, "a"):
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            with pytest.raises(InUse):
                lock(bucket, "b").acquire()
        assert json.loads(bucket.content("stages/a/lock"))["renewals"] > 3
    assert bucket.names() == []


def test_a_lock_that_is_not_renewed_is_taken_over(
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(remote_lock, "RENEW_S", 1000.0)
    monkeypatch.setattr(remote_lock, "LOST_S", 1.0)
    monkeypatch.setattr(remote_lock, "_POLL_S", 0.1)
    left = lock(bucket, "a")
    left.acquire()
    start = time.monotonic()
    with caplog.at_level(logging.INFO), lock(bucket, "b", wait=True):
        assert 1.0 < time.monotonic() - start < 20
        assert json.loads(bucket.content("stages/a/lock"))["mirror"] == "b"
        # The one that was away for so long leaves it alone.
        left.release()
        assert json.loads(bucket.content("stages/a/lock"))["mirror"] == "b"
    assert "taken over from pid" in caplog.text


def test_further_locks_of_a_process_that_is_gone_are_taken_over_sooner(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lock, "_POLL_S", 0.1)
    monkeypatch.setattr(remote_lock, "_gone", set())
    holder = {"pid": 7, "host": "far", "start": 0, "mirror": "a", "token": "left"}
    for key, lost in (("stages/a/lock", 1.0), ("stages/b/lock", 1000.0)):
        monkeypatch.setattr(remote_lock, "LOST_S", lost)
        monkeypatch.setattr(remote_lock, "RENEW_S", 0.5)
        bucket.write(key, json.dumps(holder).encode())
        start = time.monotonic()
        with RemoteLock(open_objects(bucket.address, bucket.endpoint), key, mirror="b", wait=True):
            assert 1.0 < time.monotonic() - start < 20
    assert bucket.names() == []


def test_a_lock_that_this_mirror_left_is_taken_over_at_once(bucket: Bucket) -> None:
    left = lock(bucket, "a")
    left.acquire()
    with lock(bucket, "a"):
        pass
    assert bucket.names() == []
    left.release()


def test_of_two_that_take_over_one_is_the_holder(bucket: Bucket) -> None:
    left, first, second = lock(bucket, "a"), lock(bucket, "a"), lock(bucket, "a")
    left.acquire()
    held = open_objects(bucket.address, bucket.endpoint).read("stages/a/lock")
    assert held is not None
    assert first._take_over(held)
    assert not second._take_over(held)
    left.release()


def test_a_holder_whose_lock_was_taken_over_says_so(
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(remote_lock, "RENEW_S", 0.2)
    with caplog.at_level(logging.WARNING), lock(bucket, "a"):
        bucket.write("stages/a/lock", b'{"mirror": "b", "token": "other", "pid": 7, "host": "far", "start": 0}')
        deadline = time.monotonic() + 10
        while "taken over by pid 7 on host far" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "taken over by pid 7 on host far" in caplog.text
    assert bucket.names() == ["stages/a/lock"]


def test_a_server_that_ignores_conditions_has_no_locks(
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = remote(bucket, tmp_path, "a")
    put = type(found.objects)._put  # type: ignore[attr-defined]
    monkeypatch.setattr(type(found.objects), "_put", lambda self, key, data, mode: put(self, key, data, "overwrite"))
    with caplog.at_level(logging.WARNING), StageStore(found.root).claim("tune_1", "f00"):
        assert not [key for key in bucket.names() if key.endswith("lock")]
    assert "the store has no conditional writes, so no locks" in caplog.text


def test_a_reader_sees_runs_and_is_told_before_any_work_that_nothing_can_be_written(
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StageStore(mirror(bucket, tmp_path, "a")).claim("tune_1", "f00") as folder:
        (folder / "weights").write_text("weights")
    key, secret = bucket.reader()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    store = StageStore(mirror(bucket, tmp_path, "b"))
    assert store.is_done("tune_1", "f00")
    worked = []
    refused = pytest.raises(RunError, match=r"cannot be written: access is refused \(AccessDenied")
    with refused, store.claim("tune_1", "f01"):
        worked.append("f01")
    assert worked == []


def test_what_stops_every_command(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = mirror_of("s3://no-such-bucket/runs", tmp_path / "a", bucket.endpoint)
    with pytest.raises(RunError, match=r"^s3://no-such-bucket/runs: .*there is no such bucket"):
        StageStore(missing).is_done("tune_1", "f00")
    away = mirror_of(bucket.address, tmp_path / "b", "http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"the server cannot be reached \(.*repeat the command"):
        StageStore(away).is_done("tune_1", "f00")
    bucket.check_credentials(after=0)
    with pytest.raises(RunError, match=r"access is refused .InvalidAccessKeyId.*AWS_ACCESS_KEY_ID") as raised:
        StageStore(mirror(bucket, tmp_path, "c")).is_done("tune_1", "f00")
    assert SECRET not in str(raised.value)
