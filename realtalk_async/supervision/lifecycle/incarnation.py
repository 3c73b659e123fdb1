"""
One incarnation of a process: its exit, its signals, its pipes.

`Spawned` and `Adopted` have one interface, so that the lifecycle does not distinguish them.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, TypedDict

from realtalk_async.concurrency.waiting import error_of
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.command import Command, Running, spawn
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.child_process import make_asyncio_process
from realtalk_async.supervision.kernel.pipes import write_stream
from realtalk_async.supervision.kernel.spawning.limits import describe_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.operating_system import ProcessInfo
    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.child_process import ChildProcess
    from realtalk_async.supervision.kernel.exit_status import ExitStatus, Usage
    from realtalk_async.supervision.kernel.fair_poller import OnError
    from realtalk_async.supervision.kernel.pipes import GetMemory, OnData, StreamName
    from realtalk_async.supervision.reports.status import CaptureEnd


class Incarnation(abc.ABC):
    """The interface of a running or exited incarnation."""

    pid: int
    owns_group: bool
    """Whether the pid is also the id of a process group of its own."""
    started: float
    """Monotonic seconds."""
    noticed: float | None = None
    """When the loop received the exit notice of the kernel, in monotonic seconds."""
    ended: float | None = None
    exit_status: ExitStatus | None = None
    """None while it runs."""
    usage: Usage | None = None
    limit_reached: str = ""
    """The limit that ended it, in words; empty if none did."""
    group_gone: bool = False
    """Whether the group was found empty; it is never signalled again then."""

    @property
    @abc.abstractmethod
    def process(self) -> asyncio.subprocess.Process:
        """The incarnation as asyncio's `Process`."""

    @property
    @abc.abstractmethod
    def exited(self) -> asyncio.Future[None]:
        """Done as soon as the program has exited."""

    @property
    def alive(self) -> bool:
        """Whether the program has not exited."""
        return self.exit_status is None

    @property
    @abc.abstractmethod
    def takes_input(self) -> bool:
        """Whether its stdin is a pipe of ours."""

    @property
    def unread(self) -> int:
        """Bytes in the pipe of its stdin when that was closed."""
        return 0

    @abc.abstractmethod
    async def write(self, data: bytes, progress: list[int]) -> None:
        """Write to stdin; see `PipeWriter.write`."""

    @abc.abstractmethod
    def close_stdin(self) -> None:
        """Close its stdin; the program reads end-of-file."""

    @abc.abstractmethod
    def signal_alone(self, number: int) -> None:
        """Send a signal to the program only, not to its group."""

    @abc.abstractmethod
    async def drain(self, bound: float) -> CaptureEnd:
        """Read both pipes to their end, for *bound* seconds at most; then close them."""

    @abc.abstractmethod
    def kill_now(self) -> None:
        """Kill the whole group and close its pipes, without waiting for the loop."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close all open pipes without draining them. Idempotent."""

    def descriptors(self) -> list[int]:
        """Return the descriptors that are open on our side."""
        return []

    @abc.abstractmethod
    def pause(self, stream: StreamName) -> None:
        """Stop reading *stream*: the child blocks once the pipe is full."""

    @abc.abstractmethod
    def resume(self, stream: StreamName) -> None:
        """Continue to read *stream*."""

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, or to the program if it leads no group."""
        if not self.owns_group:
            self.signal_alone(number)
            if number not in {signal.SIGKILL, signal.SIGSTOP}:
                self.signal_alone(signal.SIGCONT)
        elif not self.group_gone:
            process_groups.send_signal(self.pid, number)

    def is_gone(self) -> bool:
        """Return whether the program and its whole group have ended; does not block."""
        if self.alive:
            return False
        if not self.owns_group:
            return True
        # The kernel reuses the id of a group only once it is empty: a group that was found
        # empty must not be signalled again, because its id may belong to another group.
        self.group_gone = self.group_gone or process_groups.is_empty(self.pid)
        return self.group_gone

    async def members(self) -> list[ProcessInfo]:
        """Return the members of the group except zombies, see `GroupSearch`."""
        if not self.owns_group:
            one = await process_groups.read_process(self.pid) if self.alive else None
            return [one] if one and one.alive else []
        if self.group_gone:
            return []
        return await process_groups.get_group_search().living_members(self.pid)


class Callbacks(TypedDict):
    """The callbacks of `Spawned`."""

    on_data: OnData
    get_memory: GetMemory
    on_exit: Callable[[], None]
    on_error: OnError


class Spawned(Incarnation):
    """
    An incarnation that this package spawned.

    Args:
        command: The command to run.
        environment: Variables to add to its environment.
        on_data: Called with each chunk of output.
        get_memory: Called before each read; see `PipeReader`.
        on_exit: Called once, when the program has exited and its pipes were read.
        on_error: Called with an error of this package that makes it fail.
        cgroup: The cgroup that it enters; see `Contained`.

    Raises:
        OSError: If the operating system refuses to start it.
    """

    def __init__(
        self,
        command: Command,
        *,
        environment: Mapping[str, str],
        on_data: OnData,
        get_memory: GetMemory,
        on_exit: Callable[[], None],
        on_error: OnError,
        cgroup: Cgroup | None = None,
    ) -> None:
        self._on_exit = on_exit
        self._limits = command.limits
        self._running: Running = spawn(
            command,
            extra_env=environment,
            on_data=on_data,
            get_memory=get_memory,
            on_exit=self._note_exit,
            on_error=on_error,
            cgroup=cgroup,
        )
        child = self._running.child
        self._process: asyncio.subprocess.Process | None = None
        self.pid = child.pid
        self.owns_group = child.owns_group
        self.started = child.started

    @property
    def exited(self) -> asyncio.Future[None]:
        """Done as soon as the program has exited."""
        return self._running.child.exited

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The incarnation as asyncio's `Process`, made at the first access."""
        if self._process is None:
            self._process = make_asyncio_process(self._running.child)
        return self._process

    @property
    def _writer(self) -> asyncio.StreamWriter | None:
        """The app's own writer to its stdin, if it has one."""
        return self._process.stdin if self._process else None

    def descriptors(self) -> list[int]:
        """Return the descriptors that are open on our side: pipes and the exit notice."""
        running = self._running
        found = [running.child.handle]
        found += [reader.descriptor for reader in running.readers.values()]
        found += [running.stdin.descriptor] if running.stdin else []
        return [one for one in found if one >= 0]

    def _note_exit(self, child: ChildProcess) -> None:
        self.exit_status = child.exit_status
        self.noticed, self.ended = child.noticed, child.ended
        self.usage = child.usage
        if self._limits is not None and not self.limit_reached:
            self.limit_reached = describe_end(
                self._limits, self.exit_status, self.usage
            )
        self.close_stdin()
        for reader in self._running.readers.values():
            # The newest output belongs to the crash report.
            reader.read_available()
        self.is_gone()  # checked now, while the group's id cannot have been reused
        self._on_exit()

    @property
    def takes_input(self) -> bool:
        """Whether its stdin is a pipe of ours."""
        return self._running.stdin is not None or self._writer is not None

    @property
    def unread(self) -> int:
        """Bytes in the pipe of its stdin when that was closed."""
        return self._running.stdin.unread if self._running.stdin else 0

    async def write(self, data: bytes, progress: list[int]) -> None:
        """Write to stdin."""
        if self._writer is not None:
            await write_stream(self._writer, data, progress)
        elif self._running.stdin is not None:
            await self._running.stdin.write(data, progress)
        else:
            raise BrokenPipeError

    def close_stdin(self) -> None:
        """Close its stdin."""
        if self._writer is not None:
            self._writer.close()
        if self._running.stdin is not None:
            self._running.stdin.close()

    def detach_stdin(self) -> int:
        """Hand our end of its stdin over to the caller: -1 if there is none."""
        stdin, self._running.stdin = self._running.stdin, None
        return stdin.detach() if stdin else -1

    def signal_alone(self, number: int) -> None:
        """Send a signal to the program only."""
        self._running.child.send_signal(number)

    def pause(self, stream: StreamName) -> None:
        """Stop reading *stream*: the child blocks once the pipe is full."""
        self._running.readers[stream].pause()

    def resume(self, stream: StreamName) -> None:
        """Continue to read *stream*."""
        self._running.readers[stream].resume()

    async def drain(self, bound: float) -> CaptureEnd:
        """Read both pipes to their end, for *bound* seconds at most; then close them."""
        readers = self._running.readers.values()
        open_ones = [
            one for one in readers if one.descriptor >= 0 and not one.has_ended
        ]
        if open_ones:
            for reader in open_ones:
                reader.read_to_end()
            await asyncio.wait([one.ended for one in open_ones], timeout=bound)
            for reader in open_ones:
                # The disk may be behind, so that reading paused: keep the last words.
                reader.read_rest()
        self.close()
        if not readers:
            return "none"
        whole = all(reader.has_ended for reader in readers)
        return "end of file" if whole else "drain bound"

    def kill_now(self) -> None:
        """Kill the whole group and close its pipes, without waiting for the loop."""
        self.signal(signal.SIGKILL)
        self._running.child.kill_now()
        self.close()

    def close(self) -> None:
        """Close all open pipes without draining them. Idempotent."""
        self.close_stdin()
        self._running.close()


class Adopted(Incarnation):
    """
    An incarnation that the app started with asyncio, adopted with its pipes.

    Its output is read from asyncio's own streams, so the app must not read them.

    Args:
        process: A running or finished asyncio `Process`.
        on_data: Called with each chunk of output.
        on_exit: Called once, when the program has exited.
        on_error: Called with an error of this package that makes it fail.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        *,
        on_data: OnData,
        on_exit: Callable[[], None],
        on_error: OnError,
    ) -> None:
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._on_data = on_data
        self._on_exit = on_exit
        self._process = process
        self.pid = process.pid
        self.started = time.monotonic()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self.owns_group = process.returncode is None and process_groups.leads_one(
            self.pid
        )
        self._handle = -1
        self._reading: dict[StreamName, asyncio.Event] = {}
        streams = {"stdout": process.stdout, "stderr": process.stderr}
        self._readers = [
            self._loop.create_task(self._read(name, stream))  # type: ignore[arg-type]
            for name, stream in streams.items()
            if stream is not None
        ]
        self._watcher = self._loop.create_task(self._watch())
        for task in (*self._readers, self._watcher):
            task.add_done_callback(self._report_error)

    def _report_error(self, task: asyncio.Task[None]) -> None:
        error = error_of(task)
        if error is not None:
            self._on_error(error)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process that was given."""
        return self._process

    @property
    def exited(self) -> asyncio.Future[None]:
        """Done as soon as the program has exited."""
        return self._exited

    async def _watch(self) -> None:
        """Wait for the exit; `Process.wait` would wait for the pipes as well."""
        if self._process.returncode is None:
            # It may have exited, or the system have no such descriptors.
            with contextlib.suppress(OSError):
                self._handle = SYSTEM.open_process(self.pid)
        try:
            delay = 0.001 if await self._exit_noticed() else 0.02
            while self._process.returncode is None:  # noqa: ASYNC110 - no callback
                # asyncio reaps it, a moment later or (3.11) in a thread.
                await asyncio.sleep(delay)
        finally:
            handle, self._handle = self._handle, -1
            if handle >= 0:
                SYSTEM.close_process(handle)
        self._conclude()

    async def _exit_noticed(self) -> bool:
        """Wait for the exit notice; return False at once if there will be none."""
        if self._handle < 0:
            return False
        readable: asyncio.Future[None] = self._loop.create_future()
        try:
            self._loop.add_reader(self._handle, self._set_done, readable)
        except OSError:  # the system can watch no further descriptor
            return False
        try:
            await readable
        finally:
            self._loop.remove_reader(self._handle)
        return True

    @staticmethod
    def _set_done(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def _conclude(self) -> None:
        code = self._process.returncode
        # asyncio reports 255 if another part of the app reaped the process, as for a
        # program that exits with 255: the two cases cannot be distinguished here.
        self.exit_status = "unknown" if code is None else code
        self.noticed = self.ended = time.monotonic()
        if not self._exited.done():
            self._exited.set_result(None)
        self._on_exit()

    async def _read(self, name: StreamName, stream: asyncio.StreamReader) -> None:
        may_read = self._reading[name] = asyncio.Event()
        may_read.set()
        while chunk := await stream.read(1 << 16):
            self._on_data(name, chunk, time.monotonic())
            await may_read.wait()

    def pause(self, stream: StreamName) -> None:
        """Stop reading *stream*: the child blocks once asyncio and the pipe are full."""
        self._reading[stream].clear()

    def resume(self, stream: StreamName) -> None:
        """Continue to read *stream*."""
        if stream in self._reading:
            self._reading[stream].set()

    @property
    def takes_input(self) -> bool:
        """Whether its stdin is a pipe of ours."""
        return self._process.stdin is not None

    async def write(self, data: bytes, progress: list[int]) -> None:
        """Write to stdin."""
        if self._process.stdin is None:
            raise BrokenPipeError
        await write_stream(self._process.stdin, data, progress)

    def close_stdin(self) -> None:
        """Close its stdin."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def signal_alone(self, number: int) -> None:
        """Send a signal to the program only."""
        with contextlib.suppress(ProcessLookupError):
            if self._handle >= 0:
                # asyncio's own function may reap it; on 3.11 the thread that waits for it
                # does not learn its status then.
                SYSTEM.signal_process(self._handle, number)
            else:
                self._process.send_signal(number)

    async def drain(self, bound: float) -> CaptureEnd:
        """Read both pipes to their end, for *bound* seconds at most; then close them."""
        if not self._readers:
            self.close()
            return "none"
        _, pending = await asyncio.wait(self._readers, timeout=bound)
        self.close()
        await asyncio.gather(*self._readers, return_exceptions=True)
        return "drain bound" if pending else "end of file"

    def kill_now(self) -> None:
        """Kill the whole group and close its pipes, without waiting for the loop."""
        self.signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close all open pipes without draining them. Idempotent."""
        for task in (*self._readers, self._watcher):
            task.cancel()
        _close(self._process)


def discard(process: asyncio.subprocess.Process) -> None:
    """Kill a process that is not to be supervised, with its group; close its pipes."""
    if process.returncode is None and process_groups.leads_one(process.pid):
        process_groups.send_signal(process.pid, signal.SIGKILL)
    _close(process)


def _close(process: asyncio.subprocess.Process) -> None:
    """Close the pipes, even if a grandchild holds them open; kill it if it runs."""
    # asyncio's Process has no public close.
    transport: object = getattr(process, "_transport")  # noqa: B009
    if isinstance(transport, asyncio.BaseTransport):
        transport.close()
