"""The start of a program in a session and process group of its own."""

from __future__ import annotations

import errno
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NewProcess(NamedTuple):
    """A program that runs and that no `ChildProcess` watches yet."""

    popen: subprocess.Popen[bytes]
    owns_group: bool
    """Whether the pid is also the number of a process group."""
    at: float
    """When it was started, in monotonic seconds."""


def spawn_process(
    argv: Sequence[str] | str,
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> NewProcess:
    """
    Start a program, leader of its own session and process group, in about 1 ms.

    One synchronous step: no cancellation can separate the fork from its result.

    Args:
        argv: The program and its arguments.
        env: Its whole environment.
        cwd: Its working directory; the app's own if None.
        stdin: A descriptor or a `subprocess` constant, likewise *stdout* and *stderr*.
        options: Further arguments of `subprocess.Popen`.

    Raises:
        OSError: If the operating system refuses; no process is left behind then.
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
        # An unknown user, or text that no file name can hold.
        raise OSError(errno.EINVAL, f"Invalid argument: {exc}") from exc
    owns_group = merged["start_new_session"] or merged.get("process_group") == 0
    return NewProcess(popen, bool(owns_group), at)
