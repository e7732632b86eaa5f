from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.spec.expand import Suite, load_any
from collm.spec.model import ResolvedSpec

RUNS = """\
name: quick
base: base.yaml
runs:
  mf: {backbone: null, prompt: null, tuning: null}
  text-only: {encoder: null, tuning: {name: text-only}}
  collm-mf: {}
"""


@pytest.fixture
def expand(write: Callable[..., Path], registry: Registry, full: str, tmp_path: Path) -> Callable[..., Suite]:
    write(full + "seed: 5\n", "specs/base.yaml")

    def load(text: str, *overrides: str) -> Suite:
        suite = load_any(write(text, "specs/suite.yaml"), overrides, registry, cwd=tmp_path / "cwd")
        assert isinstance(suite, Suite)
        return suite

    return load


def problems(expand: Callable[..., Suite], text: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError, match=r".") as caught:
        expand(text, *overrides)
    return caught.value.problems


def keys(suite: Suite) -> list[str]:
    return [run.key for run in suite.runs]


def test_runs(expand: Callable[..., Suite], tmp_path: Path) -> None:
    suite = expand(RUNS)
    assert suite.name == "quick"
    assert keys(suite) == ["mf", "text-only", "collm-mf"]
    mf, text, collm = (run.spec for run in suite.runs)
    assert mf.backbone is None
    assert mf.name == "quick-mf"
    assert (mf.seed, suite.runs[0].seed) == (5, 5)
    assert text.encoder is None
    assert text.tuning is not None
    assert text.tuning.name == "text-only"
    assert collm.plain()["encoder"]["embedding_size"] == 8
    assert collm.dataset.path == tmp_path / "specs" / "raw"


def test_a_plain_spec_is_not_a_suite(write: Callable[..., Path], registry: Registry, full: str) -> None:
    assert isinstance(load_any(write(full), [], registry, cwd=Path()), ResolvedSpec)


def test_inline_base_seeds_and_keys(expand: Callable[..., Suite]) -> None:
    text = "name: s\nbase: {dataset: {name: movies}, encoder: {name: mf}}\nseeds: [0, 3]\n"
    suite = expand(text)
    assert keys(suite) == ["base-seed0", "base-seed3"]
    assert [(run.run, run.seed, run.spec.seed, run.spec.name) for run in suite.runs] == [
        ("base", 0, 0, "s-base"),
        ("base", 3, 3, "s-base"),
    ]
    assert keys(expand(text.replace("[0, 3]", "[3]"))) == ["base"]


def test_overrides_merge_and_a_new_name_replaces(expand: Callable[..., Suite]) -> None:
    runs = "name: s\nbase: base.yaml\nruns:\n  a: {encoder: {fit: {epochs: 3}}, tuning.clip_norm: null}\n"
    runs += "  b: {encoder: {name: text-din, text_backbone: {name: tiny}}}\n"
    a, b = (run.spec.plain() for run in expand(runs).runs)
    assert (a["encoder"]["embedding_size"], a["encoder"]["fit"]["epochs"]) == (8, 3)
    assert a["encoder"]["fit"]["learning_rate"] == 1e-3
    assert a["tuning"]["clip_norm"] is None
    assert b["encoder"]["embedding_size"] == 64


def test_set_changes_the_base_and_reaches_replaced_sections(expand: Callable[..., Suite]) -> None:
    overrides = ("tuning.max_rows=9", "tuning.collaborative.epochs=2", "dataset.path=d")
    _, text, collm = (run.spec for run in expand(RUNS, *overrides).runs)
    assert text.tuning is not None
    assert collm.tuning is not None
    assert (text.tuning.max_rows, collm.tuning.max_rows) == (9, 9)
    assert not hasattr(text.tuning, "collaborative")
    assert text.dataset.path is not None
    assert text.dataset.path.parts[-2:] == ("cwd", "d")
    assert text.sources["tuning.max_rows"] == "--set"


def test_set_stands_above_what_a_replaced_section_restates(expand: Callable[..., Suite]) -> None:
    runs = "name: s\nbase: base.yaml\nruns:\n  default: {}\n  varied: {tuning.max_rows: 3}\n"
    runs += "  text: {encoder: null, tuning: {name: text-only, max_rows: 5, clip_norm: 2.0}}\n"
    default, varied, text = (run.spec.tuning for run in expand(runs, "tuning.max_rows=9").runs)
    assert [default.max_rows, varied.max_rows, text.max_rows] == [9, 3, 9]
    assert text.clip_norm == 2.0
    assert text.name == "text-only"


def test_matrix_crosses_and_exclude_takes_out(expand: Callable[..., Suite]) -> None:
    text = RUNS.replace("  mf: {backbone: null, prompt: null, tuning: null}\n", "")
    text += "matrix: {backbone.name: [tiny, large], encoder.embedding_size: [4]}\nseeds: [0, 1]\n"
    text = text.replace("  text-only: {encoder: null, tuning: {name: text-only}}\n", "  other: {seed: 7}\n")
    text += "exclude:\n  - {run: other, seed: 1}\n  - collm-mf-large-embedding_size4\n"
    assert keys(expand(text)) == [
        "other-tiny-embedding_size4-seed0",
        "other-large-embedding_size4-seed0",
        "collm-mf-tiny-embedding_size4-seed0",
        "collm-mf-tiny-embedding_size4-seed1",
    ]
    assert "matches no run" in problems(expand, text.replace("seed: 1}", "seed: 9}"))[0].message
    (alone,) = problems(expand, "name: s\nbase: base.yaml\nexclude: [demo]\n")
    assert alone.message == "every run is excluded"


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "part"),
    [
        ("name: quick\n", "", 1, "name", "name of the suite"),
        ("name: quick", "name: a/b", 1, "name", "must be letters"),
        ("base: base.yaml", "base: bse.yaml", 2, "base", "did you mean"),
        ("base: base.yaml", "base: suite.yaml", 2, "base", "leads back to itself"),
        ("base: base.yaml", "base: [1]", 2, "base", "must be a file name or a spec"),
        ("base: base.yaml\n", "", 1, "base", "required"),
        ("runs:", "run:", 3, "run", "did you mean 'runs'?"),
        ("runs:", "seed: 1\nruns:", 3, "seed", "belongs in `base`"),
        ("collm-mf: {}", "collm-mf: 3", 6, "runs.collm-mf", "must be a mapping of overrides"),
        ("collm-mf: {}", "collm-mf: {encodr: null}", 6, "runs.collm-mf.encodr", "did you mean 'encoder'?"),
        ("collm-mf: {}", "collm-mf: {name: x}", 6, "runs.collm-mf.name", "unknown section 'name'"),
        ("collm-mf: {}", "a/b: {}", 6, "runs.a/b", "must be letters"),
        ("collm-mf: {}", "collm-mf: {encoder: {name: mff}}", 6, "runs.collm-mf.encoder.name", "did you mean 'mf'?"),
        ("collm-mf: {}", "collm-mf: {tuning: null}", 6, "runs.collm-mf.tuning", "`tuning` is missing"),
        ("collm-mf: {}", "collm-mf: {}\nseeds: [0, 0]", 7, "seeds[1]", "is given twice"),
        ("collm-mf: {}", "collm-mf: {}\nseeds: [yes]", 7, "seeds[0]", "must be a whole number"),
        ("collm-mf: {}", "collm-mf: {}\nseeds: 3", 7, "seeds", "must be a list"),
        ("collm-mf: {}", "collm-mf: {}\nmatrix: {seed: [1]}", 7, "matrix.seed", "use `seeds`"),
        ("collm-mf: {}", "collm-mf: {}\nmatrix: {encodr.name: [mf]}", 7, "matrix.encodr.name", "dotted path"),
        ("collm-mf: {}", "collm-mf: {}\nmatrix: {encoder.name: mf}", 7, "matrix.encoder.name", "list of values"),
        ("collm-mf: {}", "collm-mf: {}\nensembles: {a: [mf]}", 7, "ensembles.a", "at least two runs"),
        ("collm-mf: {}", "collm-mf: {}\nensembles: {mf: [mf, collm-mf]}", 7, "ensembles.mf", "has this name already"),
        ("collm-mf: {}", "collm-mf: {}\nensembles: {a: [mf, colm-mf]}", 7, "ensembles.a[1]", "collm-mf"),
        ("collm-mf: {}", "collm-mf: {}\nensembles: [mf]", 7, "ensembles", "must map names"),
        (
            "collm-mf: {}",
            "collm-mf: {}\nexclude: [mf]\nensembles: {a: [mf, collm-mf]}",
            8,
            "ensembles.a",
            "no cell has all",
        ),
        ("collm-mf: {}", "collm-mf: {}\nexclude: [3]", 7, "exclude[0]", "must be a run's name"),
    ],
)
def test_located_problems(expand: Callable[..., Suite], old: str, new: str, line: int, path: str, part: str) -> None:
    problem = problems(expand, RUNS.replace(old, new))[0]
    assert problem.file.endswith("suite.yaml")
    assert (problem.line, problem.path) == (line, path)
    assert part in problem.message


def test_a_problem_of_the_base_is_reported_once(
    expand: Callable[..., Suite], write: Callable[..., Path], full: str
) -> None:
    write(full.replace("movies", "movis"), "specs/base.yaml")
    (problem,) = problems(expand, RUNS)
    assert problem.file.endswith("base.yaml")
    assert (problem.line, problem.path) == (2, "dataset.name")
    (broken,) = problems(expand, RUNS, "dataset={name: movies}", "colour=red")
    assert (broken.file, broken.path) == ("--set", "colour")


def test_a_base_that_cannot_be_read(expand: Callable[..., Suite], write: Callable[..., Path]) -> None:
    write("a: [1\n", "specs/base.yaml")
    (problem,) = problems(expand, RUNS)
    assert problem.file.endswith("base.yaml")
    assert "not valid YAML" in problem.message


def test_ensembles_stand_once_per_cell_that_has_all_members(expand: Callable[..., Suite]) -> None:
    text = RUNS + "matrix: {history.max_items: [5, 6]}\nseeds: [0, 1]\nensembles: {both: [mf, collm-mf]}\n"
    text += "exclude: [{run: mf, history.max_items: 6, seed: 1}]\n"
    suite = expand(text)
    assert [(each.key, each.run, each.seed, each.members) for each in suite.ensembles] == [
        ("both-max_items5-seed0", "both-max_items5", 0, ("mf-max_items5-seed0", "collm-mf-max_items5-seed0")),
        ("both-max_items5-seed1", "both-max_items5", 1, ("mf-max_items5-seed1", "collm-mf-max_items5-seed1")),
        ("both-max_items6-seed0", "both-max_items6", 0, ("mf-max_items6-seed0", "collm-mf-max_items6-seed0")),
    ]
    assert expand(RUNS).ensembles == ()


AXES = ("epochs", "patience", "batch_size")
MATRIX = "matrix:\n" + "".join(f"  encoder.fit.{name}: {list(range(1, 60))}\n" for name in AXES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MATRIX, "matrix: makes 205,379 runs (59 encoder.fit.epochs x 59 encoder.fit.patience x 59 encoder.fit.batch_"),
        (f"seeds: {list(range(10_001))}\n", "seeds: makes 10,001 runs (10,001 seeds); at most 10,000"),
    ],
    ids=["matrix", "seeds"],
)
def test_a_suite_without_end_is_refused_at_once(expand: Callable[..., Suite], text: str, said: str) -> None:
    (problem,) = problems(expand, "name: many\nbase: base.yaml\n" + text)
    assert said in str(problem)
