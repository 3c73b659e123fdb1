"""What is wrong with a command that cannot be started, in words for people."""

from __future__ import annotations

import errno
import os
import shutil

NO_DESCRIPTOR = "no descriptor is left: close some, or raise the limit (ulimit -n)"
MULTIPLEXER = "/dev/ptmx"
"""The device that makes a pseudo-terminal."""

NO_TERMINAL = (
    "no terminal is left: close some, or raise the limit kernel.pty.max (sysctl)"
)
NO_PROCESS = "the system cannot start another process now; retry later"
MISSING_FILE = "there is no such file: check the path"
INTERPRETER = "check the interpreter in the first line of the script"
CARRIAGE_RETURN = (
    "the first line of the script ends with a carriage return, as on Windows: save it "
    "with line ends of Unix (sed -i 's/\\r$//')"
)

SHORTAGES: dict[int | None, str] = {
    errno.EMFILE: NO_DESCRIPTOR,
    errno.ENFILE: NO_DESCRIPTOR,
    errno.ENOSPC: (
        "it cannot be watched: raise the limit fs.epoll.max_user_watches (sysctl)"
    ),
    errno.EAGAIN: NO_PROCESS,
    errno.ENOMEM: NO_PROCESS,
    errno.ETXTBSY: "its file is being written; retry later",
}
"""Errors that may be over at the next attempt, and what to do about them."""


def hint_at(
    error: OSError, program: str, cwd: str | None, own_path: str | None
) -> tuple[bool, str]:
    """
    Return whether a refused start would be refused again, and how to correct it.

    Args:
        error: The error of the operating system.
        program: The program, as the command names it.
        cwd: Its working directory.
        own_path: The ``PATH`` of its own environment; None if that is the app's.
    """
    if error.filename == MULTIPLEXER:
        return False, NO_TERMINAL
    if error.errno in SHORTAGES:
        return False, SHORTAGES[error.errno]
    return True, _mistake(error, program, cwd, own_path)


def _mistake(
    error: OSError, program: str, cwd: str | None, own_path: str | None
) -> str:
    path = os.path.join(cwd or "", program)
    if error.errno == errno.EINVAL:
        return "correct the command's arguments, environment or options"
    if error.errno == errno.ENOEXEC:
        return "it is not a program: a script needs a first line such as #!/bin/sh"
    if os.sep in program and os.path.isdir(path):
        return "it is a directory"
    if error.errno == errno.EACCES:
        return "it is not executable: check its mode (chmod +x)"
    if os.sep in program:
        is_there = os.path.exists(path)
        return _about_interpreter(path) if is_there else MISSING_FILE
    if (found := shutil.which(program, path=own_path)) is not None:
        return _about_interpreter(found)
    whose = "PATH" if own_path is None else "the PATH of its env"
    return f"it is not on {whose}: install it or give its full path"


def _about_interpreter(script: str) -> str:
    """Return what to do about a script whose interpreter is not found."""
    try:
        with open(script, "rb") as file:
            first_line = file.readline(4096)
    except OSError:
        return INTERPRETER
    return CARRIAGE_RETURN if first_line.endswith(b"\r\n") else INTERPRETER


def is_shell_line(
    program: str, cwd: str | os.PathLike[str] | None = None, path: object = None
) -> bool:
    """
    Return whether a program's name is a line for a shell, and no program has this name.

    Args:
        program: Such as ``echo a | tr a b`` or ``sleep 5``.
        cwd: The working directory of the program.
        path: Its own ``PATH``; by default that of the app.
    """
    path = None if path is None else str(path)
    first, *more = program.split() or [""]
    if not more and not set(program) & {*"|&;<>$~"}:
        return False
    is_there = os.path.exists(os.path.join(cwd or "", program))
    if is_there or shutil.which(program, path=path):
        return False
    if program[0] in "~$":  # only a shell replaces it
        return True
    if set(program) & {*"|&;<>$"}:
        return bool(more) or os.sep not in program
    return os.sep not in program or shutil.which(first, path=path) is not None
