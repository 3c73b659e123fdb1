"""The parsers of `realtalk-async` and of its command `run`."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import Any

import click

OTHER_NAMES = {
    "status": "ps",
    "list": "ps",
    "ls": "ps",
    "start": "run, or restart NAME for one process",
    "up": "run",
    "exec": "run -- COMMAND",
    "log": "logs, or tail -f NAME for the output of one process",
    "attach": "tail -f NAME",
    "kill": "stop NAME",
    "down": "stop NAME, or Ctrl-C in the terminal of run",
    "check": "run FILE --check",
    "reread": "reload",
    "update": "reload",
}
"""Commands of other supervisors and runners, and the command that does it here."""


class Commands(click.Group):
    """Names the command that other supervisors call by another name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; for a name of other tools, tell that of this one."""
        if args and args[0] in OTHER_NAMES:
            ctx.fail(
                f"No such command {args[0]!r}. "
                f"It is: realtalk-async {OTHER_NAMES[args[0]]}"
            )
        return super().resolve_command(ctx, args)


def refuse_command(words: list[str]) -> None:
    """
    Refuse a command that was given without ``--``.

    Raises:
        click.UsageError: If the first word is no file here, but a program.
    """
    if not os.path.exists(words[0]) and shutil.which(words[0]):
        raise click.UsageError(
            f"there is no file {words[0]!r} here; a command is given after --, as in: "
            f"realtalk-async run -- {shlex.join(words)}"
        )


class RunCommand(click.Command):
    """Takes all arguments after ``--`` as the command, also those that look like options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before ``--``."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[place + 1 :])
        ctx.meta["is_command"] = place < len(args)
        before = args[:place]
        try:
            return super().parse_args(ctx, list(before))
        except click.NoSuchOption:
            # An option of a command that was given without "--" before it.
            for number, word in enumerate(before):
                if not word.startswith("-"):
                    refuse_command(before[number:])
            raise


class CannotRun(click.ClickException):
    """Nothing was run; the message tells why."""

    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - click's
        """Print the message alone: each of its lines begins with its place."""
        click.echo(self.message, err=True, file=file)


def read_address(text: str) -> tuple[str, int]:
    """Return host and port of ``9464``, ``0.0.0.0:9464`` or ``[::]:9464``."""
    host, _, port = text.rpartition(":")
    if not (port.isdecimal() and int(port) < 65536):
        raise click.BadParameter(
            f"{text!r} is neither a PORT nor HOST:PORT, such as 9464"
        )
    return host.strip("[]") or "127.0.0.1", int(port)
