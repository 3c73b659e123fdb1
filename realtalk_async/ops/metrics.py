"""
The catalogue of metrics: name, unit, labels, meaning and histogram bounds of each.

Names follow OpenTelemetry's conventions: dotted, with the unit apart. Prometheus names are
derived by OpenTelemetry's rules, so that both exporters agree with each other and with a
collector that translates between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""

MAX_NAMES = 250
"""Process names that get series of their own; all others share `OTHER`."""

OTHER = "_other"
"""The process label of all series beyond `MAX_NAMES`."""

FRAME_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
"""Histogram bounds in seconds for durations that should stay below one 20 ms frame."""

WIDE_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Histogram bounds in seconds for durations from a restart to a long backoff."""

UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
"""Prometheus name suffixes of units; units in braces, such as ``{line}``, have none."""


@dataclass(frozen=True, slots=True)
class Metric:
    """The definition of one metric."""

    name: str
    """The OpenTelemetry name, such as ``realtalk.process.restarts``."""
    kind: Kind
    unit: str
    """A UCUM code, as OpenTelemetry requires: ``s``, ``By``, ``{line}``."""
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, without infinity."""

    @property
    def prometheus_name(self) -> str:
        """The Prometheus name, without the ``_total`` of a counter."""
        return self.name.replace(".", "_") + UNIT_SUFFIXES.get(self.unit, "")


STATE = Metric(
    "realtalk.process.state",
    "gauge",
    "{process}",
    "Processes and tasks of that name in that state: 1 or 0.",
    ("process", "state"),
)
RESTARTS = Metric(
    "realtalk.process.restarts",
    "counter",
    "{restart}",
    "Incarnations that replaced an earlier one after its exit.",
    ("process",),
)
EXITS = Metric(
    "realtalk.process.exits",
    "counter",
    "{exit}",
    "Incarnations that exited or could not be started, by cause.",
    ("process", "cause"),
)
GIVEN_UP = Metric(
    "realtalk.process.given_up",
    "counter",
    "{process}",
    "Times that the supervisor gave up restarting.",
    ("process",),
)
DETECTION = Metric(
    "realtalk.process.detection.duration",
    "histogram",
    "s",
    "Time to detect a failure: from the kernel's exit notice to the exit event, or from "
    "the last sign of health to the failed probe.",
    ("process", "by"),
    WIDE_BOUNDS,
)
RECOVERY = Metric(
    "realtalk.process.recovery.duration",
    "histogram",
    "s",
    "Time from the exit to the next spawn, including the restart policy's delay.",
    ("process",),
    WIDE_BOUNDS,
)
OUTPUT = Metric(
    "realtalk.process.output",
    "counter",
    "By",
    "Bytes of output that were read from the process.",
    ("process", "stream"),
)
LINES = Metric(
    "realtalk.process.output.lines",
    "counter",
    "{line}",
    "Lines of output. A scrape counts lines in at most 32 MiB of new output of all "
    "processes, so the count lags behind a flood.",
    ("process", "stream"),
)
DROPPED = Metric(
    "realtalk.process.output.dropped",
    "counter",
    "By",
    "Bytes of output that were dropped because max_size was reached.",
    ("process", "stream"),
)
GAPS = Metric(
    "realtalk.process.output.gaps",
    "counter",
    "{gap}",
    "Gaps in the output: times that max_size was reached.",
    ("process", "stream"),
)
DEGRADED = Metric(
    "realtalk.manager.degraded",
    "gauge",
    "{process}",
    "Non-critical processes and tasks that were given up.",
)
GUARD_LOST = Metric(
    "realtalk.guard.losses",
    "counter",
    "{loss}",
    "Times that the guard process exited and was replaced.",
)
CALLBACKS = Metric(
    "realtalk.callback.failures",
    "counter",
    "{failure}",
    "App callbacks that raised, hung or returned a wrong type.",
    ("process",),
)
LOG_LINES = Metric(
    "realtalk.log.lines",
    "counter",
    "{line}",
    "Lines that this app logged.",
    ("level",),
)
LOG_DROPPED = Metric(
    "realtalk.log.dropped",
    "counter",
    "{line}",
    "Log lines that were dropped because the disk was full or too slow.",
)
LOG_WAITING = Metric(
    "realtalk.log.waiting", "gauge", "By", "Bytes of log lines that wait to be written."
)
LAG = Metric(
    "realtalk.loop.lag",
    "histogram",
    "s",
    "Lateness of a timer that the event loop runs every 0.1 s.",
    bounds=FRAME_BOUNDS,
)
OVERDUE = Metric(
    "realtalk.loop.overdue",
    "gauge",
    "s",
    "Seconds by which the event loop is late now; it grows while the loop hangs.",
)
CONNECTED = Metric(
    "realtalk.voice.connected",
    "gauge",
    "1",
    "Whether the voice session is connected to the service: 1 or 0.",
)
LATENCY = Metric(
    "realtalk.voice.response.latency",
    "histogram",
    "s",
    "Time from the end of the user's turn until the response started, its first output "
    "arrived or its first sound was played.",
    ("until",),
    WIDE_BOUNDS,
)
BARGE_IN = Metric(
    "realtalk.voice.barge_in.duration",
    "histogram",
    "s",
    "Time from an interruption until the speaker is silent.",
    bounds=WIDE_BOUNDS,
)
RESPONSES = Metric(
    "realtalk.voice.responses",
    "counter",
    "{response}",
    "Responses that ended, by status.",
    ("status",),
)
OUTAGE = Metric(
    "realtalk.voice.outage.duration",
    "histogram",
    "s",
    "Time from the loss of the connection until it is restored.",
    bounds=WIDE_BOUNDS,
)
AUDIO = Metric(
    "realtalk.voice.audio",
    "counter",
    "s",
    "Seconds of audio that were sent, played, dropped, withheld or unrecorded.",
    ("way",),
)
UNDERRUNS = Metric(
    "realtalk.voice.underruns",
    "counter",
    "{underrun}",
    "Times that the player ran out of audio in the middle of a response.",
)

SUPERVISION = (
    *(STATE, RESTARTS, EXITS, GIVEN_UP, DETECTION, RECOVERY),
    *(OUTPUT, LINES, DROPPED, GAPS, DEGRADED, GUARD_LOST, CALLBACKS),
    *(LOG_LINES, LOG_DROPPED, LOG_WAITING, LAG, OVERDUE),
)
"""Metrics of every app."""

VOICE = (CONNECTED, LATENCY, BARGE_IN, RESPONSES, OUTAGE, AUDIO, UNDERRUNS)
"""Further metrics of an app with a voice session."""
