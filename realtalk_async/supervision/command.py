"""`Command`: a program with its arguments; and its start with pipes and environment."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from realtalk_async.exceptions import InvalidConfiguration, SpawnFailed
from realtalk_async.supervision.kernel.child_process import ChildProcess
from realtalk_async.supervision.kernel.pipes import STREAMS, PipeReader, PipeWriter
from realtalk_async.supervision.kernel.spawn import (
    NewProcess,
    current_guard,
    spawn_process,
    with_default_signals,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.supervision.kernel.pipes import GetMemory, OnData

Text = str | os.PathLike[str]

NOT_INHERITED: dict[str, None] = dict.fromkeys(
    (
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
    )
)
"""
What systemd tells the app alone, see sd_notify(3) and sd_listen_fds(3). A child that had
these variables would report itself ready, or alive, in the name of the app.
"""


class Command:
    """
    A program with its arguments, environment and working directory; immutable.

    ``await command()`` starts it and returns asyncio's own `Process` with pipes, so a
    command is also a restart function.

    Args:
        program: A path, or a name on ``PATH``.
        *args: Its arguments.
        env: Variables to add to the app's own environment; the value None removes one.
        cwd: The working directory; by default that of the app.
        stdin: Whether the child's stdin is a pipe, see `ManagedProcess.send`. Otherwise
            its stdin is empty.
        stdout: ``"lines"``: captured and kept. ``"binary"``: passed to one consumer, see
            `ManagedProcess.receive`, and not kept. stderr is captured in either case.
        redirect: Streams by name that are neither written nor captured: each value is an
            argument of `subprocess.Popen`, which replaces the pipe.
        options: Further arguments of `subprocess.Popen`, such as ``umask`` or ``user``.
            ``preexec_fn`` is refused: it would block the loop for the time of a fork.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    __slots__ = ("_options", "argv", "cwd", "env", "redirect", "stdin", "stdout")

    def __init__(
        self,
        program: Text,
        *args: Text,
        env: Mapping[str, str | None] | None = None,
        cwd: Text | None = None,
        stdin: bool = False,
        stdout: Literal["lines", "binary"] = "lines",
        redirect: Mapping[str, int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        argv = tuple(os.fspath(part) for part in (program, *args))
        _check_arguments(argv, env or {}, stdout, options or {})
        self.argv: tuple[str, ...] = argv
        self.env: dict[str, str | None] = dict(env or {})
        self.cwd: str | None = None if cwd is None else os.fspath(cwd)
        self.stdin = stdin
        self.stdout: Literal["lines", "binary"] = stdout
        self.redirect: dict[str, int | None] = dict(redirect or {})
        self._options: dict[str, Any] = dict(options or {})

    @classmethod
    def shell(cls, line: str, **rest: Any) -> Command:  # noqa: ANN401 - as __init__
        """Return a command that runs a line in ``/bin/sh``; *rest* as for `Command`."""
        return cls("/bin/sh", "-c", line, **rest)

    def replace(self, *args: Text) -> Command:
        """Return the same command with other arguments."""
        return Command(
            self.argv[0],
            *args,
            env=self.env,
            cwd=self.cwd,
            stdin=self.stdin,
            stdout=self.stdout,
            redirect=self.redirect,
            options=self._options,
        )

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of `subprocess.Popen`; a copy."""
        return dict(self._options)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """
        Return the child's environment: the app's, with `env` and *extra* applied.

        The variables of the app's own service manager (`NOT_INHERITED`) are left out,
        unless `env` has them.
        """
        guard = current_guard.get()
        merged: dict[str, str | None] = {
            **os.environ,
            **NOT_INHERITED,
            **self.env,
            **(guard.environment if guard else {}),
            **(extra or {}),
        }
        return {name: value for name, value in merged.items() if value is not None}

    async def __call__(self) -> asyncio.subprocess.Process:
        """
        Start the command without supervision, with pipes for its output.

        Raises:
            SpawnFailed: If the operating system refuses.
        """
        env, argv = self.environment(), self.argv
        try:
            if self._options.get("restore_signals", True):
                argv = tuple(with_default_signals(argv, env, self.cwd))
            return await asyncio.create_subprocess_exec(
                *argv,
                env=env,
                cwd=self.cwd,
                stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                **self._options,
            )
        except OSError as exc:
            raise explain_refusal(self.program_name, self, exc) from exc

    @property
    def program_name(self) -> str:
        """The program without its folder."""
        return Path(self.argv[0]).name

    def __str__(self) -> str:
        return shlex.join(self.argv)

    def __repr__(self) -> str:
        return f"Command({', '.join(map(repr, self.argv))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Command) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self.argv)

    def _key(self) -> tuple[object, ...]:
        return (
            self.argv, self.env, self.cwd, self.stdin, self.stdout,
            self.redirect, self._options,
        )  # fmt: skip


def _check_arguments(
    argv: tuple[object, ...],
    env: Mapping[str, str | None],
    stdout: str,
    options: Mapping[str, Any],
) -> None:
    for part in argv:
        if not isinstance(part, str):
            raise InvalidConfiguration(f"arguments must be text, not {part!r}")
        if "\0" in part:
            raise InvalidConfiguration(f"an argument contains a NUL byte: {part!r}")
    if not argv[0]:
        raise InvalidConfiguration("the program's name is empty")
    for name in env:
        if not name or "=" in name or "\0" in name:
            raise InvalidConfiguration(f"{name!r} is not a valid variable name")
    if stdout not in {"lines", "binary"}:
        raise InvalidConfiguration(
            f"stdout must be 'lines' or 'binary', not {stdout!r}"
        )
    ours = {"preexec_fn", "stdin", "stdout", "stderr", "env", "cwd", "args", "shell"}
    if refused := ours & options.keys():
        raise InvalidConfiguration(
            f"{', '.join(sorted(refused))} cannot be among the options: preexec_fn "
            f"blocks the loop, the others are arguments of Command itself"
        )


@dataclass(slots=True)
class Running:
    """A spawned command: the child and our ends of its pipes."""

    child: ChildProcess
    stdin: PipeWriter | None
    readers: dict[str, PipeReader]

    def close(self) -> None:
        """Close our ends of its pipes without draining them. Idempotent."""
        for reader in self.readers.values():
            reader.close()
        if self.stdin is not None:
            self.stdin.close()


def spawn(
    command: Command,
    *,
    extra_env: Mapping[str, str],
    on_data: OnData,
    get_memory: GetMemory,
    on_exit: Callable[[ChildProcess], None],
) -> Running:
    """
    Start a command in a new session, in one synchronous step of about 0.3 ms.

    Raises:
        OSError: If the operating system refuses, or cannot watch the child; neither the
            child nor a descriptor is left then, and *on_exit* is not called.
    """
    is_handed_over = False

    def report_exit(child: ChildProcess) -> None:
        if is_handed_over:
            on_exit(child)

    new, ours = _spawn_with_pipes(command, extra_env)
    try:
        child = ChildProcess(new, report_exit)
    except BaseException:
        _close_all(ours)
        raise
    readers: dict[str, PipeReader] = {}
    try:
        for name in STREAMS:
            if name in ours:
                readers[name] = PipeReader(
                    ours.pop(name),  # the reader closes it, whatever happens
                    name,
                    on_data,
                    get_memory=get_memory,
                    on_end=child.check_exit,
                )
    except BaseException:  # the loop cannot watch another descriptor
        child.kill_now()
        for reader in readers.values():
            reader.close()
        _close_all(ours)
        raise
    stdin = PipeWriter(ours["stdin"]) if "stdin" in ours else None
    is_handed_over = True
    return Running(child, stdin, readers)


def _spawn_with_pipes(
    command: Command, extra_env: Mapping[str, str]
) -> tuple[NewProcess, dict[str, int]]:
    """
    Start a command in a new session.

    Returns:
        The process, and the app's ends of its pipes by name.
    """
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    try:
        _make_pipes(command, ours, theirs)
        streams: dict[str, int | None] = {"stdin": subprocess.DEVNULL}
        streams |= command.redirect | theirs
        new = spawn_process(
            command.argv,
            env=command.environment(extra_env),
            cwd=command.cwd,
            stdin=streams["stdin"],
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            options=command.options,
        )
    except BaseException:
        _close_all(ours)
        raise
    finally:
        _close_all(theirs)
    return new, ours


def _make_pipes(command: Command, ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Make the pipes one by one, so that a failure leaves only registered ones open."""
    if command.stdin:
        theirs["stdin"], ours["stdin"] = os.pipe()
    for name in STREAMS:
        if name not in command.redirect:
            ours[name], theirs[name] = os.pipe()


def _close_all(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def explain_refusal(name: str, command: Command, error: OSError) -> SpawnFailed:
    """Return the error with the path at fault and a hint."""
    program, cwd = command.argv[0], command.cwd
    if cwd is not None and not os.path.isdir(cwd):
        return SpawnFailed(name, error, cwd, "the working directory does not exist")
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        hint = "no descriptor is left: close some, or raise the limit (ulimit -n)"
    elif error.errno == errno.ENOSPC:
        hint = (
            "it cannot be watched: raise the limit fs.epoll.max_user_watches (sysctl)"
        )
    elif error.errno in {errno.EAGAIN, errno.ENOMEM}:
        hint = "the system cannot start another process now; retry later"
    elif error.errno == errno.EINVAL:
        hint = "correct the command's arguments, environment or options"
    elif error.errno == errno.ENOEXEC:
        hint = "it is not a program: a script needs a first line such as #!/bin/sh"
    elif os.path.isdir(program):
        hint = "it is a directory"
    elif error.errno == errno.EACCES:
        hint = "it is not executable: check its mode (chmod +x)"
    elif os.sep not in program and shutil.which(program) is None:
        hint = "it is not on PATH: install it or give its full path"
    else:
        hint = "check the path, and the interpreter in the first line of a script"
    return SpawnFailed(name, error, program, hint)
