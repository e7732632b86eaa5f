"""Notes of a report name what they are about."""

from __future__ import annotations

import polars as pl
from report_fakes import WriteRun, gather, scores

from collm.registry import Registry
from collm.report.methods import MEAN
from collm.report.summary import summarise
from collm.rescore import Measure


def test_notes_name_the_methods_that_they_are_about(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    own = {1: ["of two"], 2: ["of one"], 3: ["of two"]}
    folders = [
        write_run("mf", noise=0.5, notes=["shared", "mf alone"]),
        *(write_run("collm", seed=seed, notes=["shared", *own[seed]]) for seed in (3, 2, 1)),
    ]
    notes = summarise(gather(registry, *folders), measure).notes
    expected = {"shared", "mf: mf alone", "collm (seed 2): of one", "collm (seeds 1, 3): of two"}
    assert expected <= set(notes)


def test_one_seed_on_other_data_is_not_a_matter_of_seeds(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    before = write_run("mf")
    (before.parents[1] / "before").mkdir()
    before = before.rename(before.parents[1] / "before" / before.name)
    after = write_run("mf", frame=scores(1.0).with_columns(label=1 - pl.col("label")))
    notes = summarise(gather(registry, before, after), measure).notes
    assert any(note.startswith("mf: runs of one seed are in several sets") for note in notes)
    assert not any("dataset.limit.seed" in note for note in notes)


def test_a_note_of_one_seed_is_not_of_the_seeds_in_other_blocks(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    folders = [
        write_run("mf", notes=["shared", "of one"]),
        write_run("mf", seed=1, frame=scores(1.0).head(400), notes=["shared"]),
    ]
    notes = summarise(gather(registry, *folders), measure).notes
    assert "mf (seed 0): of one" in notes
    assert "shared" in notes


def test_a_mean_of_scores_is_not_another_training(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    spec = {"backbone": {"name": "tiny"}, "tuning": {"name": "default"}}
    folders = [write_run("a", spec=spec), write_run("b", spec=spec), write_run("c", facts={"ensemble": {}})]
    summary = summarise(gather(registry, *folders), measure)
    assert [line.fidelity for line in summary.blocks[0].methods] == ["tiny, not tuned", "tiny, not tuned", MEAN]
    assert not any("were trained differently" in note for note in summary.notes)
