"""
What is measured: every metric with its name, unit, labels and meaning. Words.

Names follow OpenTelemetry's conventions: dotted, the unit apart. Prometheus's name of each
is derived by OpenTelemetry's own rules, so that both exporters agree with each other, and
with a collector that translates between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""

MOST_NAMES = 250
"""Names of processes that have series of their own; the rest share `OTHER`."""

OTHER = "_other"
"""The process of all series beyond `MOST_NAMES`."""

QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds in seconds for what should be over within an audio frame of 20 ms."""

WIDE = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds in seconds for what may take anything from a moment to a long backoff."""

SUFFIXES = {"s": "_seconds", "By": "_bytes"}
"""How units read in Prometheus; those in braces, such as ``{line}``, are left out."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is measured."""

    name: str
    """In OpenTelemetry: ``realtalk.process.restarts``."""
    kind: Kind
    unit: str
    """In UCUM, as OpenTelemetry asks for: ``s``, ``By``, ``{line}``."""
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Of a histogram: the upper bounds of its buckets, without infinity."""

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, without the ``_total`` of a counter."""
        return self.name.replace(".", "_") + SUFFIXES.get(self.unit, "")


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
    "New incarnations that took the place of a dead one.",
    ("process",),
)
EXITS = Metric(
    "realtalk.process.exits",
    "counter",
    "{exit}",
    "Incarnations that ended, or could not be started, by cause.",
    ("process", "cause"),
)
GIVEN_UP = Metric(
    "realtalk.process.given_up",
    "counter",
    "{process}",
    "Times that restarting was given up.",
    ("process",),
)
DETECTION = Metric(
    "realtalk.process.detection.duration",
    "histogram",
    "s",
    "How long it took to notice that it was dead or not well: from the kernel's first sign "
    "of an exit to the event, from the last sign of health to the verdict of a probe.",
    ("process", "by"),
    WIDE,
)
RECOVERY = Metric(
    "realtalk.process.recovery.duration",
    "histogram",
    "s",
    "From the death to the new spawn, the policy's delay included.",
    ("process",),
    WIDE,
)
OUTPUT = Metric(
    "realtalk.process.output",
    "counter",
    "By",
    "Bytes that came out of it.",
    ("process", "stream"),
)
LINES = Metric(
    "realtalk.process.output.lines",
    "counter",
    "{line}",
    "Lines that it said, as far as they were counted: no scrape looks through more than "
    "32 MiB of what all have said, so that in a flood the count lags behind.",
    ("process", "stream"),
)
DROPPED = Metric(
    "realtalk.process.output.dropped",
    "counter",
    "By",
    "Bytes that were not kept because max_size was reached.",
    ("process", "stream"),
)
GAPS = Metric(
    "realtalk.process.output.gaps",
    "counter",
    "{gap}",
    "Gaps in its output: times that max_size was reached.",
    ("process", "stream"),
)
DEGRADED = Metric(
    "realtalk.manager.degraded",
    "gauge",
    "{process}",
    "Processes that the app has to do without.",
)
GUARD_LOST = Metric(
    "realtalk.guard.losses",
    "counter",
    "{loss}",
    "Times that the orphan guard died and was replaced.",
)
CALLBACKS = Metric(
    "realtalk.callback.failures",
    "counter",
    "{failure}",
    "Callbacks of the app that raised, hung or returned nonsense.",
    ("process",),
)
LOG_LINES = Metric(
    "realtalk.log.lines",
    "counter",
    "{line}",
    "Lines that were logged by this app.",
    ("level",),
)
LOG_DROPPED = Metric(
    "realtalk.log.dropped",
    "counter",
    "{line}",
    "Lines that the log had to drop: the disk was full or too slow.",
)
LOG_WAITING = Metric(
    "realtalk.log.waiting", "gauge", "By", "Bytes of the log that wait for the disk."
)
LAG = Metric(
    "realtalk.loop.lag",
    "histogram",
    "s",
    "How late the event loop was for a timer that is due every 0.1 s.",
    bounds=QUICK,
)
OVERDUE = Metric(
    "realtalk.loop.overdue",
    "gauge",
    "s",
    "How long the event loop has been late by now; what grows here is a loop that hangs.",
)
CONNECTED = Metric(
    "realtalk.voice.connected",
    "gauge",
    "1",
    "Whether the service is connected: 1 or 0.",
)
LATENCY = Metric(
    "realtalk.voice.response.latency",
    "histogram",
    "s",
    "From the end of a question until the response began, its first output came, its first "
    "sound left the speaker.",
    ("until",),
    WIDE,
)
BARGE_IN = Metric(
    "realtalk.voice.barge_in.duration",
    "histogram",
    "s",
    "From an interruption until the speaker was silent.",
    bounds=WIDE,
)
RESPONSES = Metric(
    "realtalk.voice.responses",
    "counter",
    "{response}",
    "Responses that ended, by how.",
    ("status",),
)
OUTAGE = Metric(
    "realtalk.voice.outage.duration",
    "histogram",
    "s",
    "How long the connection was away before it was restored.",
    bounds=WIDE,
)
AUDIO = Metric(
    "realtalk.voice.audio",
    "counter",
    "s",
    "Sound that went that way: sent and played; dropped, withheld, unrecorded.",
    ("way",),
)
UNDERRUNS = Metric(
    "realtalk.voice.underruns",
    "counter",
    "{underrun}",
    "Times that the player ran dry in the middle of a response.",
)

SUPERVISION = (
    *(STATE, RESTARTS, EXITS, GIVEN_UP, DETECTION, RECOVERY),
    *(OUTPUT, LINES, DROPPED, GAPS, DEGRADED, GUARD_LOST, CALLBACKS),
    *(LOG_LINES, LOG_DROPPED, LOG_WAITING, LAG, OVERDUE),
)
"""What every app has."""

VOICE = (CONNECTED, LATENCY, BARGE_IN, RESPONSES, OUTAGE, AUDIO, UNDERRUNS)
"""What an app with a voice session has as well."""
