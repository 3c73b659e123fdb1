"""
The start of a program in a session and process group of its own.

Whatever the app has blocked or ignored, the program starts with an empty signal mask and
the default disposition of all signals: otherwise an app that waits for SIGTERM in a thread
would have children that only SIGKILL ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from realtalk_async.supervision.kernel.spawning import posix_spawn
from realtalk_async.supervision.kernel.spawning.interpreter import script_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPAWN_OPTIONS = {"start_new_session", "process_group", "close_fds", "restore_signals"}
"""Options that `posix_spawn` knows; `subprocess.Popen` starts a program with any other."""

CLEAN_EXEC = "realtalk_async.supervision.kernel.spawning.clean_exec"


class ChildGuard(Protocol):
    """What protects a child from outliving the app: the supervisor of a manager."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which the guard recognises a child."""
        ...

    def group_started(self, pid: int) -> None:
        """Tell the guard of a new process group."""
        ...

    def group_ended(self, pid: int) -> None:
        """Tell the guard that a process group has ended."""
        ...


current_guard: ContextVar[ChildGuard | None] = ContextVar("current_guard", default=None)
"""
The guard of all that the running task starts: set in the lifecycle of a process or task, it
holds for the programs of its probes, and for the commands that the app's restart functions
and the supervised tasks themselves start.
"""


class NewProcess(NamedTuple):
    """A program that runs and that no `ChildProcess` watches yet."""

    pid: int
    owns_group: bool
    """Whether the pid is also the number of a process group."""
    at: float
    """When it was started, in monotonic seconds."""


def spawn_process(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> NewProcess:
    """
    Start a program, leader of its own session and process group, in about 0.3 ms.

    It has an empty signal mask and the default disposition of all signals. One synchronous
    step: no cancellation can separate the start from its result.

    Args:
        argv: The program and its arguments.
        env: Its whole environment.
        cwd: Its working directory; the app's own if None.
        stdin: A descriptor or a `subprocess` constant, likewise *stdout* and *stderr*.
        options: Further arguments of `subprocess.Popen`. With ``restore_signals=False``
            the program inherits the app's mask and ignored signals.

    Raises:
        OSError: If the operating system refuses; no process is left behind then.
    """
    merged: dict[str, Any] = {"start_new_session": True, **(options or {})}
    if merged.get("process_group") is not None:
        merged["start_new_session"] = False  # a session's leader cannot join a group
    streams = _as_descriptors(stdin, stdout, stderr)
    at = time.monotonic()
    try:
        if streams is None or not _suits_posix_spawn(merged):
            given = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
            pid = _spawn_with_popen(argv, env, cwd, {**given, **merged})
        else:
            pid = posix_spawn.spawn(
                argv,
                env,
                cwd=cwd,
                streams=streams,
                new_session=merged["start_new_session"],
                process_group=merged.get("process_group"),
            )
    except (LookupError, TypeError, ValueError) as exc:
        # An unknown user, or text that no file name can hold.
        raise OSError(errno.EINVAL, f"Invalid argument: {exc}") from exc
    owns_group = merged["start_new_session"] or merged.get("process_group") == 0
    return NewProcess(pid, bool(owns_group), at)


def kill_unwatched(new: NewProcess) -> None:
    """
    Kill a program and reap it, unless it is reaped already. Blocks for 0.5 s at most.

    Call it in the step that has started the program: its pid cannot be reused by then.
    """
    deadline = time.monotonic() + 0.5
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        while not os.waitpid(new.pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            (os.killpg if new.owns_group else os.kill)(new.pid, signal.SIGKILL)
            time.sleep(0.001)


def _suits_posix_spawn(options: Mapping[str, Any]) -> bool:
    return (
        posix_spawn.available
        and options.keys() <= SPAWN_OPTIONS
        and options.get("close_fds", True)
        and options.get("restore_signals", True)
    )


def _as_descriptors(*streams: object) -> list[int] | None:
    """Return the arguments of `posix_spawn`; None if it has none for one of *streams*."""
    found: list[int] = []
    for one in streams:
        if one is None:
            found.append(posix_spawn.INHERITED)
        elif one == subprocess.STDOUT and len(found) == 2:
            # The child's own stdout, by then; the app's if the child inherits that.
            found.append(found[1] if found[1] != posix_spawn.INHERITED else 1)
        elif one == subprocess.DEVNULL:
            found.append(posix_spawn.DEVNULL)
        elif isinstance(one, int) and one >= 0:
            found.append(one)
        else:  # a file object
            return None
    return found


def _spawn_with_popen(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str | None,
    options: dict[str, Any],
) -> int:
    if options.get("restore_signals", True):
        argv = with_default_signals(argv, env, cwd)
    popen = cast(
        "subprocess.Popen[bytes]", subprocess.Popen(argv, env=env, cwd=cwd, **options)
    )
    # The caller reaps the program. Popen's destructor must not try: the pid may belong
    # to another process by then.
    popen.returncode = 0
    return popen.pid


def with_default_signals(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None
) -> Sequence[str]:
    """
    Return *argv*, for a start by `subprocess` or asyncio.

    If this thread blocks or ignores signals, an interpreter comes first, resets them and
    executes the program: that takes it 10 ms. A frozen app has no interpreter: its child
    inherits them.

    Raises:
        FileNotFoundError: If the interpreter would not find the program.
    """
    if _has_default_signals():
        return argv
    words = script_words(CLEAN_EXEC)
    if words is None:
        return argv
    must_exist(argv[0], env, cwd)
    return (*words, *argv)


def _has_default_signals() -> bool:
    """Return whether a child of this thread blocks and ignores no signal."""
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return False
    restored = {signal.SIGPIPE, signal.SIGXFSZ}  # by `subprocess`
    return not any(
        signal.getsignal(number) is signal.SIG_IGN
        for number in signal.valid_signals() - restored
    )


def must_exist(program: str, env: Mapping[str, str], cwd: str | None) -> None:
    """
    Raise the error of a program that is nowhere or not executable, as its start would.

    Raises:
        OSError: If the program, or its working directory, cannot be used.
    """
    path = os.path.join(cwd or "", program) if os.sep in program else program
    if shutil.which(path, path=os.pathsep.join(os.get_exec_path(env))) is None:
        if os.sep in program and os.path.exists(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
