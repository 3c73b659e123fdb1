"""
Parse a Procfile.

Each entry is ``NAME: COMMAND``; a shell runs the command. A ``\\`` at the end of a line
continues it in the next line. Each process gets a ``PORT`` of its own: the first process
the base port, each further process 100 more. A process that runs already keeps its
``PORT`` when the file is read again. ``release`` runs once, before the others.
"""

from __future__ import annotations

import re
import shutil
from itertools import count
from typing import TYPE_CHECKING

from realtalk_async.cli.config.spec import AppSpec, InvalidSpec, Problem, ProcessSpec
from realtalk_async.supervision import TEMPORARY, TRANSIENT, Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from realtalk_async.supervision import RestartPolicy

BASE_PORT = 5000
"""The first process's ``PORT``, if neither options nor environment give one (foreman's)."""
PORT_STEP = 100
"""Added for each further process (foreman's)."""
LAST_PORT = 65535

RELEASE = "release"
"""The process that runs to its end before the others start, as on Heroku."""

SHELL = "/bin/sh"

_ENTRY = re.compile(r"([A-Za-z0-9_.-]+)[ \t]*:[ \t]*(\S(?:.*\S)?)", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.]*[ \t]*=")
_TEMPLATE = re.compile(r"[\w.-]*\{[%{#]|<%")
"""What begins a line of Jinja, Mustache or ERB; in a command, it may be the program's own."""
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_procfile(
    text: str,
    file: str,
    *,
    env: Mapping[str, str],
    port: int = BASE_PORT,
    cwd: str | None = None,
    restart: RestartPolicy = TRANSIENT,
    running: AppSpec | None = None,
) -> AppSpec:
    """
    Return the spec that a Procfile describes.

    Each process is critical: all end, as with foreman, when one cannot be kept alive. But
    first it is restarted.

    Args:
        text: The content of the file.
        file: The file's path, for the problems.
        env: Variables for every process.
        port: The first process's ``PORT``.
        cwd: The working directory of the commands.
        restart: The policy of all processes but ``release``.
        running: What the file described when it was read last; its processes run.

    Raises:
        InvalidSpec: With every line that is neither an entry, a comment nor empty.
    """
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    texts: dict[str, str] = {}
    template: list[int] = []
    for number, line in _logical_lines(text):
        entry = _ENTRY.fullmatch(line)
        if entry is None and _TEMPLATE.match(line):
            template.append(number)
        elif entry is None:
            problems.append(Problem(file, number, "", _what_is_wrong(line)))
        elif entry[1] in texts:
            what = f"the name is taken by line {lines[entry[1]]}: choose another name"
            problems.append(Problem(file, number, entry[1], what))
        elif "\0" in entry[2]:
            what = "a command has no NUL character"
            problems.append(Problem(file, number, entry[1], what))
        else:
            texts[entry[1]] = entry[2]
            lines[entry[1]] = number
    if template:  # each of its lines may be anything once it is rendered
        what = "it is a template, which a tool makes a Procfile of: run that tool first"
        raise InvalidSpec([Problem(file, template[0], "", what)])
    ports = assign_ports(texts, port, running)
    if max(ports.values(), default=0) > LAST_PORT:
        what = f"PORT would exceed {LAST_PORT}: choose a port lower than {port}"
        problems.append(Problem(file, None, "PORT", what))
    if not texts and not problems:
        problems.append(Problem(file, None, "", "there is no 'NAME: COMMAND' in it"))
    if problems:
        raise InvalidSpec(problems)
    shell = _shell_for(env)
    commands = {
        name: Command(
            shell,
            "-c",
            text,
            env={**env, "PORT": str(ports[name]), "PS": name},
            cwd=cwd,
            stdin=True,
        )
        for name, text in texts.items()
    }
    processes = tuple(_processes(commands, lines, restart))
    return AppSpec(file, processes, first_port=port)


def assign_ports(
    names: Iterable[str], first: int, running: AppSpec | None = None
) -> dict[str, int]:
    """
    Return the ``PORT`` of each process: *first*, and `PORT_STEP` more for each further one.

    A process that runs keeps its port, unless *first* has changed: a line that is added
    to the file must not restart the processes of the lines after it.
    """
    kept: dict[str, int] = {}
    if running is not None and running.first_port == first:
        ports = {one.name: one.command.env["PORT"] for one in running.processes}
        kept = {name: int(ports[name] or 0) for name in names if name in ports}
    free = (port for port in count(first, PORT_STEP) if port not in kept.values())
    return {name: kept[name] if name in kept else next(free) for name in names}


def _processes(
    commands: dict[str, Command], lines: dict[str, int], restart: RestartPolicy
) -> Iterator[ProcessSpec]:
    """Yield ``release`` first; all others depend on its success."""
    first = [RELEASE] if RELEASE in commands else []
    for name in [*first, *(name for name in commands if name != RELEASE)]:
        is_release = name == RELEASE
        yield ProcessSpec(
            name,
            commands[name],
            restart=TEMPORARY if is_release else restart,
            oneshot=is_release,
            critical=True,
            depends_on=() if is_release else tuple(first),
            line=lines[name],
        )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """
    Yield the lines that are neither empty nor comments, with the number of their begin.

    As in a shell, a line that ends in an odd number of ``\\`` is continued by the next
    one, and a comment is not continued.
    """
    lines = iter(enumerate(text.removeprefix("\ufeff").split("\n"), 1))
    for number, line in lines:
        whole = line.strip()
        if not whole or whole.startswith("#"):
            continue
        while _is_continued(whole):
            _, following = next(lines, (0, ""))
            whole = whole[:-1] + following.rstrip()
        yield number, whole.strip()


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _what_is_wrong(line: str) -> str:
    """Return the remedy for a line; without its text, which may hold a secret."""
    if _ASSIGNMENT.match(line):
        return "a variable belongs into .env; a line is 'NAME: COMMAND'"
    if re.fullmatch(r"[A-Za-z0-9_.-]+[ \t]*:", line):
        return f"{line.rstrip(': ')} has no command: a line is 'NAME: COMMAND'"
    if line.startswith("[") and line.endswith("]"):
        return "a section is of TOML, whose file's name ends in .toml; a line is 'NAME: COMMAND'"
    if line.startswith(("//", ";", "--", "/*")):
        return "a comment begins with #"
    if ":" not in line:
        return (
            "there is no colon: a line is 'NAME: COMMAND'; a long command goes on in the "
            "next line after a \\ at the end"
        )
    return (
        "a line is 'NAME: COMMAND' (letters, digits, _ . - in the name); a long command "
        "goes on in the next line after a \\ at the end"
    )


def _shell_for(env: Mapping[str, str]) -> str:
    """Return bash for variables such as ``a.b``, if there is bash: dash drops them."""
    if all(map(_SHELL_NAME.fullmatch, env)):
        return SHELL
    return shutil.which("bash") or SHELL
