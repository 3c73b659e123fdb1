"""
The commands: ``run``, ``top``, ``ps``, ``logs``, ``tail``, ``demo`` and others.

What a command needs is imported when it runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.cli.config.spec import AppSpec

MODES = ("permanent", "transient", "temporary")


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value and not ctx.resilient_parsing:
        from realtalk_async import __version__

        click.echo(f"realtalk-async, version {__version__}")
        ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


class RunCommand(click.Command):
    """Keeps what stands behind ``--`` apart: it is a command, whatever it looks like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before ``--``."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[place + 1 :])
        ctx.meta["is_command"] = place < len(args)
        return super().parse_args(ctx, args[:place])


@main.command(
    cls=RunCommand,
    options_metavar="[OPTIONS] [FILE | -- COMMAND...]",
    short_help="Keep a command, or a whole file, running.",
)
@click.argument("file", required=False, metavar="")
@click.option(
    "--check",
    is_flag=True,
    help="Only check the file, and draw the order of the start.",
)
@click.option(
    "--restart",
    type=click.Choice(MODES),
    help="When to restart: always, after a failure (the default), never. Not for TOML, "
    "which says it itself.",
)
@click.option(
    "--max-failures",
    type=click.FloatRange(min=0),
    help="Give up above this failure score, which halves every 30 s.  [default: 5]",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The first PORT of a Procfile."
)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Instead of the .env beside a Procfile.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the log goes. Without it there is one as long as nothing fails.",
)
@click.option(
    "--stamp",
    type=click.Choice(["time", "iso", "none"]),
    default="time",
    show_default=True,
    help="How the lines of several processes are stamped.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say only what the processes say.")
@click.option(
    "--no-control", is_flag=True, help="Let nobody look in by ps, logs, stop…"
)
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Serve /metrics, /healthz and /readyz there; on 127.0.0.1 without HOST.",
)
@click.pass_context
def run(ctx: click.Context, /, file: str | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """
    Run a command, or all processes of a file, and keep them running.

    FILE is a Procfile, or TOML if its name ends in .toml; without it and without a
    COMMAND, realtalk.toml or Procfile is looked for here. The output of one COMMAND is
    passed on as it is; that of several processes has their names before each line.

    Ctrl-C ends all in reverse order, each by its ladder (SIGTERM, five seconds, SIGKILL,
    unless the file says otherwise); Ctrl-C twice kills them.

    \b
    Exit code
      0         all ended as they should
      1 to 125  what could not be kept alive: its own exit status
      126, 127  ... it could not be run: not executable, not found
      128 + n   ... it was killed by signal n
      2         mistakes in the file or here: nothing was run
      130, 143  ended by Ctrl-C, by SIGTERM; 137: by Ctrl-C twice
    """
    from realtalk_async.cli.config.loader import CommandNotFound
    from realtalk_async.exceptions import RealtalkError

    try:
        spec = _load_spec(ctx, file, options)
        if options["check"]:
            _print_check(spec)
            return
        code = _run(spec, options)
    except CommandNotFound as exc:
        click.echo(str(exc), err=True)
        sys.exit(exc.code)
    except OSError as exc:
        place = f"{exc.filename}: " if exc.filename else ""
        raise _Mistaken(f"{place}{exc.strerror or exc}") from exc
    except (RealtalkError, ImportError) as exc:
        raise _Mistaken(str(exc)) from exc
    sys.stdout.flush()
    sys.exit(code)


class _Mistaken(click.ClickException):
    """Something in a file, or around it, keeps us from beginning."""

    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - click's
        """Show it as it is: each line begins with its place."""
        click.echo(self.message, err=True, file=file)


def _load_spec(
    ctx: click.Context, file: str | None, options: dict[str, Any]
) -> AppSpec:
    from realtalk_async.cli.config import loader

    restart = loader.RestartOptions(options["restart"], options["max_failures"])
    if ctx.meta["is_command"]:
        if file is not None or not ctx.meta["command"]:
            raise click.UsageError("give either a FILE or -- COMMAND...")
        return loader.load_command(ctx.meta["command"], restart)
    found = file or loader.find_file(os.getcwd())
    if found is None:
        raise click.UsageError(
            "there is no realtalk.toml and no Procfile here: give a FILE, or a command "
            "behind --, as in: realtalk-async run -- sleep 10"
        )
    return loader.load_file(found, restart, options["port"], options["env_file"])


def _print_check(spec: AppSpec) -> None:
    from realtalk_async.cli.config.spec import describe_start_order

    count = len(spec.processes)
    noun = "process" if count == 1 else "processes"
    click.echo(f"{spec.file or 'the command'}: {count} {noun}, no problems")
    click.echo("\n".join(describe_start_order(spec)))


def _address(text: str) -> tuple[str, int]:
    """Return host and port of ``9464``, ``0.0.0.0:9464`` or ``[::]:9464``."""
    host, _, port = text.rpartition(":")
    if not (port.isdecimal() and int(port) < 65536):
        raise click.BadParameter(f"{text!r} is no port and no HOST:PORT, such as 9464")
    return host.strip("[]") or "127.0.0.1", int(port)


def _run(spec: AppSpec, options: dict[str, Any]) -> int:
    from realtalk_async.cli.line_format import wants_colour
    from realtalk_async.cli.runner import Setting
    from realtalk_async.cli.runner import run as run_spec

    setting = Setting(
        log=options["log"],
        colour=wants_colour(os.environ, is_terminal=sys.stdout.isatty()),
        stamp=options["stamp"],
        quiet=options["quiet"],
        control=not options["no_control"],
        metrics=options["metrics"] and _address(options["metrics"]),
    )
    return run_spec(spec, setting)


# ---- looking into apps that run


def _looking(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all have that look into an app."""
    app = click.option("--app", metavar="PID|SOCKET", help="Which app, if several run.")
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="One JSON value a line."
    )
    return app(as_json(function))


def _ask(app: str | None, *, as_json: bool, **question: Any) -> None:  # noqa: ANN401 - a Question's
    """Have an app asked, and say what is wrong in one line."""
    from realtalk_async.cli import inspect
    from realtalk_async.control.protocol import Question

    _look(lambda: inspect.ask(Question(**question), app, as_json=as_json))


def _look(function: Callable[[], None]) -> None:
    from realtalk_async.exceptions import RealtalkError

    try:
        function()
    except RealtalkError as exc:
        raise click.ClickException(str(exc)) from exc
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Nobody reads any more; Python must not try to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@main.command(short_help="Show the processes of all apps that run.")
@_looking
def ps(app: str | None, *, as_json: bool) -> None:
    """Show all processes of all apps that run."""
    from realtalk_async.cli import inspect

    _look(lambda: inspect.overview(app, as_json=as_json))


def _complete_name(
    _ctx: click.Context, _parameter: click.Parameter, begun: str
) -> list[str]:
    """Return the names of processes that run, for the shell's completion."""
    from realtalk_async.control import client
    from realtalk_async.exceptions import RealtalkError

    try:
        found = client.overviews()
    except RealtalkError:
        return []
    known = {name for one in found.values() for name in client.names(one)}
    return sorted(name for name in known if name.startswith(begun))


_name = click.argument("name", shell_complete=_complete_name)


@main.command(short_help="Show what a process has said.")
@_name
@click.option("-n", default=10, show_default=True, help="The newest so many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it is dead for good.")
@_looking
def tail(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Show what the process NAME has said, on both streams."""
    _ask(ask="tail", name=name, **options)


@main.command(short_help="Show the log of an app.")
@click.option("-n", default=50, show_default=True, help="The newest so many entries.")
@click.option("-f", "--follow", is_flag=True, help="Go on for as long as the app runs.")
@click.option("--level", type=click.Choice(["INFO", "WARNING", "ERROR"]))
@click.option("--component", help="Of this process only.")
@click.option("--pattern", help="A regular expression.")
@_looking
def logs(**options: Any) -> None:  # noqa: ANN401 - click's
    """Show the log of an app."""
    _ask(ask="logs", **options)


@main.command(short_help="Show the lives of processes, how they ended.")
@click.argument("name", required=False, shell_complete=_complete_name)
@_looking
def history(name: str | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """Show all lives of the process NAME, or of all, and how they ended."""
    _ask(ask="history", name=name, **options)


@main.command(short_help="Tell why a process is as it is.")
@_name
@_looking
def explain(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Tell why the process NAME is as it is, how it died last, and what comes next."""
    _ask(ask="explain", name=name, **options)


@main.command(short_help="End a process and start it again.")
@_name
@_looking
def restart(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """End the process NAME by its ladder if it runs, and start it again."""
    _ask(ask="restart", name=name, **options)


@main.command(short_help="End a process for good.")
@_name
@_looking
def stop(name: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """End the process NAME by its ladder, and keep it from being restarted."""
    _ask(ask="stop", name=name, **options)


@main.command(short_help="Watch an app live.")
@click.option("--app", metavar="PID|SOCKET", help="Which app, if several run.")
@click.option("--read-only", is_flag=True, help="Offer no keys to restart and stop.")
@click.option(
    "--web", is_flag=True, help="Serve it to browsers on this machine, read-only."
)
@click.option("--port", default=8766, show_default=True, help="For --web.")
def top(app: str | None, *, read_only: bool, web: bool, port: int) -> None:
    """
    Watch an app: its processes, their output, the log, deaths and restarts.

    Arrow keys select a process; 1 to 4 show its output, the log, the time line, its
    crash report; r restarts it and s stops it, after a question; o sorts; l, c and /
    choose level, component and pattern of the log; q quits.

    --web is for any user of this machine: whoever may connect sees what processes say.
    """
    from realtalk_async.cli import top as live

    _look(lambda: live.serve(app, port) if web else live.show(app, read_only=read_only))


# ---- demo and peer


@main.command(short_help="Hold a conversation offline.")
@click.option(
    "--mic",
    metavar="WAV|default",
    help="A WAV file, or the machine's microphone, instead of the spoken script.",
)
@click.option(
    "--speaker",
    metavar="WAV|default",
    help="A WAV file, or the machine's speaker, instead of speaker.wav.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where log and WAV files go; a new folder among the temporary files if omitted.",
)
def demo(mic: str | None, speaker: str | None, out: Path | None) -> None:
    """
    Hold a supervised voice conversation against the embedded offline peer.

    No key, no sound card, no network. Recorder, player and peer are real child
    processes; the recorder is killed in mid-sentence, and the conversation completes.
    """
    import tempfile

    from rich.console import Console

    from realtalk_async.cli import tables as show
    from realtalk_async.cli.demo import Setting
    from realtalk_async.cli.demo import run as run_demo

    folder = out or Path(tempfile.mkdtemp(prefix="realtalk-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    account = show.Account(Console(highlight=False))
    account.console.print(
        "[bold]realtalk-async demo[/bold]: a supervised voice conversation, offline\n"
    )
    setting = Setting(folder, microphone=mic, speaker=speaker)
    sys.exit(asyncio.run(run_demo(setting, account)))


@main.command(short_help="Run the offline peer alone.")
@click.option("--port", default=8765, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--pace", default=20.0, show_default=True, help="Seconds of audio sent per second."
)
@click.option(
    "--lifetime",
    default=3600.0,
    show_default=True,
    help="Seconds until a session expires.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT",
    help="Commit it on each connection, as often as wanted; see --list-faults.",
)
@click.option(
    "--recogniser",
    type=click.Choice(["sphinx", "whisper"]),
    default="sphinx",
    show_default=True,
    help="Whisper understands human voices and needs the extra 'human'.",
)
@click.option(
    "--list-faults", "lists", is_flag=True, help="Tell of all faults, and end."
)
@click.option("--verbose", is_flag=True, help="Log connections to stderr.")
def peer(*, faults: tuple[str, ...], lists: bool, verbose: bool, **given: Any) -> None:  # noqa: ANN401 - click's
    """
    Run the offline peer alone, at ws://HOST:PORT/v1/realtime.

    It speaks the OpenAI Realtime protocol: it hears, answers and speaks, without a
    network, and commits faults on demand. A client may ask for them, and for a pace and
    a lifetime, by its URL too: ws://…/v1/realtime?fault=drop:5&pace=1&lifetime=60
    """
    from realtalk_async.offline import faults as known
    from realtalk_async.offline.__main__ import main as serve

    if lists:
        about = known.__doc__ or ""  # its first line is for who reads the code
        click.echo(about.strip().partition("\n")[2].strip())
        return
    arguments = [f"--{name}={value}" for name, value in given.items()]
    arguments += [f"--fault={fault}" for fault in faults]
    sys.exit(serve([*arguments, *(["--verbose"] if verbose else [])]))


@main.command(short_help="Draw the time line of a saved session.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the picture goes; beside FILE, with the ending .svg, if omitted.",
)
def timeline(file: Path, out: Path | None) -> None:
    """Draw the time line of a session that `Stream.save_timeline` has saved."""
    from realtalk_async.exceptions import InvalidConfiguration
    from realtalk_async.voice.timeline.svg import render

    picture = out or file.with_suffix(".svg")
    try:
        picture.write_text(render(file))
    except (InvalidConfiguration, OSError) as exc:
        sys.exit(f"no picture: {exc}")
    click.echo(picture)
