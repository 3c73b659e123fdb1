"""
The recorder: a child process whose stdout is the microphone.

Every exit during a session is a failure, also with status 0: sox and ffmpeg exit so when the
sound server ends. A program whose device was unplugged keeps running; a probe for silence
finds it, and a probe for the rate finds audio at a wrong sample rate.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Final

from realtalk_async.exceptions import CriticalProcessFailed, ProcessDead
from realtalk_async.supervision import Cause, Command, Ladder, Probe, RestartPolicy
from realtalk_async.voice.audio import devices
from realtalk_async.voice.audio.diagnostics import (
    RETRY_PAUSE,
    RateMonitor,
    RetryWindow,
    advise,
    diagnose,
)
from realtalk_async.voice.events import DefaultDeviceChanged, DeviceFailed
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.exceptions import AudioUnavailable
    from realtalk_async.supervision import (
        IncarnationReport,
        ManagedProcess,
        ProcessManager,
    )
    from realtalk_async.voice.audio.devices import (
        AudioProgram,
        Device,
        Machine,
        SoundFile,
    )
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
"""Restarts at once the first time; seven failures in a row take 2.5 s."""

LADDER = Ladder((signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0))
"""ffmpeg takes 0.3 to 0.8 s to stop when it plays in real time (12 stops measured)."""

_MAX_SILENCE = 2.0  # seconds without audio
_STARTUP_TIME = 3.0  # seconds until the first audio
MAX_WRONG_SECONDS = 3
"""Seconds in a row with a wrong rate; a single one may be a short delay of the machine."""

_MAX_RATE_RESTARTS = 2  # after these, a wrong rate is tolerated


class Recorder:
    """
    The microphone of one session.

    Args:
        device: The device or file to record from; not ``None``.
        machine: Where to look for programs.
        connection: Gets the audio.

    Raises:
        AudioUnavailable: If there is no program, or the file does not exist.
    """

    def __init__(
        self, device: Device | SoundFile, machine: Machine, connection: Connection
    ) -> None:
        self._device = device
        self._machine = machine
        self._connection = connection
        self._programs = devices.find_recorders(device, machine)
        self._current = 0
        self._process: ManagedProcess | None = None
        self._silence = Probe.silence(_MAX_SILENCE, grace=_STARTUP_TIME)
        self._in_time = Probe(
            *("in time", self._check_rate),
            grace=_STARTUP_TIME,
            failure_threshold=MAX_WRONG_SECONDS,
        )
        self.rate_monitor = RateMonitor()
        """The rate at which audio arrives."""
        self._wrong_seconds = 0  # in a row with a wrong rate
        self._rate_restarts = 0
        self._retry_window = RetryWindow()
        self._new_device = ""
        """The default device that the program is to open; empty if it need not."""
        self._follows = Probe("default device", self._check_device)

    def follow(self, name: str) -> None:
        """Restart the program, which opens the default device *name*."""
        self._new_device = name

    async def _check_device(self, _process: object) -> str | None:
        name = self._new_device
        return f"the default microphone is {name} now" if name else None

    @property
    def is_default(self) -> bool:
        """Whether it uses the default device."""
        return self._device == devices.DEFAULT

    @property
    def program(self) -> AudioProgram:
        """The current program; the next one to be tried if there is no process."""
        return self._programs[self._current]

    async def start(self, manager: ProcessManager, *, critical: bool) -> None:
        """Start the recorder under *manager*."""
        self._process = await manager.start(
            NAME,
            _command(self.program),
            restart=RESTART,
            critical=critical,
            probes=[self._silence, self._in_time, self._follows],
            recover=self._recover,
            ladder=LADDER,
        )

    @property
    def has_delivered(self) -> bool:
        """Whether the recorder has ever delivered audio."""
        return self._connection.session.microphone.received > 0

    async def _check_rate(self, _process: object) -> str | None:
        """Return the problem of the rate in the last second, or ``None``."""
        wrong = self.rate_monitor.check(
            time.monotonic(), self._connection.session.microphone.received
        )
        self._wrong_seconds = self._wrong_seconds + 1 if wrong else 0
        if wrong is None:
            return None
        return wrong if self._rate_restarts < _MAX_RATE_RESTARTS else None

    async def _recover(self, report: IncarnationReport) -> Command:
        """Return the command of the next incarnation."""
        if self._new_device and report.cause is Cause.UNHEALTHY:
            name, self._new_device = self._new_device, ""
            self._connection.bus.publish(DefaultDeviceChanged(NAME, name))
            if self._process is not None:
                self._process.reset()  # this was no failure
            return _command(self.program)
        wrong_rate = self._wrong_seconds >= MAX_WRONG_SECONDS
        self._wrong_seconds = 0
        self._rate_restarts += wrong_rate
        is_device = self._device == devices.DEFAULT
        problem = diagnose(report, is_device=is_device, wrong_rate=wrong_rate)
        failed = DeviceFailed(NAME, problem, report.summary, advise(problem))
        self._connection.bus.publish(failed)
        process = self._process
        may_retry = self._retry_window.allows
        if process and self.has_delivered and may_retry(problem, time.monotonic()):
            process.reset()
            await asyncio.sleep(RETRY_PAUSE)
        return self._next_command()

    def _next_command(self) -> Command:
        if self.program.resumes:
            self._programs = self._resume()
        elif not self.has_delivered:
            # This program has never worked: try the next one.
            self._current = (self._current + 1) % len(self._programs)
        return _command(self.program)

    def _resume(self) -> list[AudioProgram]:
        """Return a program that continues the file where the last incarnation ended."""
        start = self._connection.session.microphone.received / (1000 * BYTES_PER_MS)
        return devices.find_recorders(self._device, self._machine, start=start)

    async def deliver(self, on_first_audio: Callable[[], None]) -> None:
        """
        Pass the audio of the recorder on until it is given up.

        Args:
            on_first_audio: Called when audio arrives for the first time.
        """
        process = self._process
        assert process is not None, "not started"
        incarnation = process.incarnation
        self._begin_incarnation()
        while True:
            try:
                pcm = await process.receive()
            except ProcessDead:
                return
            if process.incarnation != incarnation:
                incarnation = process.incarnation
                self._begin_incarnation()
            is_first = not self.has_delivered
            self._connection.push_audio(pcm)
            if is_first:
                on_first_audio()

    def _begin_incarnation(self) -> None:
        """Reset the measurements: audio of a new incarnation follows."""
        microphone = self._connection.session.microphone
        microphone.realign()
        self.rate_monitor.reset(time.monotonic(), microphone.received)
        self._retry_window.reset()

    def failure(self) -> AudioUnavailable | CriticalProcessFailed:
        """Return the error that says why the recorder was given up."""
        process = self._process
        assert process is not None, "not started"
        if self.has_delivered:
            log = str(process.logger.path)
            report = process.get_report()
            return CriticalProcessFailed(NAME, process.reason, report, log=log)
        stderr = [line.text for line in process.get_stderr()[-3:]]
        return devices.not_working("microphone", self._programs, process.reason, stderr)


def _command(program: AudioProgram) -> Command:
    return Command(*program.argv, env=program.env, stdout="binary")
