"""
Parse a Procfile.

Each line is ``NAME: COMMAND``; a shell runs the command. Each process gets a ``PORT`` of
its own: the first process the base port, each further process 100 more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from realtalk_async.cli.config.dotenv import LAST_PORT, content_lines
from realtalk_async.cli.config.spec import AppSpec, InvalidSpec, Problem, ProcessSpec
from realtalk_async.supervision import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE_PORT = 5000
"""The first process's ``PORT``, if neither options nor environment give one (foreman's)."""
PORT_STEP = 100
"""Added for each further process (foreman's)."""

_ENTRY = re.compile(r"([A-Za-z0-9_.-]+)[ \t]*:[ \t]*(.*\S)")


def parse_procfile(
    text: str,
    file: str,
    *,
    env: Mapping[str, str],
    port: int = BASE_PORT,
    cwd: str | None = None,
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

    Raises:
        InvalidSpec: With every line that is neither an entry, a comment nor empty.
    """
    problems: list[Problem] = []
    processes: dict[str, ProcessSpec] = {}
    for number, line in content_lines(text):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            what = f"a line is 'NAME: COMMAND' (letters, digits, _ . -), not {line!r}"
            problems.append(Problem(file, number, "", what))
        elif entry[1] in processes:
            what = f"the name is taken by line {processes[entry[1]].line}"
            problems.append(Problem(file, number, entry[1], what))
        else:
            name, command_line = entry[1], entry[2]
            own = {**env, "PORT": str(port + PORT_STEP * len(processes)), "PS": name}
            command = Command.shell(command_line, env=own, cwd=cwd)
            processes[name] = ProcessSpec(name, command, critical=True, line=number)
    if port + PORT_STEP * (len(processes) - 1) > LAST_PORT:
        what = f"PORT would exceed {LAST_PORT}: choose a port lower than {port}"
        problems.append(Problem(file, None, "PORT", what))
    if not processes and not problems:
        problems.append(Problem(file, None, "", "there is no 'NAME: COMMAND' in it"))
    if problems:
        raise InvalidSpec(problems)
    return AppSpec(file, tuple(processes.values()))
