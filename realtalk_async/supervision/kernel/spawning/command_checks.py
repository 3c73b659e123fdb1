"""The arguments of a `Command`, and what is allowed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.kernel.pipes import STREAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

Text = str | os.PathLike[str]
Word = Text | int | float
Variable = str | int | float


def check_words(program: Text, args: tuple[Word, ...]) -> tuple[str, ...]:
    """Return the words of a command as text."""
    if isinstance(program, list | tuple):
        words = ", ".join(map(repr, program))
        allowed = f"one program; write Command({words})"
        raise arguments.refused("program", allowed, program)
    arguments.path("program", program)
    for index, word in enumerate(args):
        check_word(f"args[{index}]", word)
    return os.fspath(program), *map(_as_text, args)


def _as_text(word: Word) -> str:
    return str(word) if isinstance(word, int | float) else os.fspath(word)


def check_word(argument: str, word: object) -> None:
    if _is_number(word):
        return
    given = word
    if isinstance(given, os.PathLike):
        given = os.fspath(cast("os.PathLike[str]", given))
    if not isinstance(given, str) or "\0" in given:
        allowed = "text without a NUL byte, a path or a number"
        raise arguments.refused(argument, allowed, word)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_variables(
    env: Mapping[str, Variable | None] | None, what: str = "env"
) -> None:
    """Check environment variables; no message quotes the value of one."""
    arguments.mapping(what, env, "a dict of variables", optional=True)
    for name, value in (env or {}).items():
        is_text = isinstance(name, str)  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        if not is_text or not name or set(name) & {"=", "\0"}:
            argument = f"the name of a variable in {what}"
            raise arguments.refused(argument, "text without = and NUL", name)
        if not _is_number(value):
            arguments.secret(f"{what}[{name!r}]", value, optional=True)
        if isinstance(value, str) and "\0" in value:
            raise InvalidConfiguration(f"{what}[{name!r}] must not contain a NUL byte")


def check_redirect(redirect: Mapping[str, int | None] | None) -> None:
    arguments.mapping("redirect", redirect, "a dict of streams", optional=True)
    for name in redirect or {}:
        arguments.choice("a key of redirect", name, ("stdin", *STREAMS))


OURS = {"preexec_fn", "stdin", "stdout", "stderr", "env", "cwd", "args", "shell"}
"""The arguments of `subprocess.Popen` that cannot be among the options."""


def check_options(options: Mapping[str, Any] | None) -> None:
    arguments.mapping("options", options, "a dict of arguments of Popen", optional=True)
    for name in options or {}:
        arguments.one_line("a key of options", name)
    if refused := OURS & (options or {}).keys():
        raise InvalidConfiguration(
            f"options must not contain {', '.join(sorted(refused))}: preexec_fn blocks the "
            f"loop, the others are arguments of Command itself"
        )


NOT_FOR_A_TERMINAL = ("start_new_session", "process_group")
"""A process gets a controlling terminal only as leader of a session of its own."""


def check_terminal(
    stdin: object,
    stdout: str,
    redirect: Mapping[str, int | None] | None,
    options: Mapping[str, Any] | None,
) -> None:
    """Check what a command with a terminal of its own cannot have beside it."""
    refused = [] if isinstance(stdin, bool) else [f"stdin={str(stdin)!r}"]
    refused += ["stdout='binary'"] if stdout == "binary" else []
    refused += [f"redirect of {name}" for name in redirect or {}]
    refused += [name for name in NOT_FOR_A_TERMINAL if name in (options or {})]
    if refused:
        raise InvalidConfiguration(
            f"tty=True does not allow {', '.join(refused)}: the terminal is its stdin, "
            f"stdout and stderr, and it leads a session of its own"
        )
