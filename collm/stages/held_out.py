"""Which training rows an encoder is fitted on, and which a tuning step is left to itself.

An encoder has seen the labels of its own training rows, so its vectors say more of those rows than of any other, and a
mapping tuned on them learns to trust the vectors too much. A step with `rows: held-out` tunes on the latest training
rows, and the encoder is fitted without them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from collm.contracts.encoder import EncoderConfig
from collm.contracts.tuning import Group, StepConfig, StepRows, TuneStep, TuningConfig
from collm.data.draws import draw_whole_groups
from collm.data.prepared import PreparedData, Rows
from collm.engine.device import derive_seed
from collm.registry import Registry
from collm.spec.model import ResolvedSpec
from collm.stages.fit_encoder import fit_encoder
from collm.stages.prepare_data import PreparedStage
from collm.stages.stage import RunContext, StageResult

# What each of several groups that train in one step has for itself.
OWN_SETTINGS = frozenset({"learning_rate", "weight_decay"})


def rows_setting(step: TuneStep) -> StepRows:
    """Returns which training rows a step tunes on: the setting of the first group that trains."""
    return step.optimiser[step.trained[0]].rows


def unread_settings(step: TuneStep) -> str:
    """Returns a sentence on settings that a step does not read, empty where it reads all of them.

    Several groups that train in one step have one course: only rates and decay are each group's own.
    """
    lead, *others = step.trained
    read = step.optimiser[lead]
    found = [
        f"{field} {_plain(getattr(read, field))}, not {_plain(getattr(step.optimiser[group], field))} of {group}"
        for group in others
        for field in StepConfig.model_fields
        if field not in OWN_SETTINGS and getattr(step.optimiser[group], field) != getattr(read, field)
    ]
    if not found:
        return ""
    groups = " and ".join((lead, *others))
    return f"Step {step.name} trains {groups} together with the settings of {lead}: {'; '.join(found)}."


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else "null" if value is None else str(value)


def fit_note(is_fitted: Mapping[str, bool], *, trained: Collection[Group], n_rows: int, n_seen: int) -> str:
    """Returns the clauses on what encoders and floors of a tuned run were fitted on.

    Args:
        is_fitted: Name -> whether the encoder was fitted before tuning; the empty name where there is one.
        trained: Groups that tuning trains.
        n_rows: Training rows.
        n_seen: Training rows that encoders see.
    """
    fitted, others = ([name for name, each in is_fitted.items() if each == wanted] for wanted in (True, False))
    floors = f"floors were fitted on all {n_rows:,}"
    if fitted:
        who, verb = _named(fitted, len(is_fitted))
        floors = f"{who} and {floors}"
        if n_seen < n_rows:
            floors = f"{who} {verb} fitted on the earliest {n_seen:,}, floors on all {n_rows:,}"
    if not others:
        return floors
    who, verb = _named(others, len(is_fitted))
    learns = ", tuning trains {} from initial weights".format("it" if len(others) == 1 else "them")
    return f"{floors}; {who} {verb} not fitted before{learns if 'encoder' in trained else ''}"


def _named(names: Sequence[str], n_encoders: int) -> tuple[str, str]:
    """Returns how a sentence calls some of a run's encoders, and its verb."""
    if len(names) == n_encoders:
        return ("the encoder", "was") if n_encoders == 1 else ("the encoders", "were")
    return (f"encoder {names[0]}", "was") if len(names) == 1 else (f"encoders {' and '.join(names)}", "were")


def held_out_share(spec: ResolvedSpec, registry: Registry) -> float:
    """Returns the share of training rows that the spec's encoder does not see; 0 where it sees all of them."""
    if spec.tuning is None or not spec.all_encoders:
        return 0.0
    steps: Sequence[TuneStep] = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning).plan()
    return spec.tuning.held_out_share if any(rows_setting(step) == "held-out" for step in steps) else 0.0


def fitted_encoders(spec: ResolvedSpec, registry: Registry) -> dict[str, EncoderConfig]:
    """Returns the encoders of a language-model run that are fitted before it is tuned.

    That is all of them where a step starts from fitted encoders, else (T2 trains them from scratch) those that give
    words, which no step trains.
    """
    if spec.tuning is None:
        return {}
    steps: Sequence[TuneStep] = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning).plan()
    if any("encoder" in step.groups and step.groups["encoder"].start == "pretrained" for step in steps):
        return spec.all_encoders
    return {
        name: config
        for name, config in spec.all_encoders.items()
        if "words" in registry.get("encoder", config.name).gives
    }


def fit_encoders(run: RunContext, prepared: PreparedStage, *, words_only: bool = False) -> dict[str, StageResult]:
    """Fits the encoders of a language-model run, each on the rows that it may see.

    Args:
        run: The run; its spec has a backbone.
        prepared: Its data.
        words_only: Whether only those are fitted whose words appear in prompts.

    Returns:
        Name -> finished stage.
    """
    held_out = held_out_share(run.spec, run.registry)
    upstream, view = encoder_upstream(prepared.stage.fingerprint, held_out), encoder_view(prepared.data, held_out)
    return {
        name: fit_encoder(run, config, view, upstream=upstream)
        for name, config in fitted_encoders(run.spec, run.registry).items()
        if not words_only or "words" in run.registry.get("encoder", config.name).gives
    }


def training_rows(data: PreparedData, step: TuneStep, tuning: TuningConfig, *, seed: int) -> Rows:
    """Returns the rows that a step tunes on, in source order.

    Args:
        data: Prepared data with its whole training split.
        step: The step.
        tuning: Says how many rows at most, and which share is held out.
        seed: The run's seed.
    """
    rows = data.rows("train")
    if rows_setting(step) == "held-out":
        rows = rows.take(is_held_out(rows, tuning.held_out_share))
    if tuning.max_rows is None or tuning.max_rows >= len(rows):
        return rows
    # Whole users would be few, and each of one taste; rows that share a prefix cost least together.
    return draw_whole_groups(rows, data.history_groups(rows), tuning.max_rows, derive_seed(seed, "tune"))


def encoder_view(data: PreparedData, share: float) -> PreparedData:
    """Returns the data as the encoder is fitted on it: without the latest `share` of training rows."""
    if not share:
        return data
    rows = data.rows("train")
    return data.trained_on(rows.take(~is_held_out(rows, share)))


def is_held_out(rows: Rows, share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Marks the latest rows; a second is never divided, so they may be a few more than the share.

    Args:
        rows: Training rows.
        share: Share of them, in (0, 1).

    Returns:
        bool [n_rows].
    """
    cut = np.sort(rows.timestamp)[min(len(rows) - 1, int(np.floor(len(rows) * (1 - share))))]
    return np.asarray(rows.timestamp >= cut)


def encoder_upstream(fingerprint: str, share: float) -> str:
    """Returns what an encoder's fit builds on: the data's fingerprint, and the share that it does not see."""
    return f"{fingerprint} without the latest {share:g} of training rows" if share else fingerprint
