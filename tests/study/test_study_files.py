"""A trial belongs to its files: other contents are another point, and are never mixed in one study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_fakes import STUDY, Studies

from collm.component import BuildContext
from collm.errors import DataError, RunError, SpecError
from collm.study.carry_over import migrate
from collm.study.definition import changed_files
from collm.study.records import ClaimedTrial, NoTrial, Outcome
from collm.study.run import load_study, run_study
from collm.study.storage import StudyStorage, journal_fault
from collm.study.trial_runner import StudyOptions

FILES = """\
name: base
dataset:
  name: files
  interactions: a.csv
  columns: {user: user, item: item, rating: rating}
  label: {from: rating, positive_above: 3}
  split: {by: random}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3}}
"""
OVER_FILES = STUDY.replace("random, seed: 1", "grid").replace(
    STUDY[STUDY.index("    encoder.embedding_size") :], "    dataset.interactions: [a.csv, b.csv, c.csv]\n"
)


@pytest.fixture
def over_files(studies: Studies) -> Studies:
    (studies.folder / "base.yaml").write_text(FILES, encoding="utf-8")
    for name, content in (("a", "1,2,3\n"), ("b", "1,2,4\n"), ("c", "1,2,3\n")):
        (studies.folder / f"{name}.csv").write_text(f"user,item,rating\n{content}", encoding="utf-8")
    return studies


def change(studies: Studies, name: str = "a.csv") -> None:
    (studies.folder / name).write_text("user,item,rating\n5,5,5\n", encoding="utf-8")


def test_choices_of_other_contents_are_other_points(over_files: Studies) -> None:
    queue = over_files.queue(OVER_FILES)
    ran = []
    while isinstance(found := queue.claim(), ClaimedTrial):
        ran.append(Path(found.spec.plain()["dataset"]["interactions"]).name)
        queue.finish(found.number, Outcome("complete", values=(0.5,)))
    # The third file is a copy of the first: a repeat, because contents decide and not names.
    assert ran == ["a.csv", "b.csv"]
    assert queue.trials()[2].user_attrs["duplicate_of"] == 0


@pytest.mark.parametrize("text", [OVER_FILES, STUDY])
def test_changed_files_are_refused_at_the_next_start(over_files: Studies, text: str) -> None:
    over_files.queue(text)
    change(over_files)
    change_named = r"dataset\.interactions: the contents of the data or weights there changed.*another `name`"
    with pytest.raises(SpecError, match=f"cannot be combined with this one: .*{change_named}"):
        over_files.queue(text)
    with pytest.raises(SpecError, match="more than the search space changed"):
        migrate(over_files.check(text), StudyStorage(over_files.check(text).file.storage))


def test_files_that_change_under_way_stop_the_worker(over_files: Studies) -> None:
    queue = over_files.queue(STUDY)
    first = queue.claim()
    assert isinstance(first, ClaimedTrial)
    queue.finish(first.number, Outcome("complete", values=(0.5,)))
    change(over_files)
    with pytest.raises(RunError, match=r"contents of .*dataset\.interactions changed since the study was begun"):
        queue.claim()


def test_a_file_that_goes_away_fails_its_trial(over_files: Studies) -> None:
    queue = over_files.queue(OVER_FILES)
    (over_files.folder / "b.csv").unlink()
    while not isinstance(found := queue.claim(), NoTrial):
        queue.finish(found.number, Outcome("complete", values=(0.5,)))
    assert "b.csv" in queue.trials()[1].user_attrs["cause"]


def test_a_missing_choice_is_said_before_the_first_trial(over_files: Studies) -> None:
    (over_files.folder / "b.csv").unlink()
    (over_files.folder / "study.yaml").write_text(OVER_FILES, encoding="utf-8")
    options = StudyOptions(over_files.folder / "runs", over_files.folder / "cache", threads=1)
    folder, registry = over_files.folder, over_files.registry
    with pytest.raises(SpecError, match=r"study\.yaml:9:35: dataset\.interactions: '.*b\.csv': no such file"):
        run_study(load_study(folder / "study.yaml", (), registry, cwd=folder, options=options), options, registry)


def test_a_study_of_an_earlier_version_knows_no_files() -> None:
    assert changed_files({"schema": 1}, {"dataset": "x"}) == []
    assert changed_files(None, {"dataset": "x"}) == []
    assert changed_files({"files": {"dataset": ["x"]}}, {"dataset": "x"}) == []
    assert changed_files({"files": {"dataset": ["y"]}}, {"dataset": "x"}) == ["dataset"]


@pytest.mark.parametrize(
    ("damage", "line", "said"),
    [
        (lambda lines: [*lines[:1], b"\0" * 512 + b"\n", *lines[1:]], 2, "damaged"),
        (lambda lines: [*lines, b"[1, 2]\n"], None, "lacks op_code, worker_id"),
        (lambda lines: [*lines, b"{}\n"], None, "lacks op_code, worker_id"),
        (lambda lines: [lines[0], lines[1][:10] + b"\n", *lines[2:]], 2, "damaged"),
        (lambda lines: [*lines, b"\xff\xfe\n"], None, "damaged"),
    ],
)
def test_a_damaged_line_of_the_journal_is_named(studies: Studies, damage, line: int | None, said: str) -> None:
    queue = studies.queue()
    assert isinstance(queue.claim(), ClaimedTrial)
    path = studies.folder / "studies.log"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 2
    assert journal_fault(path) == ""
    path.write_bytes(b"".join(damage(lines)))
    with pytest.raises(RunError, match=rf"studies\.log: line {line or len(lines) + 1} is damaged.*Keep a copy"):
        studies.queue()
    assert said in journal_fault(path)


def test_a_torn_last_line_is_no_damage(studies: Studies) -> None:
    studies.queue()
    path = studies.folder / "studies.log"
    path.write_bytes(path.read_bytes() + b'{"op_co')
    assert journal_fault(path) == ""
    studies.queue()


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            "encoder.embedding_size: {low: 1, high: 1" + "0" * 400 + "}",
            "not a finite number of a size that can be used",
        ),
        ("encoder.fit.learning_rate: {low: 1e-300, high: 1e300, step: 1e-300}", "makes more than 1,000,000,000 steps"),
        ("encoder.fit.learning_rate: {low: -1.7e308, high: 1.7e308}", "too far from low"),
    ],
)
def test_numbers_that_no_range_holds_are_located(studies: Studies, search: str, said: str) -> None:
    text = STUDY[: STUDY.index("    encoder.embedding_size")] + f"    {search}\n"
    problems = studies.problems(text)
    assert any(said in str(problem) and problem.line == 9 for problem in problems)


@pytest.mark.parametrize("storage", ["journal:~nosuchuser/x", "sqlite:///~nosuchuser/x", '"journal:a\\0b"'])
def test_storages_that_cannot_be_are_located(studies: Studies, storage: str) -> None:
    text = STUDY.replace("journal:studies.log", storage)
    assert str(studies.problems(text)[0]).startswith(str(studies.folder / "study.yaml") + ":7:12: study.storage: ")


def test_a_grid_without_end_is_refused(studies: Studies) -> None:
    text = STUDY.replace("random, seed: 1", "grid").replace("{choices: [2, 4, 8]}", "{low: 1, high: 100000000000}")
    text = text.replace("{low: 1.0e-4, high: 1.0e-2, log: true}", "[0.1, 0.2]")
    (problem,) = studies.problems(text)
    assert "the grid has 200,000,000,000 points, at most 100,000: use tpe or random" in str(problem)


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:p@ss:w/rd@host", "postgresql://me:se cret@host", "mysql://me:secret@host/db"],
)
def test_no_message_shows_a_password(studies: Studies, address: str) -> None:
    problems = studies.problems(STUDY.replace("journal:studies.log", json.dumps(address)))
    said = "\n".join(map(str, problems))
    assert "study.storage" in said
    for part in ("p@ss", "w/rd", "secret", "cret"):
        assert part not in said


def test_contexts_are_built_without_a_cache(studies: Studies) -> None:
    with pytest.raises(DataError, match=r"ratings\.csv"):
        (studies.folder / "data" / "ratings.csv").unlink()
        checked = studies.check()
        assert isinstance(checked.context, BuildContext)
        checked.contents(checked.trial(checked.file.space.first()))
