"""
Read a Procfile and its ``.env``, as they stand in thousands of repositories. Pure.

Each line of a Procfile is ``NAME: COMMAND``; a shell runs the command. Each process gets
a ``PORT`` of its own: the first one the base port, each further one 100 more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from realtalk_async.cli.config.spec import BadRecipe, Mistake, Part, Recipe
from realtalk_async.supervision import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BASE_PORT = 5000
"""The first process's ``PORT``, unless something else says otherwise (foreman's)."""
PORT_STEP = 100
"""How much further the next process's is (foreman's)."""
LAST_PORT = 65535

_ENTRY = re.compile(r"([A-Za-z0-9_.-]+)[ \t]*:[ \t]*(.*\S)")
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*')[ \t]*(?:#.*)?""")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_procfile(
    text: str,
    file: str,
    *,
    env: Mapping[str, str],
    port: int = BASE_PORT,
    cwd: str | None = None,
) -> Recipe:
    """
    Return the recipe that a Procfile stands for.

    Each process is critical: when it cannot be kept alive, all end, as those expect who
    know foreman; but first it is restarted, as those hope.

    Args:
        text: What the file says.
        file: What it is called, for the mistakes.
        env: Variables for every process.
        port: The first process's ``PORT``.
        cwd: Where the commands run.

    Raises:
        BadRecipe: With every line that is neither an entry, a comment nor empty.
    """
    mistakes: list[Mistake] = []
    parts: dict[str, Part] = {}
    for number, line in _lines(text):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            what = f"a line is 'NAME: COMMAND' (letters, digits, _ . -), not {line!r}"
            mistakes.append(Mistake(file, number, "", what))
        elif entry[1] in parts:
            what = f"the name is taken by line {parts[entry[1]].line}"
            mistakes.append(Mistake(file, number, entry[1], what))
        else:
            own = {**env, "PORT": str(port + PORT_STEP * len(parts)), "PS": entry[1]}
            parts[entry[1]] = _part(entry[1], entry[2], own, cwd, number)
    if port + PORT_STEP * (len(parts) - 1) > LAST_PORT:
        what = f"PORT would go beyond {LAST_PORT}: choose a lower one than {port}"
        mistakes.append(Mistake(file, None, "PORT", what))
    if not parts and not mistakes:
        mistakes.append(Mistake(file, None, "", "there is no 'NAME: COMMAND' in it"))
    if mistakes:
        raise BadRecipe(mistakes)
    return Recipe(file, tuple(parts.values()))


def _part(
    name: str, line: str, env: Mapping[str, str], cwd: str | None, number: int
) -> Part:
    command = Command.shell(line, env=dict(env), cwd=cwd)
    return Part(name, command, critical=True, line=number)


def parse_env(text: str, file: str) -> dict[str, str]:
    """
    Return the variables of a ``.env``.

    ``NAME=value``, ``export`` before it or not. A value in single quotes is taken as it
    is, in double quotes ``\\n``, ``\\t``, ``\\"`` and ``\\\\`` are what they are elsewhere;
    without quotes it ends before `` #``. Nothing is expanded.

    Raises:
        BadRecipe: With every line that is neither an assignment, a comment nor empty.
    """
    mistakes: list[Mistake] = []
    found: dict[str, str] = {}
    for number, line in _lines(text):
        assignment = _ASSIGNMENT.fullmatch(line)
        value = None if assignment is None else _value(assignment[2])
        if assignment is None:
            what = f"a line is NAME=VALUE, not {line!r}"
            mistakes.append(Mistake(file, number, "", what))
        elif value is None:
            what = "the value's quotes do not close at its end"
            mistakes.append(Mistake(file, number, assignment[1], what))
        else:
            found[assignment[1]] = value
    if mistakes:
        raise BadRecipe(mistakes)
    return found


def _value(raw: str) -> str | None:
    """Return what is meant by the right side of an assignment; None if it is broken."""
    if raw[:1] not in {'"', "'"}:
        return re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].rstrip()
    quoted = _QUOTED.fullmatch(raw)
    if quoted is None:
        return None
    inner = quoted[1][1:-1]
    if raw[0] == "'":
        return inner
    return _ESCAPE.sub(lambda one: _ESCAPES.get(one[1], one[1]), inner)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            yield number, bare


def port_of(text: str, file: str) -> int:
    """
    Return the base port that is written in the environment.

    Raises:
        BadRecipe: If it is none.
    """
    if text.isdecimal() and text.isascii() and 0 < int(text) <= LAST_PORT:
        return int(text)
    what = f"a port is a number from 1 to {LAST_PORT}, not {text!r}"
    raise BadRecipe([Mistake(file, None, "PORT", what)])
