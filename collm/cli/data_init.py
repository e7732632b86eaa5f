"""`collm data init`: looks at files, explains what their columns seem to mean, and writes a spec that runs."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import CliState, JsonOption, emit_json, emit_table, say, state_of
from collm.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from collm.ingest.read_rows import Sample
    from collm.scaffold.guess_columns import ColumnGuess

_ROLES = ("user", "item", "rating", "label", "timestamp", "title", "split", "items_key")
_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 24
_SHOWN_LINE = 60


class TimesOption(enum.StrEnum):
    """What the timestamps are, where their values leave it open."""

    auto = "auto"
    day_first = "day-first"
    month_first = "month-first"
    spreadsheet_days = "spreadsheet-days"
    days = "days"
    relative = "relative"
    none = "none"


class PositivesOption(enum.StrEnum):
    """How rows with label 0 are drawn where every row is a positive."""

    uniform = "uniform"
    popularity = "popularity"


def init(
    context: typer.Context,
    interactions: Annotated[
        Path,
        typer.Argument(
            help="Interactions: CSV and its relatives, JSON (also .gz) or parquet; a file, or a folder of parts.",
            show_default=False,
        ),
    ],
    items: Annotated[
        Path | None, typer.Argument(help="Items with titles, in the same formats.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Spec to write; default: the file's name with .yaml.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="ROLE=NAME",
            help="Say what a column is instead of having it guessed, e.g. `user=customer`. Repeatable.",
            show_default=False,
        ),
    ] = None,
    times: Annotated[
        TimesOption,
        typer.Option(help="What the timestamps are, where the values leave it open; none: the file has no times."),
    ] = TimesOption.auto,
    positives: Annotated[
        PositivesOption | None,
        typer.Option(
            help="Every row is a positive (clicks, purchases): how items that count as not liked are drawn.",
            show_default=False,
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of lines that are not UTF-8, e.g. latin-1. Default: guessed, and reported."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the spec if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at files, explain what their columns seem to mean and why, and write a spec that runs on them.

    Example: collm data init ratings.csv movies.csv -o my-data.yaml
    """
    from collm.runs.store import write_atomically
    from collm.scaffold.files_spec import files_spec

    spec = output or Path(interactions.name.removesuffix(".gz")).with_suffix(".yaml")
    if spec.exists() and not force:
        raise UsageError(f"{spec}: already exists; choose another name with -o, or overwrite it with --force")
    paths = [path for path in (interactions, items) if path is not None]
    samples, encoding, said = _samples(paths, encoding)
    guess = _guess(samples, columns or [], times, positives)
    guess = replace(guess, encoding=encoding)
    if samples[0].is_whole:
        guess = replace(guess, split_by_time=_can_split_by_time(samples[0].rows, guess))
    write_atomically(spec, files_spec(interactions, items, guess, spec=spec))
    warnings = _check(state_of(context), spec)
    if as_json:
        emit_json(_as_data(spec, guess, [*warnings, *guess.warnings, *said]))
    else:
        emit_table(_table(guess, samples))
    for text in (*guess.warnings, *said, *_of_times(guess, times)):
        say(f"warning: {text}")
    for path, sample in zip(paths, samples, strict=True):
        if sample.bad:
            say(
                f"warning: {path}: rows that cannot be used among those looked at ({sample.bad}); "
                "a run stops at them unless dataset.max_bad_rows allows them"
            )
    say(f"wrote {spec}; next: collm run {spec}")


def _samples(paths: Sequence[Path], encoding: str | None) -> tuple[list[Sample], str | None, tuple[str, ...]]:
    """Reads the first rows, again with an encoding where lines are not UTF-8; returns it and what to report of it."""
    from collm.ingest.read_rows import sample_file
    from collm.ingest.text_lines import likely_encoding

    try:
        "".encode(encoding or "utf-8")
    except LookupError as error:
        raise UsageError(f"--encoding {encoding}: not known; e.g. latin-1, cp1252, cp1251, gb18030") from error
    samples = [sample_file(path, encoding=encoding) for path in paths]
    lines = [line for sample in samples for line in sample.not_utf8]
    if not lines or encoding is not None:
        return samples, encoding, ()
    found = likely_encoding(lines)
    shown = lines[0].decode(found).strip()[:_SHOWN_LINE]
    said = (
        f"some lines are not UTF-8 text and are read as {found}, e.g. {shown!r}: where that looks wrong, name their "
        "encoding with --encoding"
    )
    return [sample_file(path, encoding=found) for path in paths], found, (said,)


def _guess(
    samples: Sequence[Sample], columns: Sequence[str], times: TimesOption, positives: PositivesOption | None
) -> ColumnGuess:
    """Guesses the columns; stops where times are there that cannot be read: the split would not be by time."""
    from collm.errors import DataError
    from collm.scaffold.guess_columns import guess_columns

    frames = [sample.rows for sample in samples]
    given = _given(columns, [name for frame in frames for name in frame.columns])
    if positives and (named := [role for role in ("rating", "label") if role in given]):
        raise UsageError(
            f"--positives {positives.value}: every row is a positive, but --column {named[0]} names its label"
        )
    if times is TimesOption.none:
        if "timestamp" in given:
            raise UsageError(f"--times none: but --column timestamp={given['timestamp']} names one; remove one of them")
        frames = [frames[0].drop(*_times_of(frames[0], given)), *frames[1:]]
    form: Any = "auto" if times is TimesOption.none else times.value
    items = frames[1] if len(frames) > 1 else None
    try:
        drawn = positives.value if positives else None
        guess = guess_columns(frames[0], items, given=given, times=form, negatives=drawn)
    except DataError as error:
        raise DataError(f"{error} (read as {samples[0].format})") from error
    if "timestamp" in guess.doubts and "split" not in guess.roles and times is not TimesOption.none:
        raise DataError(
            f"{guess.doubts['timestamp']}. Without times the split would be random, and training would see rows "
            "that are later than test rows. Say what they are with --times, or that the file has none: --times none"
        )
    return guess


def _times_of(frame: pl.DataFrame, given: Mapping[str, str]) -> list[str]:
    """Returns the columns that would be taken for times."""
    from collm.scaffold.column_names import what_it_holds

    free = [name for name in frame.columns if name not in given.values()]
    return [name for name in free if what_it_holds("timestamp", frame[name], "auto")]


def _can_split_by_time(frame: pl.DataFrame, guess: ColumnGuess) -> bool:
    from collm.contracts.data import SPLITS
    from collm.data.split import split_by_global_time
    from collm.ingest.times import recognise_times

    if "timestamp" not in guess.roles:
        return True
    seconds = recognise_times(frame[guess.roles["timestamp"].column], guess.times).seconds().drop_nulls()
    return bool(split_by_global_time(seconds, valid=0.1, test=0.1).n_unique() == len(SPLITS))


def _of_times(guess: ColumnGuess, times: TimesOption) -> list[str]:
    if "split" in guess.roles:
        return []
    if "timestamp" in guess.roles:
        few = "rows are split at random: too many of them have the same time for a split by time"
        return [] if guess.split_by_time else [f"{few}; training sees rows that may be later than test rows"]
    why = "you said so" if times is TimesOption.none else "no column holds times; if one does: --column timestamp=NAME"
    return [
        f"rows are split at random ({why}): training sees rows that may be later than test rows, and a user's history "
        "follows the order of the file"
    ]


def _given(columns: Sequence[str], available: Sequence[str]) -> dict[str, str]:
    given = {}
    for each in columns:
        role, equals, name = each.partition("=")
        if not equals or role not in _ROLES:
            raise UsageError(f"--column {each}: must be ROLE=NAME, with a role of {', '.join(_ROLES)}")
        if name not in available:
            raise UsageError(
                f"--column {each}: no column '{name}'; the files have {', '.join(dict.fromkeys(available))}"
            )
        given[role] = name
    return given


def _check(state: CliState, spec: Path) -> tuple[str, ...]:
    """Holds the written spec against the same rules as `collm validate`; returns its dataset's warnings."""
    from collm.spec.model import ResolvedSpec

    loaded = state.load(spec, None)
    return loaded.dataset.warnings() if isinstance(loaded, ResolvedSpec) else ()


def _table(guess: ColumnGuess, samples: Sequence[Sample]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from collm.scaffold.files_spec import split_rule

    table = Table(title=Text(f"read as {' and '.join(sample.format for sample in samples)}"), title_justify="left")
    for heading in ("what", "column", "why", "e.g."):
        table.add_column(heading, overflow="fold")

    def row(*cells: str) -> None:
        # Names and values are the file's own: neither markup nor characters that steer the terminal.
        table.add_row(*(Text("".join(each if each.isprintable() else "\ufffd" for each in cell)) for cell in cells))

    for role in _ROLES:
        if role in guess.roles:
            found = guess.roles[role]
            row(role, found.column, found.why, _examples(role, found.column, samples))
    rating = guess.rating
    if guess.negatives:
        row("positive", "every row", f"you said so; one negative is drawn for each, {guess.negatives}", "")
    else:
        row("values", guess.roles["rating" if rating else "label"].column, "", guess.values)
        positive = f"rating > {rating.positive_above:g}" if rating else "label = 1"
        row("positive", positive, rating.why if rating else "a ready label", "")
    if rating and rating.not_rated:
        row("not rated", ", ".join(f"{each:g}" for each in rating.not_rated), "rows with it are left out", "")
    rule, why = split_rule(guess)
    row("split", rule, why, "")
    if guess.unused:
        row("not used", ", ".join(guess.unused), "; ".join(guess.doubts.values()), "")
    return table


def _examples(role: str, column: str, samples: Sequence[Sample]) -> str:
    of_items = role in ("title", "items_key")
    for sample in reversed(samples) if of_items else samples:
        if column in sample.rows.columns:
            values = sample.rows[column].drop_nulls().unique(maintain_order=True).head(_EXAMPLES)
            return ", ".join(str(value)[:_EXAMPLE_CHARACTERS] for value in values)
    return ""


def _as_data(spec: Path, guess: ColumnGuess, warnings: Sequence[str]) -> dict[str, Any]:
    return {
        "schema": 1,
        "spec": str(spec),
        "columns": {role: {"column": found.column, "why": found.why} for role, found in guess.roles.items()},
        "unused": list(guess.unused),
        "doubts": list(guess.doubts.values()),
        "values": guess.values,
        "positive_above": guess.positive_above,
        "negatives": guess.negatives,
        "not_rated": list(guess.rating.not_rated) if guess.rating else [],
        "warnings": list(warnings),
    }
