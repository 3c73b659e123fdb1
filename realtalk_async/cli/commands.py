"""
The commands of `realtalk-async` and their options.

Each command imports what it needs when it runs, so that all of them start fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from realtalk_async.cli.parsing.click_commands import (
    CannotRun,
    Commands,
    RunCommand,
    read_address,
    refuse_command,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from realtalk_async.cli.config.spec import AppSpec

MODES = ("permanent", "transient", "temporary")


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value and not ctx.resilient_parsing:
        from realtalk_async import __version__

        click.echo(f"realtalk-async, version {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Supervise the child processes of live audio apps, or any command."""


# ---- run


@main.command(
    cls=RunCommand,
    options_metavar="[OPTIONS] [FILE [NAME...] | -- COMMAND...]",
    short_help="Run and supervise a command, or the processes of a file.",
)
@click.argument("file", required=False, metavar="")
@click.argument("names", nargs=-1, metavar="")
@click.option(
    "--check",
    is_flag=True,
    help="Check the file, print the order of the start, and run nothing.",
)
@click.option(
    "--restart",
    type=click.Choice(MODES),
    help="Restart always, after a failure (transient, the default), or never. For TOML "
    "a key of the file.",
)
@click.option(
    "--max-failures",
    type=click.FloatRange(min=0),
    help="Give up above this failure score; it halves every 30 s.  [default: 5]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The PORT of the first process of a Procfile.",
)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The environment of a Procfile, instead of .env beside it.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The path of the log. Without it, the log is temporary, and kept after a failure.",
)
@click.option(
    "--stamp",
    type=click.Choice(["time", "iso", "none"]),
    default="time",
    show_default=True,
    help="The time stamp of each line, for several processes.",
)
@click.option(
    "--quiet", "-q", is_flag=True, help="Print only the output of the processes."
)
@click.option(
    "--no-control", is_flag=True, help="Serve no control socket for ps, logs, stop…"
)
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Serve /metrics, /healthz and /readyz; HOST is 127.0.0.1 if omitted.",
)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    file: str | None,
    names: tuple[str, ...],
    **options: Any,  # noqa: ANN401 - click's
) -> None:
    """
    Run a command, or all processes of a file, and restart them after failures.

    FILE is a Procfile, or TOML if its name ends in .toml. Without FILE and COMMAND,
    realtalk.toml or Procfile in this folder is run. With NAMEs, only these processes of
    the FILE are run, and those that they depend on. The output of a COMMAND is passed
    through unchanged; each line of the processes of a FILE begins with time and name.

    Ctrl-C stops all processes, each after those that depend on it, by its stop ladder
    (SIGTERM, after five seconds SIGKILL, unless the file has another); those that are left
    after the shutdown_timeout of the file (15 s) are killed. A second Ctrl-C kills at once.
    On a terminal, a COMMAND is a job as under the shell: it has the terminal and its keys.

    \b
    Exit code
      0         all processes ended well
      1 to 125  the exit status of the first process that was given up
      126, 127  ... it could not be run: not executable, not found
      128 + n   ... it was killed by signal n
      2         invalid file or options: nothing was run
      130, 143  stopped by Ctrl-C, by SIGTERM; 137: by Ctrl-C twice
    """
    from realtalk_async.cli.config.loader import CommandNotFound
    from realtalk_async.exceptions import RealtalkError

    try:
        load = _loader(ctx, file, names, options)
        spec = load(None)
        if options["check"]:
            _print_check(spec)
            return
        for notice in spec.notices:
            click.echo(str(notice), err=True)
        code = _run(spec, options, None if spec.is_single_command else load)
    except CommandNotFound as exc:
        click.echo(str(exc), err=True)
        sys.exit(exc.code)
    except OSError as exc:
        place = f"{exc.filename}: " if exc.filename else ""
        raise CannotRun(f"{place}{exc.strerror or exc}") from exc
    except (RealtalkError, ImportError) as exc:
        raise CannotRun(str(exc)) from exc
    sys.stdout.flush()
    sys.exit(code)


def _loader(
    ctx: click.Context,
    file: str | None,
    names: tuple[str, ...],
    options: dict[str, Any],
) -> Callable[[AppSpec | None], AppSpec]:
    """Return a function that loads the spec, also again while its processes run."""
    from realtalk_async.cli.config import loader
    from realtalk_async.cli.config.spec import select, with_colours

    restart = loader.RestartOptions(options["restart"], options["max_failures"])
    if ctx.meta["is_command"]:
        if file is not None or not ctx.meta["command"]:
            raise click.UsageError("give either a FILE or -- COMMAND...")
        return lambda _: loader.load_command(ctx.meta["command"], restart)
    found = file or loader.find_file(os.getcwd())
    if found is None:
        raise click.UsageError(
            "there is no realtalk.toml and no Procfile here: give a FILE, or a command "
            "after --, as in: realtalk-async run -- sleep 10"
        )
    refuse_command([found, *names])
    port, env_file = options["port"], options["env_file"]

    def load(running: AppSpec | None) -> AppSpec:
        spec = loader.load_file(found, restart, port, env_file, running)
        is_seen = sys.stdout.isatty()
        return with_colours(select(spec, names), os.environ, is_terminal=is_seen)

    return load


def _print_check(spec: AppSpec) -> None:
    from realtalk_async.cli.config.shell_syntax import syntax_warnings
    from realtalk_async.cli.config.spec import describe_start_order, warnings

    count = len(spec.processes)
    noun = "process" if count == 1 else "processes"
    click.echo(f"{spec.file or 'the command'}: {count} {noun}, no problems")
    click.echo("\n".join(describe_start_order(spec)))
    for line in (*warnings(spec), *syntax_warnings(spec)):
        click.echo(f"warning: {line}", err=True)


def _run(
    spec: AppSpec,
    options: dict[str, Any],
    load: Callable[[AppSpec], AppSpec] | None,
) -> int:
    from realtalk_async.cli.line_format import wants_colour
    from realtalk_async.cli.runner import RunOptions
    from realtalk_async.cli.runner import run as run_spec

    run_options = RunOptions(
        log=options["log"],
        colour=wants_colour(os.environ, is_terminal=sys.stdout.isatty()),
        stamp=options["stamp"],
        quiet=options["quiet"],
        control=not options["no_control"],
        metrics=options["metrics"] and read_address(options["metrics"]),
    )
    return run_spec(spec, run_options, load)


# ---- running apps


def _app_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all commands that send a request to an app."""
    app = click.option(
        "--app", metavar="PID|SOCKET", help="The app, if several are running."
    )
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON value per line."
    )
    return app(as_json(function))


def _send(
    app: str | None,
    *,
    as_json: bool,
    **fields: Any,  # noqa: ANN401 - of a Request
) -> None:
    """Send a request to an app and print the response."""
    from realtalk_async.cli.inspect import print_response
    from realtalk_async.control import Request

    with _errors_as_messages():
        print_response(Request(**fields), app, as_json=as_json)


@contextlib.contextmanager
def _errors_as_messages() -> Generator[None]:
    """Turn errors into one line on stderr and an exit code."""
    from realtalk_async.exceptions import RealtalkError

    try:
        yield
    except RealtalkError as exc:
        raise click.ClickException(str(exc)) from exc
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of stdout has closed it; Python must not flush stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@main.command(short_help="Show the processes of all running apps.")
@_app_options
def ps(app: str | None, *, as_json: bool) -> None:
    """Show the processes of all running apps."""
    from realtalk_async.cli.inspect import print_apps

    with _errors_as_messages():
        print_apps(app, as_json=as_json)


def _complete_name(
    _ctx: click.Context, _parameter: click.Parameter, begun: str
) -> list[str]:
    """Return the names of running processes, for the shell's completion."""
    from realtalk_async.control.client import find_apps, get_statuses, process_names
    from realtalk_async.exceptions import RealtalkError

    try:
        answers = get_statuses(find_apps()).values()
    except RealtalkError:
        return []
    statuses = [one for one in answers if isinstance(one, dict)]
    known = {name for status in statuses for name in process_names(status)}
    return sorted(name for name in known if name.startswith(begun))


_name = click.argument("name", shell_complete=_complete_name)


@main.command(short_help="Show the output of a process.")
@_name
@click.option("-n", default=10, show_default=True, help="Number of the newest lines.")
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Also print new lines, until it is not restarted any more.",
)
@_app_options
def tail(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Show the newest output of the process NAME: stdout and stderr."""
    _send(method="tail", name=name, **options)


@main.command(short_help="Show the log of an app.")
@click.argument("name", required=False, metavar="", shell_complete=_complete_name)
@click.option("-n", default=50, show_default=True, help="Number of the newest entries.")
@click.option(
    "-f", "--follow", is_flag=True, help="Also print new entries, until the app ends."
)
@click.option(
    "--level",
    type=click.Choice(["INFO", "WARNING", "ERROR"]),
    help="Only entries of this level.",
)
@click.option("--component", help="Only entries of this component, such as a process.")
@click.option("--pattern", help="Only entries that match this regular expression.")
@_app_options
def logs(name: str | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """Show the newest log entries of an app; `tail NAME` shows the output of a process."""
    if name is not None:
        follow = "-f " if options["follow"] else ""
        raise click.UsageError(
            f"logs shows the log of the whole app: the output of {name} is shown by "
            f"realtalk-async tail {follow}{shlex.quote(name)}, and what the log says of "
            f"it by realtalk-async logs {follow}--component {shlex.quote(name)}"
        )
    _send(method="logs", **options)


@main.command(short_help="Show all incarnations of processes and how they ended.")
@click.argument("name", required=False, shell_complete=_complete_name)
@_app_options
def history(name: str | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """Show all incarnations of the process NAME, or of all, and how they ended."""
    _send(method="history", name=name, **options)


@main.command(short_help="Explain the state of a process.")
@_name
@_app_options
def explain(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Explain the state of the process NAME: its last failure, and the next step."""
    _send(method="explain", name=name, **options)


@main.command(short_help="Stop a process and start it again.")
@_name
@_app_options
def restart(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Stop the process NAME by its stop ladder, if it runs, and start it again."""
    _send(method="restart", name=name, **options)


@main.command(short_help="Stop a process without a restart.")
@_name
@_app_options
def stop(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Stop the process NAME by its stop ladder; it is not restarted."""
    _send(method="stop", name=name, **options)


@main.command(short_help="Apply the changed file of a run.")
@_app_options
def reload(app: str | None, *, as_json: bool) -> None:
    """Have `run FILE` read its file again, and apply and show the difference."""
    from realtalk_async.cli.inspect import print_reload
    from realtalk_async.exceptions import InvalidConfiguration

    with _errors_as_messages():
        try:
            sys.exit(print_reload(app, as_json=as_json))
        except InvalidConfiguration as exc:
            raise CannotRun(f"{exc}\nnothing was changed") from exc


@main.command(short_help="Show a live view of an app.")
@click.option("--app", metavar="PID|SOCKET", help="The app, if several are running.")
@click.option("--read-only", is_flag=True, help="Without keys to restart and stop.")
@click.option(
    "--web", is_flag=True, help="Serve the view to browsers on this machine, read-only."
)
@click.option("--port", default=8766, show_default=True, help="The port for --web.")
def top(app: str | None, *, read_only: bool, web: bool, port: int) -> None:
    """
    Show a live view of an app: processes, output, log, failures and restarts.

    Arrow keys select a process; 1 to 4 show its output, the log, the timeline, its
    crash report; r restarts it and s stops it, after a confirmation; o changes the order;
    l, c and / choose level, component and pattern of the log; q quits.

    With --web every user of this machine can connect and see the output of processes.
    """
    from realtalk_async.cli import top as live_view

    with _errors_as_messages():
        if web:
            live_view.serve(app, port)
        else:
            live_view.show(app, read_only=read_only)


# ---- demo and peer


@main.command(short_help="Hold a conversation offline.")
@click.option(
    "--mic",
    metavar="WAV|default",
    help="A WAV file, or the default microphone, instead of the spoken script.",
)
@click.option(
    "--speaker",
    metavar="WAV|default",
    help="A WAV file, or the default speaker, instead of speaker.wav.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of log and WAV files; a new temporary folder if omitted.",
)
def demo(mic: str | None, speaker: str | None, out: Path | None) -> None:
    """
    Hold a supervised voice conversation against the embedded offline peer.

    No key, no sound card, no network. Recorder, player and peer are real child
    processes; the recorder is killed in the middle of a sentence, and the conversation completes.
    """
    import tempfile

    from rich.console import Console

    from realtalk_async.cli.demo import DemoOptions
    from realtalk_async.cli.demo import run as run_demo
    from realtalk_async.cli.demo_output import DemoPrinter

    folder = out or Path(tempfile.mkdtemp(prefix="realtalk-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    printer = DemoPrinter(Console(highlight=False))
    printer.console.print(
        "[bold]realtalk-async demo[/bold]: a supervised voice conversation, offline\n"
        "peer: the offline model; recorder: the microphone; player: the speaker\n"
    )
    options = DemoOptions(folder, microphone=mic, speaker=speaker)
    sys.exit(asyncio.run(run_demo(options, printer)))


@main.command(
    short_help="Run the offline peer alone.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def peer(arguments: tuple[str, ...]) -> None:
    """Run the offline peer alone; its own parser reads the options."""
    from realtalk_async.offline.__main__ import main as serve

    sys.exit(serve([*arguments], prog="realtalk-async peer"))


@main.command(short_help="Draw the timeline of a saved session.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The path of the picture; FILE with the ending .svg if omitted.",
)
def timeline(file: Path, out: Path | None) -> None:
    """Draw the timeline of a session, saved by Stream.save_timeline, as SVG."""
    from realtalk_async.exceptions import InvalidConfiguration
    from realtalk_async.voice.timeline.svg import render

    picture = out or file.with_suffix(".svg")
    try:
        picture.write_text(render(file))
    except (InvalidConfiguration, OSError) as exc:
        sys.exit(f"no picture: {exc}")
    click.echo(picture)
