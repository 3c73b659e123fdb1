"""`Command`: a program with its arguments; and its start with pipes and environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from realtalk_async import arguments
from realtalk_async.exceptions import (
    ContainmentUnavailable,
    InvalidConfiguration,
    SpawnFailed,
)
from realtalk_async.supervision.kernel.child_process import ChildProcess
from realtalk_async.supervision.kernel.pipes import STREAMS, PipeReader, PipeWriter
from realtalk_async.supervision.kernel.spawn import (
    NewProcess,
    current_guard,
    kill_unwatched,
    spawn_process,
    with_default_signals,
)
from realtalk_async.supervision.kernel.spawning.command_checks import (
    Text,
    Variable,
    Word,
    check_options,
    check_redirect,
    check_terminal,
    check_variables,
    check_word,
    check_words,
)
from realtalk_async.supervision.kernel.spawning.interpreter import without_bundle
from realtalk_async.supervision.kernel.spawning.limits import Limits
from realtalk_async.supervision.kernel.spawning.mistakes import hint_at, is_shell_line
from realtalk_async.supervision.kernel.spawning.prelude import with_prelude
from realtalk_async.supervision.kernel.spawning.terminals import (
    TerminalWriter,
    open_terminal,
)
from realtalk_async.supervision.output.tap import ChildOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.fair_poller import OnError
    from realtalk_async.supervision.kernel.pipes import GetMemory, OnData

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


START_STOPPED = "start_stopped"
"""
Internal option: the process stops before it becomes the program, until it receives SIGCONT.
"""


class Command:
    """
    A program with its arguments, environment and working directory; immutable.

    ``await command()`` starts it and returns asyncio's own `Process` with pipes, so a
    command is also a restart function.

    Args:
        program: A path, or a name on ``PATH``.
        *args: Its arguments: texts, paths and numbers.
        env: Variables to add to the app's own environment, texts or numbers; the value
            None removes one.
        cwd: The working directory; by default that of the app.
        stdin: Whether the child's stdin is a pipe, see `ManagedProcess.send`. Otherwise
            its stdin is empty. ``recorder.stdout`` of a process, or its text
            ``"recorder.stdout"``, connects its output to this stdin: the connection
            outlives a restart of either end, and the output is captured as always.
            While the reader does not run, the newest 1 MiB waits; what is skipped is
            counted in the log. Of a slow reader, the capture keeps all that it has not
            read; a binary stdout blocks then. When the other process has finished or was
            given up, the reader reads end-of-file; when it was stopped, the reader waits.
        stdout: ``"lines"``: captured and kept. ``"binary"``: passed to one consumer, see
            `ManagedProcess.receive`, and not kept. stderr is captured in either case.
        redirect: Streams by name that are neither written nor captured: each value is an
            argument of `subprocess.Popen`, which replaces the pipe.
        options: Further arguments of `subprocess.Popen`, such as ``umask`` or ``user``.
            ``preexec_fn`` is refused: it would block the loop for the time of a fork.
        limits: What the program and its descendants may use; see `Limits`.
        tty: Whether it has a terminal of its own, which is its controlling one, as stdin,
            stdout and stderr: what it writes is captured as stdout, and `send` types on
            the terminal. Its size is that of the app's own stdout, or 80 columns and 24
            rows; see `ManagedProcess.resize`.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    __slots__ = (
        "_options", "argv", "cwd", "env", "limits", "redirect", "stdin", "stdout", "tty",
    )  # fmt: skip

    def __init__(
        self,
        program: Text,
        *args: Word,
        env: Mapping[str, Variable | None] | None = None,
        cwd: Text | None = None,
        stdin: bool | ChildOutput | str = False,
        stdout: Literal["lines", "binary"] = "lines",
        redirect: Mapping[str, int | None] | None = None,
        options: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        tty: bool = False,
    ) -> None:
        argv = check_words(program, args)
        check_variables(env)
        arguments.path("cwd", cwd, optional=True)
        if isinstance(stdin, str):
            stdin = ChildOutput.of("stdin", stdin)
        elif not isinstance(stdin, ChildOutput):
            arguments.flag("stdin", stdin)
        arguments.choice("stdout", stdout, ("lines", "binary"))
        check_redirect(redirect)
        check_options(options)
        arguments.instance("limits", limits, Limits, "Limits(…)", optional=True)
        arguments.flag("tty", tty)
        if (limits or tty) and "executable" in (options or {}):
            raise InvalidConfiguration(
                "limits and tty do not allow the option 'executable': the shell that sets "
                "them becomes the program that the first word names"
            )
        if tty:
            check_terminal(stdin, stdout, redirect, options)
        if is_shell_line(argv[0], cwd, (env or {}).get("PATH")):
            raise InvalidConfiguration(
                f"program must be one program, not the shell line {argv[0]!r}: write "
                f"Command.shell({argv[0]!r}), or the program and its arguments as "
                f"several texts"
            )
        self.argv: tuple[str, ...] = argv
        self.env: dict[str, str | None] = {
            key: value if value is None else str(value)
            for key, value in (env or {}).items()
        }
        self.cwd: str | None = None if cwd is None else os.fspath(cwd)
        self.stdin: bool | ChildOutput = stdin
        self.stdout: Literal["lines", "binary"] = stdout
        self.redirect: dict[str, int | None] = dict(redirect or {})
        self.limits: Limits | None = limits
        self.tty = tty
        self._options: dict[str, Any] = dict(options or {})

    @classmethod
    def shell(cls, line: str, **rest: Any) -> Command:  # noqa: ANN401 - as __init__
        """
        Return a command that runs a line in ``/bin/sh``; *rest* as for `Command`.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.words("line", line)
        return cls("/bin/sh", "-c", line, **rest)

    @classmethod
    def of(cls, command: Command | Sequence[Word]) -> Command:
        """
        Return a command, also for a list of its words: program and arguments.

        Raises:
            InvalidConfiguration: If it is neither; a text is no list.
        """
        return command_of("command", command)

    def replace(self, *args: Word) -> Command:
        """
        Return the same command with other arguments.

        Raises:
            InvalidConfiguration: If an argument is no text.
        """
        return Command(
            self.argv[0],
            *args,
            env=self.env,
            cwd=self.cwd,
            stdin=self.stdin,
            stdout=self.stdout,
            redirect=self.redirect,
            options=self._options,
            limits=self.limits,
            tty=self.tty,
        )

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of `subprocess.Popen`; a copy."""
        return dict(self._options)

    def environment(
        self, extra: Mapping[str, Variable] | None = None
    ) -> dict[str, str]:
        """
        Return the child's environment: the app's, with `env` and *extra* applied.

        The variables of the app's own service manager (`NOT_INHERITED`) are left out,
        unless `env` has them.

        Raises:
            InvalidConfiguration: If *extra* is invalid.
        """
        check_variables(extra, "extra")
        more = {name: str(value) for name, value in (extra or {}).items()}
        guard = current_guard.get()
        merged: dict[str, str | None] = {
            **_inherited_environment(),
            **NOT_INHERITED,
            **self.env,
            **(guard.environment if guard else {}),
            **more,
        }
        return {name: value for name, value in merged.items() if value is not None}

    async def __call__(self) -> asyncio.subprocess.Process:
        """
        Start the command without supervision, with pipes for its output.

        What a supervised task, a restart function or a probe starts ends with the manager
        at the latest, also if the app is killed.

        Raises:
            SpawnFailed: If the operating system refuses.
            InvalidConfiguration: If it has a terminal of its own.
        """
        if self.tty:
            raise InvalidConfiguration(
                "a command with tty=True needs a ProcessManager, which reads its terminal"
            )
        argv: Sequence[str] = self.argv
        env = self.environment()
        try:
            argv = with_prelude(argv, env, self.cwd, self.limits)
            if self._options.get("restore_signals", True):
                argv = with_default_signals(argv, env, self.cwd)
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
            self.redirect, self._options, self.limits, self.tty,
        )  # fmt: skip


def command_of(argument: str, command: Command | Sequence[Word]) -> Command:
    """Return the `Command` that an argument stands for, see `Command.of`."""
    if isinstance(command, Command):
        return command
    if isinstance(command, list | tuple) and command:
        program, *args = arguments.several(argument, command, check_word, "words")
        arguments.path(f"{argument}[0]", program)
        return Command(cast("Text", program), *args)
    hint = ""
    if isinstance(command, str):
        hint = f"; write Command.shell({command!r}) for a line of a shell"
    allowed = "a Command or a list of words such as ['sox', '-d']"
    raise InvalidConfiguration(f"{arguments.refused(argument, allowed, command)}{hint}")


_decoded: tuple[dict[bytes, bytes], dict[str, str]] = {}, {}
"""The app's environment at the last spawn, as bytes and as text."""


def _inherited_environment() -> dict[str, str]:
    """Return the app's environment; it is decoded again only if it has changed."""
    global _decoded
    raw = dict(os.environb)
    if raw != _decoded[0]:
        _decoded = raw, without_bundle(dict(os.environ))
    return _decoded[1]


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
    on_error: OnError,
    cgroup: Cgroup | None = None,
) -> Running:
    """
    Start a command in a new session, in one synchronous step of about 0.3 ms.

    With limits, a terminal or *cgroup* a shell runs before the program, see `with_prelude`.

    Raises:
        OSError: If the operating system refuses, or cannot watch the child; neither the
            child nor a descriptor is left then, and *on_exit* is not called.
    """
    is_handed_over = False

    def report_exit(child: ChildProcess) -> None:
        if is_handed_over:
            on_exit(child)

    readers: dict[str, PipeReader] = {}
    with contextlib.ExitStack() as undo:
        new, ours = _spawn_with_pipes(command, extra_env, undo, cgroup)
        undo.callback(kill_unwatched, new)
        child = ChildProcess(new, report_exit, on_error)
        undo.callback(child.kill_now)
        for name in STREAMS:
            if name in ours:
                readers[name] = PipeReader(
                    ours[name],
                    name,
                    on_data,
                    get_memory=get_memory,
                    on_end=child.check_exit,
                    on_error=on_error,
                )
                undo.callback(readers[name].detach)
        writer = TerminalWriter if command.tty else PipeWriter
        stdin = writer(ours["stdin"]) if "stdin" in ours else None
        undo.pop_all()
    is_handed_over = True
    return Running(child, stdin, readers)


def _spawn_with_pipes(
    command: Command,
    extra_env: Mapping[str, str],
    undo: contextlib.ExitStack,
    cgroup: Cgroup | None,
) -> tuple[NewProcess, dict[str, int]]:
    """
    Start a command in a new session.

    Args:
        command: The command.
        extra_env: Variables to add to its environment.
        undo: Closes the app's ends of the pipes, unless the caller takes them over.
        cgroup: The cgroup that it enters.

    Returns:
        The process, and the app's ends of its pipes by name.
    """
    ours: dict[str, int] = {}
    streams: dict[str, int | None] = {"stdin": subprocess.DEVNULL, **command.redirect}
    theirs: list[int] = []
    try:
        captured = [name for name in STREAMS if name not in command.redirect]
        piped = ["stdin", *captured] if command.stdin else captured
        for name in [] if command.tty else piped:
            reading, writing = os.pipe()
            mine, its = (writing, reading) if name == "stdin" else (reading, writing)
            undo.callback(os.close, mine)
            theirs.append(its)
            ours[name], streams[name] = mine, its
        if command.tty:
            ours["stdout"], slave = open_terminal()
            undo.callback(os.close, ours["stdout"])
            theirs.append(slave)
            streams = dict.fromkeys(("stdin", *STREAMS), slave)
            if command.stdin:
                ours["stdin"] = os.dup(ours["stdout"])
                undo.callback(os.close, ours["stdin"])
        argv: Sequence[str] = command.argv
        env = command.environment(extra_env)
        options = command.options
        stopped = options.pop(START_STOPPED, False)
        has_prelude = command.limits is not None or cgroup is not None
        if has_prelude or command.tty or stopped:
            argv = with_prelude(
                argv,
                env,
                command.cwd,
                command.limits,
                cgroup,
                tty=command.tty,
                stopped=stopped,
            )
        new = spawn_process(
            argv,
            env=env,
            cwd=command.cwd,
            stdin=streams["stdin"],
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            options=options,
        )
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return new, ours


def explain_refusal(name: str, command: Command, error: OSError) -> SpawnFailed:
    """Return the error with the path at fault and a hint."""
    if isinstance(error, ContainmentUnavailable):
        return SpawnFailed(name, error.error, error.path, error.hint)
    path = command.argv[0]
    if command.cwd is not None and not os.path.isdir(command.cwd):
        exists = os.path.exists(command.cwd)
        what = "is not a directory" if exists else "does not exist"
        path, hint = command.cwd, f"the working directory {what}"
        return SpawnFailed(name, error, path, hint, is_lasting=True)
    has_own = "PATH" in command.env
    own_path = command.environment().get("PATH", os.defpath) if has_own else None
    is_lasting, hint = hint_at(error, path, command.cwd, own_path)
    return SpawnFailed(name, error, path, hint, is_lasting=is_lasting)
