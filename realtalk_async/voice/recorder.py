"""
The recorder: a child whose stdout is the microphone.

It is never left dead: one that exits in a session has failed, also with status 0, as
sox and ffmpeg exit when the sound server goes away. One that lives and delivers
nothing, as all programs do when their device vanishes, is found out by its silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.exceptions import ProcessDead
from realtalk_async.supervision import SWIFT, Command, Probe, RestartPolicy
from realtalk_async.voice import audio
from realtalk_async.voice.protocol import BYTES_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.exceptions import AudioUnavailable
    from realtalk_async.supervision import ManagedProcess, ProcessManager
    from realtalk_async.voice.audio import AudioProgram, Device, Machine
    from realtalk_async.voice.engine import Engine

NAME = "recorder"

RESTART = RestartPolicy(
    "permanent",
    max_failures=7,
    decay=10.0,
    first_delay=0.02,
    max_delay=2.0,
    jitter=False,
    success_statuses=frozenset(),
)
"""At once the first time; a busy device or a lost server is waited out for 2.5 s."""

_SILENCE = 2.0  # seconds: a device that vanished leaves its program alive and mute


class Recorder:
    """
    The microphone of one session.

    Args:
        device: What to record from; not ``None``.
        machine: Where to look for programs.
        engine: Who is given what is heard.

    Raises:
        AudioUnavailable: If there is no program, or no such file.
    """

    def __init__(self, device: Device, machine: Machine, engine: Engine) -> None:
        self._device = device
        self._machine = machine
        self._engine = engine
        self._programs = audio.find_recorders(device, machine)
        self._current = 0
        self._process: ManagedProcess | None = None
        self._silence = Probe.silence(_SILENCE)

    @property
    def program(self) -> AudioProgram:
        """The program in use, or the one to be tried next."""
        return self._programs[self._current]

    async def start(self, manager: ProcessManager, *, critical: bool) -> None:
        """Start it under *manager*; then `pump` tells when it delivers."""
        self._process = await manager.start(
            NAME,
            _command(self.program),
            restart=RESTART,
            critical=critical,
            probes=[self._silence],
            recover=self._recover,
            ladder=SWIFT,
        )

    @property
    def heard(self) -> bool:
        """Whether it has ever delivered something."""
        return self._engine.microphone.received > 0

    async def _recover(self) -> Command:
        """Return what to run in the place of the dead one."""
        if self.program.resumes:
            self._programs = self._resume()
        elif not self.heard:
            # It never worked: the next candidate may.
            self._current = (self._current + 1) % len(self._programs)
        return _command(self.program)

    def _resume(self) -> list[AudioProgram]:
        """Return what plays the file on from where the dead one ended."""
        start = self._engine.microphone.received / (1000 * BYTES_PER_MS)
        return audio.find_recorders(self._device, self._machine, start=start)

    async def pump(self, on_first: Callable[[], None]) -> None:
        """
        Give what the recorder delivers to the engine, until it is dead for good.

        Args:
            on_first: Called when it has delivered something for the first time.
        """
        process = self._process
        assert process is not None, "start it first"
        incarnation = process.incarnation
        while True:
            try:
                pcm = await process.receive()
            except ProcessDead:
                return
            if process.incarnation != incarnation:
                incarnation = process.incarnation
                self._engine.microphone.realign()
            is_first = not self.heard
            self._engine.hear(pcm)
            if is_first:
                on_first()

    def unavailable(self) -> AudioUnavailable:
        """Return the error that says why no program delivered."""
        process = self._process
        assert process is not None, "start it first"
        said = [line.text for line in process.get_stderr()[-3:]]
        return audio.not_working("microphone", self._programs, process.reason, said)


def _command(program: AudioProgram) -> Command:
    return Command(*program.argv, stdout="binary")
