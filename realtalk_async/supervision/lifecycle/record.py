"""The mutable record of one incarnation, from which its report is made."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from realtalk_async.events import POLICY, Cause
from realtalk_async.supervision.kernel.exit_status import ExitStatus, describe_exit
from realtalk_async.supervision.kernel.leaks import IncarnationResources
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.policy.restart import classify
from realtalk_async.supervision.reports.failures import format_traceback
from realtalk_async.supervision.reports.kept_history import Earlier, shorten
from realtalk_async.supervision.reports.report import (
    IncarnationReport,
    recognise,
)
from realtalk_async.supervision.reports.status import NOT_FAILED, CaptureEnd
from realtalk_async.times import format_hms, now_local

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from realtalk_async.supervision.lifecycle.incarnation import Incarnation
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.policy.ladder import Ladder, Step
    from realtalk_async.supervision.policy.restart import RestartPolicy


SHELL_REFUSALS = {126, 127}
"""Exit statuses of a shell that cannot execute, or does not find, a program."""

SHELL_PROMPT = 5.0
"""Seconds; a line of a shell that has run longer was no mistake in the line."""

SHELL_LINE = re.compile(r"(\S*/)?(ba|da)?sh -c ")


class IncarnationRecord:
    """
    The state of one incarnation so far.

    Args:
        number: Counted from 1.
        command: The command line, for people.
        is_task: Whether the incarnation is a coroutine of the app instead of a process.
    """

    __slots__ = (
        "capture", "cause", "command", "ended", "ended_at", "ended_by", "error",
        "error_is_known", "escalated", "exit_status", "finished", "group_restart",
        "is_task", "kill_requested", "left_out", "next_step", "next_step_at", "number",
        "running", "started", "started_at", "started_by", "step", "step_number",
        "stopping", "summary", "timeline", "unhealthy",
    )  # fmt: skip

    def __init__(self, number: int, command: str, *, is_task: bool = False) -> None:
        self.number = number
        self.is_task = is_task
        self.command = command
        self.running: Incarnation | None = None
        """None until the incarnation is spawned or adopted."""
        self.started = time.monotonic()
        self.started_at = now_local()
        self.ended: float | None = None
        self.ended_at: datetime | None = None
        self.exit_status: ExitStatus | None = None
        self.cause: Cause | None = None
        self.summary = "running"
        self.capture: CaptureEnd = "open"
        self.timeline: list[tuple[datetime, str]] = []
        self.left_out = 0
        """The number of changes that the timeline leaves out."""
        self.stopping = False
        """Whether its lifecycle is ending it."""
        self.started_by = POLICY
        """The actor that requested its start."""
        self.ended_by = POLICY
        """The actor that requested its end, if its lifecycle is ending it."""
        self.kill_requested = False
        """Whether the stop begins with SIGKILL."""
        self.step: Step | None = None
        """The last step of the stop ladder that ran."""
        self.step_number = 0
        """Its place in the ladder, counted from 1."""
        self.next_step: Step | None = None
        """The next step of the stop ladder, if the last one has no effect."""
        self.next_step_at = 0.0
        """When the next step runs, in monotonic seconds."""
        self.escalated = False
        """Whether SIGKILL was sent after a softer step."""
        self.unhealthy = ""
        """The probe that failed and its reason; empty if none failed."""
        self.group_restart = ""
        """Why a healthy incarnation is ended to be restarted together with others."""
        self.error: BaseException | None = None
        """The error of this package that made its supervision fail."""
        self.error_is_known = False
        """Whether that error is published."""
        self.finished = False
        """Whether it is dead, its output is drained and its group was ended."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self.is_task:
            return self.ended is None
        return self.running is not None and self.running.alive

    @property
    def failed(self) -> bool:
        """Whether it ended in a failure."""
        return self.cause not in NOT_FAILED

    @property
    def shell_cannot_run_it(self) -> bool:
        """Whether it is a line of a shell that names no program that can be executed."""
        return (
            self.exit_status in SHELL_REFUSALS
            and self.cause is Cause.FAILED
            and self.uptime < SHELL_PROMPT
            and SHELL_LINE.match(self.command) is not None
        )

    @property
    def ended_as_asked(self) -> bool:
        """Whether the app ended it although it was healthy."""
        return self.cause in {Cause.STOPPED, Cause.ESCALATED}

    @property
    def uptime(self) -> float:
        """Seconds from its start until its end, or until now."""
        if self.running is None and not self.is_task:
            return 0.0
        return (self.ended or time.monotonic()) - self.started

    def end(
        self,
        status: ExitStatus | None,
        when: float | None = None,
        at: datetime | None = None,
    ) -> None:
        """Record the exit status and the time, monotonic (*when*) and local (*at*)."""
        self.exit_status = status
        self.ended = when or time.monotonic()
        self.ended_at = at or now_local()

    def refuse(self, reason: str) -> None:
        """Record that it could not be started."""
        self.end(None)
        self.cause, self.capture, self.summary = Cause.SPAWN_FAILED, "none", reason
        self.finished = True
        self.mark("spawn failed")

    def judge(self, policy: RestartPolicy) -> str:
        """Record why it ended, and return that for people."""
        self.cause = classify(
            self.exit_status,
            policy,
            stopped=self.stopping,
            escalated=self.escalated,
            unhealthy=bool(self.unhealthy),
            broken=self.error is not None,
        )
        self.summary = self.summarise()
        return self.summary

    def mark(self, what: str, at: datetime | None = None) -> None:
        """Add an entry to the timeline."""
        self.timeline.append((at or now_local(), what))
        self.left_out = shorten(self.timeline, self.left_out)

    def note_step(self, ladder: Ladder, step: Step) -> None:
        """Record that a step of a ladder runs now."""
        gentle, force = ladder.steps[0], ladder.steps[-1]
        self.escalated = self.escalated or (step is force and step is not gentle)
        place = next(n for n, one in enumerate(ladder.steps) if one is step)
        self.step, self.step_number = step, place + 1
        self.next_step = (*ladder.steps, None)[place + 1]
        self.next_step_at = time.monotonic() + step.wait

    def summarise(self) -> str:
        """Return how the incarnation ended, in words."""
        how = describe_exit(self.exit_status)
        if self.limit_reached:
            how = f"{how} ({self.limit_reached})"
        if self.error is not None:
            how = f"ended because of an internal error ({self.error!r}); {how}"
        elif self.unhealthy:
            how = f"ended because it was unhealthy ({self.unhealthy}); {how}"
        elif self.ended_as_asked:
            how = f"stopped ({self._describe_stop(how)})"
        return f"{how} after {format_hms(self.uptime)}"

    def _describe_stop(self, how: str) -> str:
        """Return the step that ended it, and its exit unless that follows from the step."""
        step = str(self.step) if self.step else ""
        if not step or how == f"killed by {step}":
            how = how.removeprefix("killed by ")
            return f"{how}, escalated" if self.escalated else how
        return f"{step}; {how}"

    @property
    def limit_reached(self) -> str:
        """The limit that ended it, in words; empty if none did."""
        if self.running is None or self.stopping:
            return ""
        return self.running.limit_reached

    @property
    def why(self) -> str:
        """Its end in words if the exit status does not say why; empty if it does."""
        unsaid = {Cause.SPAWN_FAILED, Cause.UNHEALTHY, Cause.INTERNAL_ERROR}
        return self.summary if self.cause in unsaid or self.limit_reached else ""

    def count(self) -> Earlier:
        """Return what remains of it when it is no longer kept."""
        return Earlier.of(self.cause, self.uptime, self.started_at, self.ended_at)

    def resources(self, name: str) -> IncarnationResources:
        """Return what it still holds, for the leak detection."""
        running = self.running
        assert running is not None
        group = running.pid if running.owns_group and not running.is_gone() else 0
        return IncarnationResources(
            f"{name}#{self.number}", group, self.finished, tuple(running.descriptors())
        )

    def report(self, name: str, capture: Capture) -> IncarnationReport:
        """Return the report of this incarnation."""
        last = capture.last_lines(self.number)
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
            "" if self.error is None else format_traceback(self.error),
        )


def newest_failure(records: Sequence[IncarnationRecord]) -> IncarnationRecord | None:
    """Return the newest incarnation that failed; None if none failed."""
    return next((record for record in reversed(records) if record.failed), None)
