"""
The player: a child process whose stdin is the speaker, written no faster than it plays.

Without a player the session continues as text. A standby player may run as well: it takes
over in the middle of a word, and the restarted player becomes the standby.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from realtalk_async import g711
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.exceptions import ProcessDead, WriteStalled
from realtalk_async.supervision import (
    CLOSE_STDIN,
    SWIFT,
    Cause,
    Command,
    Ladder,
    Probe,
)
from realtalk_async.voice.audio import devices, wav
from realtalk_async.voice.audio.diagnostics import (
    RETRY_PAUSE,
    RetryWindow,
    advise,
    diagnose,
)
from realtalk_async.voice.audio.recorder import RESTART
from realtalk_async.voice.events import (
    DefaultDeviceChanged,
    DeviceFailed,
    PlayerSwitched,
)

if TYPE_CHECKING:
    from realtalk_async.exceptions import AudioUnavailable
    from realtalk_async.supervision import (
        IncarnationReport,
        ManagedProcess,
        ProcessManager,
    )
    from realtalk_async.supervision.policy.probes import Probed
    from realtalk_async.voice.audio.devices import AudioProgram, Device, Machine
    from realtalk_async.voice.connection import Connection

NAME: Final = "player"

STANDBY: Final = "standby"

# sox and ffmpeg ignore SIGTERM while they wait for input. The end of stdin ends every
# player, and a player of a file writes the rest first.
LADDER = Ladder((CLOSE_STDIN, 0.5), *((s.signal, s.wait) for s in SWIFT.steps))

_WRITE_TIMEOUT = 2.0  # seconds
_POLL_PERIOD = 0.01  # seconds between two checks of a player that is down
_PROVEN_UPTIME = 0.3  # seconds of uptime that prove that a program can play


class Player:
    """
    The speaker of one session.

    Args:
        device: The device or file to play to; not ``None``.
        machine: Where to look for programs.
        connection: Gives the audio that is due.
        standby: Whether a standby player runs as well; a file never has one.

    Raises:
        AudioUnavailable: If there is no program, or the file cannot be written.
    """

    def __init__(
        self,
        device: Device,
        machine: Machine,
        connection: Connection,
        *,
        standby: bool = False,
    ) -> None:
        self._device = device
        self._connection = connection
        self._format: g711.AudioFormat = connection.session.config.audio_format
        self._programs = devices.find_players(device, machine, self._format)
        self._current = 0
        self._process: ManagedProcess | None = None
        self._standby: ManagedProcess | None = None
        self.names: tuple[str, ...] = (NAME,)
        """The names of its processes."""
        if standby and self.program.file is None:
            self.names = (NAME, STANDBY)
        self._works = False  # a program has shown that it can play
        self._retry_window = RetryWindow()
        # By the name of the process:
        self._written_to: dict[str, int] = {}  # the incarnation written to last
        self._started: dict[str, float] = {}
        self._program_index: dict[str, int] = {}
        self._stalled: dict[str, str] = {}
        self._new_device: dict[str, str] = {}  # that the program is to open
        self._accepts_input = Probe("accepts input", self._check_input)

    @property
    def is_default(self) -> bool:
        """Whether it uses the default device."""
        return self._device == devices.DEFAULT

    @property
    def program(self) -> AudioProgram:
        """The current program; the next one to be tried if there is no process."""
        return self._programs[self._current]

    async def start(self, manager: ProcessManager) -> None:
        """
        Start the player under *manager*; for a device, wait until it has proven to work.

        Raises:
            AudioUnavailable: If no program can play; the message has their last output.
        """
        started = [await self._start_one(manager, name) for name in self.names]
        self._process, *standby = started
        self._standby = standby[0] if standby else None
        if self.program.file is None:
            await self._wait_until_proven(self._process)

    def follow(self, name: str) -> None:
        """Restart all programs, which open the default device *name*."""
        for process in self.names:
            self._new_device[process] = name
            self._stalled[process] = f"the default speaker is {name} now"

    async def _start_one(self, manager: ProcessManager, name: str) -> ManagedProcess:
        return await manager.start(
            name,
            self._command(name),
            restart=RESTART,
            probes=[self._accepts_input],
            recover=self._recover,
            ladder=LADDER,
        )

    async def _wait_until_proven(self, process: ManagedProcess) -> None:
        """Wait until a program has run for `_PROVEN_UPTIME`."""
        while process.status == "dead" or not self._has_proven(process.name):
            if process.is_settled:
                raise self._unavailable(process)
            await asyncio.sleep(_POLL_PERIOD)
        self._works = True

    def _has_proven(self, name: str) -> bool:
        return time.monotonic() - self._started[name] >= _PROVEN_UPTIME

    def _command(self, name: str) -> Command:
        self._started[name] = time.monotonic()
        self._program_index[name] = self._current
        self._connection.session.playback.latency_ms = self.program.latency_ms
        return Command(*self.program.argv, env=self.program.env, stdin=True)

    async def _recover(self, report: IncarnationReport) -> Command:
        """Return the command of the next incarnation."""
        name = report.process
        self._stalled.pop(name, None)
        device = self._new_device.pop(name, "")
        if device and report.cause is Cause.UNHEALTHY:
            if name == NAME:
                self._connection.bus.publish(DefaultDeviceChanged(NAME, device))
            self._reset(name)  # this was no failure
            return self._command(name)
        if report.uptime >= _PROVEN_UPTIME:
            self._works = True
            self._retry_window.reset()
        problem = diagnose(report, is_device=self._device == devices.DEFAULT)
        failed = DeviceFailed(NAME, problem, report.summary, advise(problem))
        self._connection.bus.publish(failed)
        file = self.program.file
        if file is not None:
            # ffmpeg would overwrite the file.
            await _repair(file)
            self._programs = [devices.continue_file(file, self._format)]
        elif not self._works:
            # No program has worked so far: try the next one. Once a program has worked,
            # a failure is a problem of the device or its sound server.
            if (
                self._program_index[name] == self._current
            ):  # the standby has not moved on
                self._current = (self._current + 1) % len(self._programs)
        elif self._retry_window.allows(problem, time.monotonic()):
            await self._wait_for_device(name)
        return self._command(name)

    async def _wait_for_device(self, name: str) -> None:
        """Pause, and do not count this failure."""
        self._reset(name)
        await asyncio.sleep(RETRY_PAUSE)

    def _reset(self, name: str) -> None:
        for process in (self._process, self._standby):
            if process is not None and process.name == name:
                process.reset()

    async def _check_input(self, process: Probed) -> str | None:
        return self._stalled.get(process.name)

    async def play(self) -> None:
        """Write the audio that is due until the player is given up."""
        in_file = self.program.file is not None
        encoder: g711.Encoder | None = g711.Encoder(self._format) if in_file else None
        while True:
            chunk = self._connection.audio_due()
            if not chunk:
                await self._connection.wait_for_audio()
            elif not await self._write(encoder.encode(chunk) if encoder else chunk):
                self._connection.speaker_lost()
                return

    async def _write(self, chunk: bytes) -> bool:
        """
        Write *chunk* to the player, or to the standby if the player does not take it.

        Returns:
            Whether there is still a player. If the player was restarted, *chunk* is lost.
        """
        down_since: float | None = None
        while True:
            if self._was_replaced() and self._switch():
                down_since = down_since or time.monotonic()
            process = self._process
            assert process is not None, "not started"
            incarnation = process.incarnation
            if await self._send(process, chunk):
                self._written_to[process.name] = incarnation
                if down_since is not None:
                    self._connection.bus.publish(
                        PlayerSwitched(time.monotonic() - down_since)
                    )
                return True
            down_since = down_since or time.monotonic()
            if not self._switch():
                return await self._wait_for_restart(process, incarnation)

    def _was_replaced(self) -> bool:
        """Return whether the player was restarted since the last write to it."""
        process = self._process
        if process is None or process.name not in self._written_to:
            return False
        return self._written_to[process.name] != process.incarnation

    async def _send(self, process: ManagedProcess, chunk: bytes) -> bool:
        """Write *chunk* to one process; return whether the process took it."""
        incarnation = process.incarnation
        try:
            await process.send(chunk, timeout=_WRITE_TIMEOUT)
        except (ProcessDead, WriteStalled) as error:
            if process.incarnation == incarnation and process.status == "running":
                self._stalled[process.name] = str(error)  # the probe restarts it
            return False
        return True

    def _switch(self) -> bool:
        """Swap player and standby; return whether there is a working standby."""
        standby = self._standby
        if standby is None or standby.status == "dead" or standby.name in self._stalled:
            return False
        if self._process is not None:
            self._written_to.pop(self._process.name, None)
        self._process, self._standby = standby, self._process
        return True

    async def _wait_for_restart(
        self, process: ManagedProcess, incarnation: int
    ) -> bool:
        """Wait for the next incarnation or a standby; return whether there is one."""
        while process.incarnation == incarnation:
            if self._switch():
                return True
            if process.is_settled:
                return False
            await asyncio.sleep(_POLL_PERIOD)
        return True

    async def finish_file(self) -> None:
        """Repair the header of the played file, in case its writer was killed."""
        if self.program.file is not None:
            await _repair(self.program.file)

    def _unavailable(self, process: ManagedProcess) -> AudioUnavailable:
        stderr = [line.text for line in process.get_stderr()[-3:]]
        return devices.not_working("speaker", self._programs, process.reason, stderr)


async def _repair(path: object) -> None:
    with contextlib.suppress(OSError):  # it was never written, or has been removed
        await call_in_thread(
            partial(wav.repair, str(path)), "realtalk-async repairs a WAV file"
        )
