"""`collm recommend`: items for a user, from a finished run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collm.cli.context import JsonOption, RunsDirOption, emit_json, emit_table, find_run, say
from collm.cli.score import DeviceOption, RunArgument, opened_run
from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.trained.recommend import Recommendations


def recommend(
    context: typer.Context,
    run: RunArgument,
    user: Annotated[str, typer.Option("--user", help="Raw user id.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="Items to show.")] = 10,
    candidates: Annotated[str, typer.Option(help="`all`, or a text file with one raw item id per line.")] = "all",
    shortlist: Annotated[
        int, typer.Option(min=0, help="Items that the language model ranks at most; 0 = all candidates.")
    ] = 100,
    time: Annotated[
        int | None, typer.Option(help="Seconds since 1970 UTC, or milliseconds. Default: after everything known.")
    ] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items that the user has rated too.")] = False,
    runs_dir: RunsDirOption = Path("runs"),
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend items to a user: the encoder makes a short list, the language model ranks it.

    Example: collm recommend runs/quickstart-collm-mf-bias-c303b1089d --user 15 -k 10
    """
    chosen = None if candidates == "all" else _read_candidates(Path(candidates))
    folder = find_run(run, runs_dir)
    from collm.trained.pairs_file import age_notes
    from collm.trained.recommend import recommend as find_items

    model = opened_run(context, folder, device)
    for note in age_notes(model, timed=time is not None):
        say(note)
    found = find_items(model, user, k=k, candidates=chosen, shortlist=shortlist, time=time, include_seen=include_seen)
    if not found.user_known:
        say(f"user {user} is unknown: no history, ranked as a cold user")
    if as_json:
        emit_json({"schema": 1, "run": str(folder), **asdict(found)})
    else:
        _show(found, in_prompt=model.spec.backbone is not None)


def _read_candidates(path: Path) -> list[str]:
    try:
        # Lines end at a newline alone: ids may hold other characters that Unicode calls line ends.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as error:
        raise UsageError(f"--candidates {path}: cannot be read ({error.strerror}); give `all` or a file") from error
    except ValueError as error:
        raise UsageError(f"--candidates {path}: not UTF-8 text ({error}); save the file as UTF-8") from error
    found = [line for line in lines if line]
    if not found:
        raise UsageError(f"--candidates {path}: holds no item id")
    return found


def _show(found: Recommendations, *, in_prompt: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    ranked = found.shortlist_by != "none"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("title", overflow="fold")
    table.add_column("item")
    for name in ("probability", *(("rank in short list",) if ranked else ()), "training rows"):
        table.add_column(name, justify="right")
    for place, item in enumerate(found.items, start=1):
        rank = (str(item.shortlist_rank),) if ranked else ()
        numbers = (f"{item.probability:.4f}", *rank, str(item.train_rows))
        table.add_row(str(place), Text(item.title), Text(item.item), *numbers)
    emit_table(*(Text(head) for head in _heads(found, in_prompt=in_prompt)), table)


def _heads(found: Recommendations, *, in_prompt: bool) -> list[str]:
    """Returns the lines above the table."""
    rated = f", {found.n_rated} left out as rated" if found.n_rated else ""
    how = f", short list of {found.n_ranked} by {found.shortlist_by}"
    if found.shortlist_by == "none":
        how = f", {found.n_ranked} ranked" if found.n_rated else ""
    heads = [f"user {found.user}: {found.n_candidates} candidates{rated}{how}"]
    heads.append(f"{'history used' if in_prompt else 'liked last'}: {'; '.join(found.history) or 'none'}")
    if found.disliked:
        heads.append(f"disliked: {'; '.join(found.disliked)}")
    if found.prompts_differ:
        heads.append("these titles are in the prompt of item 1; prompts of other items have others")
    return heads
