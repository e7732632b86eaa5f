"""`collm data`: begin with files of your own, and look at what a dataset holds."""

from __future__ import annotations

import typer

from collm.cli import data_check, data_describe, data_init

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.command("init")(data_init.init)
app.command("describe")(data_describe.describe)
app.command("check")(data_check.check)


@app.callback()
def data() -> None:
    """Make a spec for your own files, and look at what a dataset holds.

    Example: collm data init ratings.csv movies.csv
    """
