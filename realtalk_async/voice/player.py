"""
The player: a child whose stdin is the speaker, fed no faster than it plays.

A lost player is no end: the conversation goes on in writing until it is back, and
without sound if it never is.
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
from realtalk_async.voice import audio, wavfile
from realtalk_async.voice.recorder import RESTART
from realtalk_async.voice.trouble import advise, diagnose
from realtalk_async.voice.words import DeviceFailed

if TYPE_CHECKING:
    from realtalk_async.exceptions import AudioUnavailable
    from realtalk_async.supervision import (
        IncarnationReport,
        ManagedProcess,
        ProcessManager,
    )
    from realtalk_async.voice.audio import AudioProgram, Device, Machine
    from realtalk_async.voice.engine import Engine

NAME: Final = "player"

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
        engine: Whose playback is played.

    Raises:
        AudioUnavailable: If there is no program, or the file cannot be written.
    """

    def __init__(self, device: Device, machine: Machine, engine: Engine) -> None:
        self._device = device
        self._engine = engine
        self._programs = audio.find_players(device, machine)
        self._current = 0
        self._process: ManagedProcess | None = None
        self._started = 0.0
        self._stalled = ""
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
        self._process = await manager.start(
            NAME,
            self._command(),
            restart=RESTART,
            probes=[self._takes_input],
            recover=self._recover,
            ladder=LADDER,
        )
        if self.program.file is None:
            await self._prove(self._process)

    async def _prove(self, process: ManagedProcess) -> None:
        """Wait until one program has stayed alive for a moment."""
        while process.status == "dead" or time.monotonic() < self._started + _PROVEN:
            if process.is_settled:
                raise self._unavailable(process)
            await asyncio.sleep(_LOOK_EVERY)

    def _command(self) -> Command:
        self._started = time.monotonic()
        self._engine.playback.latency_ms = self.program.latency_ms
        return Command(*self.program.argv, stdin=True)

    async def _recover(self, report: IncarnationReport) -> Command:
        """Return what to run in the place of the dead one."""
        self._stalled = ""
        trouble = diagnose(report, is_device=self._device == audio.DEFAULT)
        failed = DeviceFailed(NAME, trouble, report.summary, advise(trouble))
        self._engine.tell(failed)
        file = self.program.file
        if file is not None:
            # ffmpeg would begin the file anew.
            await anyio.to_thread.run_sync(_repair, file)
            self._programs = [audio.continue_file(file)]
        elif time.monotonic() - self._started < _PROVEN:
            # It cannot play here: the next candidate may.
            self._current = (self._current + 1) % len(self._programs)
        return self._command()

    async def _check_input(self, _process: object) -> str | None:
        return self._stalled or None

    async def play(self) -> None:
        """Feed the player with what is due, until it is dead for good."""
        process = self._process
        assert process is not None, "start it first"
        while True:
            chunk = self._engine.due()
            if not chunk:
                await self._wait_for_more()
                continue
            incarnation = process.incarnation
            try:
                await process.send(chunk, timeout=_STALL)
            except (ProcessDead, WriteStalled) as error:
                if process.incarnation == incarnation and process.status == "running":
                    self._stalled = str(error)  # its probe ends it
                if not await self._lives_again(process, incarnation):
                    self._engine.fall_silent()
                    return

    async def _lives_again(self, process: ManagedProcess, incarnation: int) -> bool:
        """Wait for the life after *incarnation*; return whether there is one."""
        while process.incarnation == incarnation:
            if process.is_settled:
                return False
            await asyncio.sleep(_LOOK_EVERY)
        return True

    async def _wait_for_more(self) -> None:
        delay = self._engine.playback.wait(time.monotonic())
        self._engine.to_play.clear()
        try:
            async with asyncio.timeout(delay):
                await self._engine.to_play.wait()
        except TimeoutError:
            return

    async def finish_file(self) -> None:
        """Make the file that was played to valid, whatever became of its writer."""
        if self.program.file is not None:
            await anyio.to_thread.run_sync(_repair, self.program.file)

    def _unavailable(self, process: ManagedProcess) -> AudioUnavailable:
        said = [line.text for line in process.get_stderr()[-3:]]
        return audio.not_working("speaker", self._programs, process.reason, said)


def _repair(path: object) -> None:
    try:
        wavfile.repair(str(path))
    except OSError:
        return  # it was never written, or somebody took it away
