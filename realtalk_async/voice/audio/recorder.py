"""
The recorder: a child whose stdout is the microphone.

It is never left dead: one that exits in a session has failed, also with status 0, as
sox and ffmpeg exit when the sound server goes away. One that lives and delivers
nothing, as all programs do when their device vanishes, is found out by its silence, and
one that delivers at another rate by its bytes a second.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Final

from realtalk_async.exceptions import CriticalProcessFailed, ProcessDead
from realtalk_async.supervision import Command, Ladder, Probe, RestartPolicy
from realtalk_async.voice.audio import devices
from realtalk_async.voice.audio.diagnostics import (
    PAUSE,
    Patience,
    RateMonitor,
    advise,
    diagnose,
)
from realtalk_async.voice.events import DeviceFailed
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.exceptions import AudioUnavailable
    from realtalk_async.supervision import (
        IncarnationReport,
        ManagedProcess,
        ProcessManager,
    )
    from realtalk_async.voice.audio.devices import AudioProgram, Device, Machine
    from realtalk_async.voice.connection import Connection

NAME: Final = "recorder"

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

LADDER = Ladder((signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0))
"""ffmpeg takes 0.3 to 0.8 s to end what it plays in real time (measured, 12 stops)."""

_SILENCE = 2.0  # seconds: a device that vanished leaves its program alive and mute
_FIRST_BYTE = 3.0  # seconds that a program may take to begin
_WRONG_SECONDS = 3  # in a row: one alone may be the machine's, or a hiccup made up for
_REVIVALS_FOR_RATE = 2  # after these, who records at a wrong rate is left to do so


class Recorder:
    """
    The microphone of one session.

    Args:
        device: What to record from; not ``None``.
        machine: Where to look for programs.
        connection: Who is given what is heard.

    Raises:
        AudioUnavailable: If there is no program, or no such file.
    """

    def __init__(
        self, device: Device, machine: Machine, connection: Connection
    ) -> None:
        self._device = device
        self._machine = machine
        self._connection = connection
        self._programs = devices.find_recorders(device, machine)
        self._current = 0
        self._process: ManagedProcess | None = None
        self._silence = Probe.silence(_SILENCE, grace=_FIRST_BYTE)
        self._in_time = Probe(
            *("in time", self._check_rate),
            grace=_FIRST_BYTE,
            failure_threshold=_WRONG_SECONDS,
        )
        self.rate_monitor = RateMonitor()
        """How fast it delivers."""
        self._wrong = 0  # seconds in a row that were too slow or too fast
        self._revived_for_rate = 0
        self._patience = Patience()

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
            probes=[self._silence, self._in_time],
            recover=self._recover,
            ladder=LADDER,
        )

    @property
    def has_delivered(self) -> bool:
        """Whether it has ever delivered something."""
        return self._connection.session.microphone.received > 0

    async def _check_rate(self, _process: object) -> str | None:
        """Say what is wrong with the bytes of the last second."""
        wrong = self.rate_monitor.look(
            time.monotonic(), self._connection.session.microphone.received
        )
        self._wrong = self._wrong + 1 if wrong else 0
        if wrong is None:
            return None
        return wrong if self._revived_for_rate < _REVIVALS_FOR_RATE else None

    async def _recover(self, report: IncarnationReport) -> Command:
        """Return what to run in the place of the dead one."""
        wrong_rate = self._wrong >= _WRONG_SECONDS
        self._wrong = 0
        self._revived_for_rate += wrong_rate
        is_device = self._device == devices.DEFAULT
        trouble = diagnose(report, is_device=is_device, wrong_rate=wrong_rate)
        failed = DeviceFailed(NAME, trouble, report.summary, advise(trouble))
        self._connection.bus.publish(failed)
        process = self._process
        if (
            process
            and self.has_delivered
            and self._patience.lasts(trouble, time.monotonic())
        ):
            process.reset()
            await asyncio.sleep(PAUSE)
        return self._next_command()

    def _next_command(self) -> Command:
        if self.program.resumes:
            self._programs = self._resume()
        elif not self.has_delivered:
            # It never worked: the next candidate may.
            self._current = (self._current + 1) % len(self._programs)
        return _command(self.program)

    def _resume(self) -> list[AudioProgram]:
        """Return what plays the file on from where the dead one ended."""
        start = self._connection.session.microphone.received / (1000 * BYTES_PER_MS)
        return devices.find_recorders(self._device, self._machine, start=start)

    async def deliver(self, on_first: Callable[[], None]) -> None:
        """
        Pass the audio of the recorder on until it is given up.

        Args:
            on_first: Called when it has delivered something for the first time.
        """
        process = self._process
        assert process is not None, "start it first"
        incarnation = process.incarnation
        self._begin_anew()
        while True:
            try:
                pcm = await process.receive()
            except ProcessDead:
                return
            if process.incarnation != incarnation:
                incarnation = process.incarnation
                self._begin_anew()
            is_first = not self.has_delivered
            self._connection.push_audio(pcm)
            if is_first:
                on_first()

    def _begin_anew(self) -> None:
        """Note that another program delivers from here on."""
        microphone = self._connection.session.microphone
        microphone.realign()
        self.rate_monitor.begin(time.monotonic(), microphone.received)
        self._patience.renew()

    def failure(self) -> AudioUnavailable | CriticalProcessFailed:
        """Return the error that says why nothing more will come."""
        process = self._process
        assert process is not None, "start it first"
        if self.has_delivered:
            return CriticalProcessFailed(NAME, process.reason, process.get_report())
        said = [line.text for line in process.get_stderr()[-3:]]
        return devices.not_working("microphone", self._programs, process.reason, said)


def _command(program: AudioProgram) -> Command:
    return Command(*program.argv, stdout="binary")
