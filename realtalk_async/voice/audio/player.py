"""
The player: a child whose stdin is the speaker, fed no faster than it plays.

A lost player is no end: the conversation goes on in writing until it is back, and
without sound if it never is. One more may stand by: it takes over in mid-word, and the
dead one is revived to stand by in its turn.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from realtalk_async.exceptions import ProcessDead, WriteStalled
from realtalk_async.supervision import (
    CLOSE_STDIN,
    SWIFT,
    Command,
    Ladder,
    Probe,
)
from realtalk_async.voice.audio import devices, wav
from realtalk_async.voice.audio.diagnostics import PAUSE, Patience, advise, diagnose
from realtalk_async.voice.audio.recorder import RESTART
from realtalk_async.voice.events import DeviceFailed, PlayerSwitched

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

# sox and ffmpeg ignore SIGTERM while they wait for input; the end of it ends them all,
# and lets them write the last of a file.
LADDER = Ladder((CLOSE_STDIN, 0.5), *((s.signal, s.wait) for s in SWIFT.steps))

_STALL = 2.0  # seconds that a player may refuse its input, which its pipe holds back
_LOOK_EVERY = 0.01  # seconds between two looks at a player that is down
_PROVEN = 0.3  # seconds after which a program has shown that it can play


class Player:
    """
    The speaker of one session.

    Args:
        device: Where to play; not ``None``.
        machine: Where to look for programs.
        connection: Whose playback is played.
        standby: Whether one more is to stand by; not where a file is written.

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
        self._programs = devices.find_players(device, machine)
        self._current = 0
        self._process: ManagedProcess | None = None
        self._standby: ManagedProcess | None = None
        self.names: tuple[str, ...] = (NAME,)
        """Its processes."""
        if standby and self.program.file is None:
            self.names = (NAME, STANDBY)
        self._works = False  # a program has shown that it can play
        self._patience = Patience()
        self._fed: dict[str, int] = {}  # which incarnation was fed last
        self._started: dict[str, float] = {}
        self._ran: dict[str, int] = {}  # which candidate each of them is
        self._stalled: dict[str, str] = {}
        self._takes_input = Probe("takes its input", self._check_input)

    @property
    def program(self) -> AudioProgram:
        """The program in use, or the one to be tried next."""
        return self._programs[self._current]

    async def start(self, manager: ProcessManager) -> None:
        """
        Start it under *manager*; if it is to play on a device, see that it stays.

        Raises:
            AudioUnavailable: If no program can play; carries their last words.
        """
        started = [await self._start_one(manager, name) for name in self.names]
        self._process, *standby = started
        self._standby = standby[0] if standby else None
        if self.program.file is None:
            await self._prove(self._process)

    async def _start_one(self, manager: ProcessManager, name: str) -> ManagedProcess:
        return await manager.start(
            name,
            self._command(name),
            restart=RESTART,
            probes=[self._takes_input],
            recover=self._recover,
            ladder=LADDER,
        )

    async def _prove(self, process: ManagedProcess) -> None:
        """Wait until one program has stayed alive for a moment."""
        while process.status == "dead" or not self._has_proven(process.name):
            if process.is_settled:
                raise self._unavailable(process)
            await asyncio.sleep(_LOOK_EVERY)
        self._works = True

    def _has_proven(self, name: str) -> bool:
        """Whether a process has lived long enough to show that it can play."""
        return time.monotonic() - self._started[name] >= _PROVEN

    def _command(self, name: str) -> Command:
        self._started[name] = time.monotonic()
        self._ran[name] = self._current
        self._connection.session.playback.latency_ms = self.program.latency_ms
        return Command(*self.program.argv, stdin=True)

    async def _recover(self, report: IncarnationReport) -> Command:
        """Return what to run in the place of the dead one."""
        name = report.process
        self._stalled.pop(name, None)
        if report.uptime >= _PROVEN:
            self._works = True
            self._patience.renew()
        trouble = diagnose(report, is_device=self._device == devices.DEFAULT)
        failed = DeviceFailed(NAME, trouble, report.summary, advise(trouble))
        self._connection.bus.publish(failed)
        file = self.program.file
        if file is not None:
            # ffmpeg would begin the file anew.
            await anyio.to_thread.run_sync(_repair, file)
            self._programs = [devices.continue_file(file)]
        elif not self._works:
            # It cannot play here: the next candidate may. Later on it is the device
            # that is gone, or its server, and not this program's fault.
            if self._ran[name] == self._current:  # and not tried before by the other
                self._current = (self._current + 1) % len(self._programs)
        elif self._patience.lasts(trouble, time.monotonic()):
            await self._wait_for_device(name)
        return self._command(name)

    async def _wait_for_device(self, name: str) -> None:
        """Wait a moment, and do not count this failure."""
        for process in (self._process, self._standby):
            if process is not None and process.name == name:
                process.reset()
        await asyncio.sleep(PAUSE)

    async def _check_input(self, process: Probed) -> str | None:
        return self._stalled.get(process.name)

    async def play(self) -> None:
        """Feed the player with what is due, until it is dead for good."""
        while True:
            chunk = self._connection.audio_due()
            if not chunk:
                await self._connection.wait_for_audio()
            elif not await self._write(chunk):
                self._connection.speaker_lost()
                return

    async def _write(self, chunk: bytes) -> bool:
        """
        Write *chunk*, to the one who stands by if need be.

        Returns:
            Whether there is still a player. If it had to be revived, the chunk is lost.
        """
        noticed_at: float | None = None
        while True:
            if self._was_replaced() and self._switch():
                noticed_at = noticed_at or time.monotonic()
            process = self._process
            assert process is not None, "start it first"
            incarnation = process.incarnation
            if await self._send(process, chunk):
                self._fed[process.name] = incarnation
                if noticed_at is not None:
                    self._connection.bus.publish(
                        PlayerSwitched(time.monotonic() - noticed_at)
                    )
                return True
            noticed_at = noticed_at or time.monotonic()
            if not self._switch():
                return await self._lives_again(process, incarnation)

    def _was_replaced(self) -> bool:
        """Whether the player was revived since it was last fed: it is still cold."""
        process = self._process
        fed = self._fed.get(process.name) if process else None
        return fed is not None and process is not None and fed != process.incarnation

    async def _send(self, process: ManagedProcess, chunk: bytes) -> bool:
        """Write *chunk* to one of them; return whether it took it."""
        incarnation = process.incarnation
        try:
            await process.send(chunk, timeout=_STALL)
        except (ProcessDead, WriteStalled) as error:
            if process.incarnation == incarnation and process.status == "running":
                self._stalled[process.name] = str(error)  # its probe ends it
            return False
        return True

    def _switch(self) -> bool:
        """Go on with the one who stands by; return whether there is one."""
        standby = self._standby
        if standby is None or standby.status == "dead" or standby.name in self._stalled:
            return False
        if self._process is not None:
            self._fed.pop(self._process.name, None)
        self._process, self._standby = standby, self._process
        return True

    async def _lives_again(self, process: ManagedProcess, incarnation: int) -> bool:
        """Wait for the life after *incarnation*, or the other's; is there one?"""
        while process.incarnation == incarnation:
            if self._switch():
                return True
            if process.is_settled:
                return False
            await asyncio.sleep(_LOOK_EVERY)
        return True

    async def finish_file(self) -> None:
        """Make the file that was played to valid, whatever became of its writer."""
        if self.program.file is not None:
            await anyio.to_thread.run_sync(_repair, self.program.file)

    def _unavailable(self, process: ManagedProcess) -> AudioUnavailable:
        said = [line.text for line in process.get_stderr()[-3:]]
        return devices.not_working("speaker", self._programs, process.reason, said)


def _repair(path: object) -> None:
    try:
        wav.repair(str(path))
    except OSError:
        return  # it was never written, or somebody took it away
