"""`collm serve`: a finished run behind HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from collm.cli.context import RunsDirOption, find_run, say, state_of
from collm.cli.score import DeviceOption, DtypeOption, RunArgument, opened_run
from collm.errors import UsageError

TOKEN_VARIABLE = "COLLM_SERVE_TOKEN"


def serve(
    context: typer.Context,
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 = any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=f"File with the token that requests must carry. Default: ${TOKEN_VARIABLE}, if set."
        ),
    ] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Pairs, or items to rank, of one request at most.")] = 1000,
    queue_rows: Annotated[
        int, typer.Option(min=1, help="Rows that may wait for the model; beyond them requests get a 503.")
    ] = 10_000,
    stop_seconds: Annotated[
        int, typer.Option(min=1, help="After SIGTERM or Ctrl-C, time in which what was taken is answered.")
    ] = 60,
    dtype: DtypeOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    device: DeviceOption = None,
) -> None:
    """Answer requests over HTTP with a finished run: POST /score, POST /recommend, GET /health, a page at /docs.

    Requests that wait at the same time are scored together, those of one user and history with one shared prompt
    beginning. Answers are the numbers of `collm score` and `collm recommend`.

    Example: collm serve runs/quickstart-collm-mf-bias-c303b1089d --port 8000
    """
    folder = find_run(run, runs_dir)
    token = _token(token_file)
    require_libraries()
    from collm.serve.server import ServeSettings, bind, check_token, load
    from collm.serve.server import serve as answer_requests

    if token is not None:
        token = check_token(token, source=f"--token-file {token_file}" if token_file else TOKEN_VARIABLE)
    bound = bind(host, port, with_token=token is not None)
    with bound:
        model = opened_run(context, folder, device, dtype)
        say(f"loading {folder.name}")
        load(model)
        settings = ServeSettings(
            token=token,
            max_rows=max_rows,
            queue_rows=queue_rows,
            stop_s=stop_seconds,
            debug=state_of(context).debug,
        )
        answer_requests(model, bound, settings, tell=say)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--token-file {file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"--token-file {file}: not UTF-8 text; write the token alone into it") from error


def require_libraries() -> None:
    """Looks for the libraries of the extra `serve`.

    Raises:
        UsageError: If one is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"`collm serve` needs {error.name}: pip install 'collm[serve]'") from error
