"""A metric without the rows that the leak checks found beside scikit-learn on what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from leak_tables import changed, clean_table, prepared
from sklearn.metrics import roc_auc_score

from collm.inspect.leak_checks import find_leaks
from collm.inspect.without_rows import ALL_LEAKS, without_rows
from collm.registry import default_registry
from collm.stages.evaluate import build_metrics


def test_measures_what_is_left(tmp_path: Path) -> None:
    table = clean_table()
    rows = table.frame.filter(table.frame["split"] == "test")["row"].to_list()
    for place, row in enumerate(rows):
        table = changed(table, row, label=place % 2)
    # The training row of the first user's test film again: a repeated pair, whose film appears in the history, too.
    table = changed(table, 5, item=int(table.frame["item"][rows[0]]), label=1)
    data = prepared(table, tmp_path, visibility="all")
    findings = find_leaks(data, max_items=5)
    metrics = build_metrics(["auc"], default_registry())
    test = data.rows("test")
    score = np.linspace(0.1, 0.9, len(test))
    measured = without_rows(data, findings, {"test": score}, metrics, resamples=0)["test"]
    assert measured["all"]["rows"] == len(test)
    assert measured["all"]["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(test.label, score))
    found = {each.check.name: each.affected["test"] for each in findings if each.affected["test"].any()}
    assert {"target-in-history", "repeated-pair"} <= set(found)
    assert set(measured) == {"all", ALL_LEAKS, *found}
    for name, mask in found.items():
        assert measured[name]["rows"] == int((~mask).sum())
        left = np.asarray(test.label)[~mask]
        if len(set(left.tolist())) == 2:
            assert measured[name]["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(left, score[~mask]))
        else:
            assert measured[name]["metrics"]["auc"]["value"] is None
