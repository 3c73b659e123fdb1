"""
Start a program; `Child` and `Guard` watch what was started here. An edge.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "REALTALK_ASYNC_TAG"
"""The environment variable that marks a child, and all its descendants, as ours."""

GUARD_PROCESS = os.path.join(os.path.dirname(__file__), "guard_process.py")
"""The guard's own program."""


class Launched(NamedTuple):
    """A program that runs, and that nobody watches yet."""

    popen: subprocess.Popen[bytes]
    owns_group: bool
    """Whether its pid is also the number of a process group of its own."""
    at: float
    """Monotonic seconds."""


def launch(
    argv: Sequence[str] | str,
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Launched:
    """
    Start a program, leader of its own session and process group, in about 1 ms.

    Args:
        argv: The program and its arguments.
        env: Its whole environment.
        cwd: Its working directory; ours if None.
        stdin: A descriptor or a `subprocess` constant, likewise *stdout* and *stderr*.
        options: Further arguments of `subprocess.Popen`.

    Raises:
        OSError: If the operating system refuses; nothing is left behind then.
    """
    merged: dict[str, Any] = {"start_new_session": True, **(options or {})}
    if "process_group" in merged:  # the leader of a session cannot join a group
        merged["start_new_session"] = False
    at = time.monotonic()
    try:
        popen = cast(
            "subprocess.Popen[bytes]",
            subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                **merged,
            ),
        )
    except (LookupError, TypeError, ValueError) as exc:
        # An unknown user, text that no file name can hold: a refusal like any other.
        raise OSError(errno.EINVAL, f"Invalid argument: {exc}") from exc
    owns_group = merged["start_new_session"] or merged.get("process_group") == 0
    return Launched(popen, bool(owns_group), at)


class Guarding(NamedTuple):
    """A guard that runs."""

    tag: str
    """``NAME=value``, as it stands in a child's environment."""
    launched: Launched
    pipe: int
    """Our end of its stdin: while it is open, the guard does nothing."""


def new_tag() -> str:
    """Return a tag that no other app has."""
    return f"{VARIABLE}={os.urandom(16).hex()}"


def launch_guard(tag: str) -> Guarding:
    """
    Start a guard; it need not be ready for what follows.

    Raises:
        OSError: If it cannot be started.
    """
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        launched = launch(
            [sys.executable, "-I", "-S", GUARD_PROCESS, tag, str(os.getpid())],
            env=_bare_environment(),
            cwd="/",
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return Guarding(tag, launched, writing)


def _bare_environment() -> dict[str, str]:
    """
    Return what an interpreter needs to start, and nothing else.

    If we are ourselves the child of a supervised app, its tag must not be in there: our
    guard is to outlive us both.
    """
    wanted = {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
    return {name: value for name, value in os.environ.items() if name in wanted}
