"""The record of one incarnation while it is being written, and what is told of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from realtalk_async.events import Cause
from realtalk_async.supervision.kernel.exit_status import ExitStatus, describe_exit
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.reports.report import IncarnationReport, recognise
from realtalk_async.supervision.status import GOOD_ENDS, CaptureEnd
from realtalk_async.times import format_hms, now_local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from realtalk_async.supervision.lifecycle.incarnation import Incarnation
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.policy.ladder import Ladder, Step


class IncarnationRecord:
    """
    What is known of one incarnation so far.

    Args:
        number: Counted from 1.
        command: What it runs, for people.
        inside: Whether it runs inside the app, as a coroutine: it has no body then.
    """

    def __init__(self, number: int, command: str, *, inside: bool = False) -> None:
        self.number = number
        self.inside = inside
        self.command = command
        self.running: Incarnation | None = None
        """None as long as it was not spawned."""
        self.started = time.monotonic()
        self.started_at = now_local()
        self.ended: float | None = None
        self.ended_at: datetime | None = None
        self.exit_status: ExitStatus | None = None
        self.cause: Cause | None = None
        self.summary = "running"
        self.capture: CaptureEnd = "open"
        self.timeline: list[tuple[datetime, str]] = []
        self.stopping = False
        """Whether we are ending it."""
        self.kill_requested = False
        """Whether that is done without any grace."""
        self.step: Step | None = None
        """Which step of the ladder was taken last."""
        self.next_step: Step | None = None
        """Which one is taken next, if that does not help."""
        self.next_step_at = 0.0
        """When, in monotonic seconds."""
        self.escalated = False
        """Whether that took SIGKILL after a softer step."""
        self.unhealthy = ""
        """Which probe had it ended, and why."""
        self.group_restart = ""
        """Why it is ended although it is well: it is restarted together with others."""
        self.finished = False
        """Whether all is over: it is dead, its output is read, its group is empty."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self.inside:
            return self.ended is None
        return self.running is not None and self.running.alive

    @property
    def failed(self) -> bool:
        """Whether it ended, and not as it should."""
        return self.cause not in GOOD_ENDS

    @property
    def ended_as_asked(self) -> bool:
        """Whether it is us who ended it, although it was well."""
        return self.cause in {Cause.STOPPED, Cause.ESCALATED}

    @property
    def uptime(self) -> float:
        """Seconds that it runs, or ran."""
        if self.running is None and not self.inside:
            return 0.0
        return (self.ended or time.monotonic()) - self.started

    def end(
        self,
        status: ExitStatus | None,
        when: float | None = None,
        at: datetime | None = None,
    ) -> None:
        """Note how and when it ended, on the monotonic clock and for people."""
        self.exit_status = status
        self.ended = when or time.monotonic()
        self.ended_at = at or now_local()

    def mark(self, what: str, at: datetime | None = None) -> None:
        """Add a moment to the timeline."""
        self.timeline.append((at or now_local(), what))

    def note_step(self, ladder: Ladder, step: Step) -> None:
        """Note that a step of a ladder is taken now."""
        place = next(n for n, one in enumerate(ladder.steps) if one is step)
        self.step = step
        self.next_step = (*ladder.steps, None)[place + 1]
        self.next_step_at = time.monotonic() + step.wait

    def summarise(self) -> str:
        """Return how it ended, in words."""
        how = describe_exit(self.exit_status)
        if self.unhealthy:
            how = f"ended because it was not well ({self.unhealthy}); {how}"
        elif self.ended_as_asked:
            how = f"{self.cause}; {how}"
        return f"{how} after {format_hms(self.uptime)}"

    def report(self, name: str, capture: Capture) -> IncarnationReport:
        """Return all that is known of it."""
        last = capture.last_words(self.number)
        return IncarnationReport(
            name,
            self.number,
            self.command,
            self.running.pid if self.running else None,
            self.started_at,
            self.ended_at,
            self.uptime,
            self.exit_status,
            self.cause,
            self.summary,
            recognise(last),
            tuple(last),
            OutputLines(capture.buffers["stdout"], self.number),
            OutputLines(capture.buffers["stderr"], self.number),
            self.capture,
            self.running.usage if self.running else None,
            tuple(self.timeline),
        )


def newest_failure(records: Sequence[IncarnationRecord]) -> IncarnationRecord | None:
    """Return the newest life that failed; None if none did."""
    return next((record for record in reversed(records) if record.failed), None)
