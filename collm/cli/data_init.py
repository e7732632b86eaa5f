"""`collm data init`: looks at files, says what their columns seem to mean, and writes a spec that runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collm.cli.context import CliState, JsonOption, emit_json, emit_table, say, state_of
from collm.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from collm.data.guess_columns import ColumnGuess
    from collm.data.read_rows import Sample

_ROLES = ("user", "item", "rating", "label", "timestamp", "title", "split", "items_key")
_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 24


def init(
    context: typer.Context,
    interactions: Annotated[
        Path, typer.Argument(help="Interactions: CSV, TSV, JSON lines (also .gz) or parquet.", show_default=False)
    ],
    items: Annotated[Path | None, typer.Argument(help="Items with titles, likewise.", show_default=False)] = None,
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
    force: Annotated[bool, typer.Option("--force", help="Overwrite the spec if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at files, say what their columns seem to mean and why, and write a spec that runs on them.

    Example: collm data init ratings.csv movies.csv -o my-data.yaml
    """
    from collm.data.guess_columns import guess_columns
    from collm.data.read_rows import sample_file
    from collm.runs.store import write_atomically
    from collm.scaffold.files_spec import files_spec

    spec = output or Path(interactions.name.removesuffix(".gz")).with_suffix(".yaml")
    if spec.exists() and not force:
        raise UsageError(f"{spec}: is there already; choose another name with -o, or overwrite it with --force")
    samples = [sample_file(path) for path in (interactions, items) if path is not None]
    frames = [sample.rows for sample in samples]
    given = _given(columns or [], [name for frame in frames for name in frame.columns])
    guess = guess_columns(frames[0], frames[1] if items else None, given=given)
    write_atomically(spec, files_spec(interactions, items, guess, spec=spec))
    warnings = _check(state_of(context), spec)
    if as_json:
        emit_json(_as_data(spec, guess, warnings))
    else:
        emit_table(_table(guess, samples))
    for path, sample in zip((interactions, items), samples, strict=False):
        if sample.bad:
            say(
                f"warning: {path}: rows that cannot be used among those looked at ({sample.bad}); "
                "a run stops at them unless dataset.max_bad_rows allows them"
            )
    say(f"wrote {spec}; next: collm run {spec}")


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

    from collm.scaffold.files_spec import split_rule

    table = Table(title=f"read as {' and '.join(sample.format for sample in samples)}", title_justify="left")
    for heading in ("what", "column", "why", "e.g."):
        table.add_column(heading, overflow="fold")
    for role in _ROLES:
        if role in guess.roles:
            found = guess.roles[role]
            table.add_row(role, found.column, found.why, _examples(role, found.column, samples))
    positive = f"rating > {guess.positive_above:g}" if guess.positive_above is not None else "label = 1"
    table.add_row("positive", positive, guess.why_positive or "a ready 0/1 column", "")
    rule, why = split_rule(guess)
    table.add_row("split", rule, why, "")
    if guess.unused:
        table.add_row("not used", ", ".join(guess.unused), "; ".join(guess.doubts), "")
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
        "doubts": list(guess.doubts),
        "positive_above": guess.positive_above,
        "warnings": list(warnings),
    }
