"""Entry point of the `collm` command: global options, the list of commands, and the one place where errors end."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

import collm
from collm.cli import (
    bench,
    data,
    doctor,
    fetch,
    plugins,
    prompt,
    recommend,
    report,
    run,
    runs,
    score,
    serve,
    study,
    update,
    validate,
)
from collm.cli.context import CliState
from collm.cli.output import complain, drop_result, flush_result, own_streams, say
from collm.cli.processes import is_main_process, keep_freed_memory, n_processes
from collm.errors import CollmError, UsageError, out_of_memory
from collm.process_group import ProcessFailed

INTERRUPTED = 130
FAILED = 1
# A launcher ends all processes as soon as one has failed: the silent ones exit after the one that reports.
LINGER_S = 1.0
SHARED_COMMANDS = ("run",)

# Plain help: it reads the same on a terminal, in a pipe and in the docs copy.
app = typer.Typer(name="collm", rich_markup_mode=None, add_completion=True, no_args_is_help=True)

app.command("run")(run.run)
app.command("validate")(validate.validate)
app.command("prompt")(prompt.prompt)
app.add_typer(study.app, name="study")
app.command("report")(report.report)
app.command("score")(score.score)
app.command("scores")(score.scores)
app.command("recommend")(recommend.recommend)
app.command("update")(update.update)
app.command("serve")(serve.serve)
app.command("export")(score.export)
app.command("plugins")(plugins.plugins)
app.add_typer(plugins.app, name="plugin")
app.command("fetch")(fetch.fetch)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.command("schema")(validate.schema)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"collm {collm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    strict_plugins: Annotated[
        bool, typer.Option("--strict-plugins", help="Treat a broken plugin as an error instead of leaving it out.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Experiments with language models and collaborative signals: one YAML file in, an honest table out.

    stdout carries the result, stderr everything else. Exit codes: 0 done, 1 run failed, 2 bad command or spec,
    3 plugin problem, 130 interrupted.

    Example: collm run experiments/quickstart.yaml
    """
    command = context.invoked_subcommand
    if command not in SHARED_COMMANDS and n_processes() > 1:
        raise UsageError(f"`collm {command}` works in one process: start it without a launcher")
    words = context.obj.command if isinstance(context.obj, CliState) else ()
    context.obj = CliState(debug=debug, strict_plugins=strict_plugins, command=words)


def command_tree() -> TyperGroup:
    """Returns the group of all commands, for help pages."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return command


def call(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; every error of a command ends here.

    Args:
        arguments: Words after `collm`.
    """
    debug = "--debug" in arguments
    try:
        # The state that commands find begins as the words of the command line.
        code = command_tree().main(
            list(arguments), prog_name="collm", standalone_mode=False, obj=CliState(command=tuple(arguments))
        )
        flush_result()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except typer.TyperException as error:
        return _usage_error(error)
    except typer.Abort as error:
        # Click takes the end of a file or connection for an interrupt.
        if isinstance(error.__cause__, EOFError):
            return _bug(error.__cause__, debug=debug)
        code = INTERRUPTED
    except CollmError as error:
        if debug:
            complain(traceback.format_exc())
        say(str(error))
        return _left_last(error.exit_code)
    except ProcessFailed as error:
        if debug:
            complain(traceback.format_exc())
        if not error.already_reported:
            complain(str(error))
        return _left_last(FAILED)
    except BrokenPipeError:
        # The reader went away (`| head`): not an error. Closing what is left must not raise again at exit.
        drop_result()
        return FAILED
    # The last boundary: a bug ends in one line, and in its traceback on request.
    except Exception as error:  # noqa: BLE001
        return _bug(error, debug=debug)
    if code == INTERRUPTED:
        say("interrupted; the same command continues from the last checkpoint")
    return code if isinstance(code, int) else 0


def _bug(error: BaseException, *, debug: bool) -> int:
    if debug:
        complain("".join(traceback.format_exception(error)))
    if cause := out_of_memory(error):
        complain(cause)
        return FAILED
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        drop_result()
        complain(f"no space left on the disk of {error.filename or 'the output'}; free some and repeat the command")
        return FAILED
    complain(f"unexpected {type(error).__name__}: {error}")
    if not debug:
        say("this is a bug in collm or in a plugin; repeat with `collm --debug ...` to see where")
    return FAILED


def _left_last(code: int) -> int:
    if not is_main_process():
        time.sleep(LINGER_S)
    return code


def _usage_error(error: typer.TyperException) -> int:
    show = getattr(error, "show", None)
    if callable(show):
        written = io.StringIO()
        show(file=written)
        complain(written.getvalue().rstrip("\n"))
    else:
        say(str(error))
    return int(getattr(error, "exit_code", 2))


def main() -> NoReturn:
    """Runs the command line of this process."""
    # Threads that wait by spinning make a busy machine many times slower; read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    own_streams()
    code = call(sys.argv[1:])
    with contextlib.suppress(OSError):
        flush_result()
    sys.exit(code)


__all__ = ["TyperCommand", "app", "call", "command_tree", "main"]
