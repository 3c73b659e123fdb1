"""Parse a ``.env`` file, and the ``PORT`` in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from realtalk_async.cli.config.spec import InvalidSpec, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_PORT = 65535

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*')[ \t]*(?:#.*)?""")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_dotenv(text: str, file: str) -> dict[str, str]:
    """
    Return the variables of a ``.env``.

    A line is ``NAME=value``, with or without ``export``. A value in single quotes is taken
    literally; in double quotes ``\\n``, ``\\t``, ``\\r``, ``\\"`` and ``\\\\`` are escapes;
    a value without quotes ends before `` #``. Nothing is expanded.

    Raises:
        InvalidSpec: With every line that is neither an assignment, a comment nor empty.
    """
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for number, line in content_lines(text):
        assignment = _ASSIGNMENT.fullmatch(line)
        value = None if assignment is None else _unquote(assignment[2])
        if assignment is None:
            what = f"a line is NAME=VALUE, not {line!r}"
            problems.append(Problem(file, number, "", what))
        elif value is None:
            what = "the value's quotes do not close at its end"
            problems.append(Problem(file, number, assignment[1], what))
        else:
            found[assignment[1]] = value
    if problems:
        raise InvalidSpec(problems)
    return found


def _unquote(raw: str) -> str | None:
    """Return the value of an assignment's right side; None if its quotes do not close."""
    if raw[:1] not in {'"', "'"}:
        return re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].rstrip()
    quoted = _QUOTED.fullmatch(raw)
    if quoted is None:
        return None
    inner = quoted[1][1:-1]
    if raw[0] == "'":
        return inner
    return _ESCAPE.sub(lambda one: _ESCAPES.get(one[1], one[1]), inner)


def content_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are neither empty nor comments, stripped, with their numbers."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            yield number, bare


def parse_port(text: str, source: str) -> int:
    """
    Return the port that an environment variable holds.

    Args:
        text: The value of the variable.
        source: The origin of the variable, for the problem.

    Raises:
        InvalidSpec: If the text is not a port.
    """
    if text.isdecimal() and text.isascii() and 0 < int(text) <= LAST_PORT:
        return int(text)
    what = f"a port is a number from 1 to {LAST_PORT}, not {text!r}"
    raise InvalidSpec([Problem(source, None, "PORT", what)])
