"""The reports: one for each incarnation, the history of a process, the history of all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from realtalk_async import arguments
from realtalk_async.events import Cause
from realtalk_async.supervision.output.lines import OutputLines, interleave
from realtalk_async.supervision.reports.kept_history import NONE_EARLIER, Earlier
from realtalk_async.supervision.reports.status import (
    NOT_FAILED,
    CaptureEnd,
    ProcessStatus,
)
from realtalk_async.times import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from realtalk_async.supervision.kernel.exit_status import ExitStatus, Usage
    from realtalk_async.supervision.output.line import OutputLine


# Error messages of audio programs, with advice. The texts were collected from parec, pacat,
# arecord, aplay, sox and ffmpeg without a server, with a busy device and with a device that
# does not exist.
SIGNS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"resource busy|device busy", re.IGNORECASE),
        "device busy",
        "another program holds the device: close it, or choose another device",
    ),
    (
        # The last two are ffmpeg's: of its output device, and ESRCH.
        re.compile(
            r"connection (failure|refused|terminated)|cannot connect context|"
            r"error opening input.*: no such process",
            re.IGNORECASE,
        ),
        "no sound server",
        "the sound server does not run: start it, or choose another backend",
    ),
    (
        re.compile(
            r"can not open audio device|audio open error|no such device|"
            r"entity killed|no such entity",  # PulseAudio's for an unplugged device
            re.IGNORECASE,
        ),
        "no such device",
        "the device does not exist: list devices and choose one",
    ),
    (
        re.compile(r"address already in use", re.IGNORECASE),
        "address in use",
        "another program holds the port: end it, or choose another port",
    ),
    (
        re.compile(r"out of memory|cannot allocate memory|MemoryError", re.IGNORECASE),
        "out of memory",
        "the machine ran out of memory, or the program reached its limit",
    ),
    (
        re.compile(r"permission denied", re.IGNORECASE),
        "permission denied",
        "the user may not do this: check groups and file modes",
    ),
)


@dataclass(frozen=True, slots=True)
class Sign:
    """A known kind of failure, recognised in the newest output of a child."""

    kind: str
    advice: str
    line: str


def recognise(lines: list[OutputLine]) -> Sign | None:
    """Return the newest known kind of failure among *lines*."""
    for line in reversed(lines):
        for pattern, kind, advice in SIGNS:
            if pattern.search(line.text):
                return Sign(kind, advice, line.text)
    return None


def find_last_words(lines: Sequence[OutputLine], cause: Cause | None) -> str:
    """
    Return the line that says why a process died; empty if none does.

    That is the line of a recognised failure, otherwise the last one of stderr, otherwise
    the last one of stdout. The stdout of a process that a signal ended says nothing.
    """
    sign = recognise(list(lines))
    if sign is not None:
        return sign.line.strip()
    streams = ("stderr", "stdout") if cause is Cause.FAILED else ("stderr",)
    for stream in streams:
        for line in reversed(lines):
            text = line.text.strip()
            if line.stream == stream and any(map(str.isalnum, text)):
                return text
    return ""


@dataclass(frozen=True, slots=True)
class IncarnationReport:
    """
    One incarnation of a process, from spawn to reap; the crash report if it crashed.

    ``str()`` is the form for people, `to_dict()` the form for JSON.
    """

    process: str
    incarnation: int
    command: str
    pid: int | None
    started_at: datetime
    ended_at: datetime | None
    """None while it runs."""
    uptime: float
    """Seconds."""
    exit_status: ExitStatus | None
    """None while it runs, or if it could not be started."""
    cause: Cause | None
    """None while it runs."""
    summary: str
    """How it ended, in words."""
    sign: Sign | None
    """The known kind of failure that was recognised in its newest lines, if any."""
    last_lines: tuple[OutputLine, ...]
    """The newest lines of both streams in the order of arrival, at most ten of each."""
    stdout: OutputLines
    stderr: OutputLines
    capture: CaptureEnd
    usage: Usage | None
    """None while it runs, or if another part of the app reaped it."""
    timeline: tuple[tuple[datetime, str], ...]
    """The changes of its state, with their times."""
    traceback: str = ""
    """That of the error of realtalk-async that ended it; empty if there was none."""

    @property
    def failed(self) -> bool:
        """Whether it ended in a failure."""
        return self.cause not in NOT_FAILED

    @property
    def last_words(self) -> str:
        """The line of its output that says why it failed; empty if none does."""
        return find_last_words(self.last_lines, self.cause) if self.failed else ""

    def to_dict(self, *, most_lines: int | None = None) -> dict[str, object]:
        """
        Return the report ready for JSON.

        Args:
            most_lines: The number of newest lines of each stream; all lines if None.

        Raises:
            InvalidConfiguration: If *most_lines* is no whole number, 0 or more.
        """
        check_most_lines(most_lines)
        return {
            "process": self.process,
            "incarnation": self.incarnation,
            "command": self.command,
            "pid": self.pid,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at and self.ended_at.isoformat(),
            "uptime": round(self.uptime, 3),
            "exit_status": self.exit_status,
            "cause": self.cause and str(self.cause),
            "summary": self.summary,
            "sign": self.sign and {"kind": self.sign.kind, "advice": self.sign.advice},
            "last_lines": [str(line) for line in self.last_lines],
            "stdout": _newest(self.stdout, most_lines),
            "stderr": _newest(self.stderr, most_lines),
            "capture": self.capture,
            "usage": self.usage and self.usage.to_dict(),
            "timeline": [[at.isoformat(), what] for at, what in self.timeline],
            "traceback": self.traceback,
        }

    def __str__(self) -> str:
        lines = [f"{self.process}, incarnation {self.incarnation}: {self.summary}"]
        lines += [f"  command   {self.command}", f"  pid       {self.pid}"]
        lines.append(f"  uptime    {format_duration(self.uptime)}")
        if self.sign:
            lines.append(f"  looks like {self.sign.kind}: {self.sign.advice}")
        if self.usage:
            lines.append(
                f"  used      {self.usage.user:.3f} s user, {self.usage.system:.3f} s "
                f"system, at most {self.usage.peak_memory / 2**20:.1f} MiB"
            )
        lines.append(
            "  timeline  "
            + " → ".join(f"{what} {at:%H:%M:%S.%f}"[:-3] for at, what in self.timeline)
        )
        lines.append(f"  capture   {self.capture}")
        lines.append("  last lines" + ("" if self.last_lines else " (none)"))
        lines += [f"    {line.stream} {line}" for line in self.last_lines]
        if self.traceback:
            lines.append("  internal error of realtalk-async")
            lines += [f"    {line}" for line in self.traceback.splitlines()]
        return "\n".join(lines)


def check_most_lines(most_lines: int | None) -> None:
    """Check the number of lines that a report ready for JSON may have."""
    arguments.integer("most_lines", most_lines, minimum=0, optional=True)


def _newest(lines: OutputLines, most: int | None) -> list[dict[str, object]]:
    """Return the newest *most* lines ready for JSON; all lines if None."""
    chosen = lines if most is None else lines[-most:] if most else []
    return [line.to_dict() for line in chosen]


@dataclass(frozen=True, slots=True)
class RecoveryAttempt:
    """One attempt to restart a process."""

    at: datetime
    after: int
    """The number of the incarnation that had ended."""
    asked_by: Literal["policy", "app"]
    succeeded: bool
    detail: str

    def __str__(self) -> str:
        how = "restarted" if self.succeeded else "not restarted"
        return f"{self.at:%H:%M:%S} {how} by {self.asked_by}: {self.detail}"

    def to_dict(self) -> dict[str, object]:
        """Return the attempt ready for JSON."""
        return {
            "at": self.at.isoformat(),
            "after": self.after,
            "asked_by": self.asked_by,
            "succeeded": self.succeeded,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class CombinedOutput:
    """The status of a process and its whole output, over every incarnation."""

    status: ProcessStatus
    stdout: OutputLines
    stderr: OutputLines

    @property
    def interleaved(self) -> list[OutputLine]:
        """Both streams in the order of arrival."""
        return list(interleave(self.stdout, self.stderr))

    def to_dict(self) -> dict[str, object]:
        """Return the status and the output ready for JSON."""
        return {
            "status": self.status.to_dict(),
            "stdout": [line.to_dict() for line in self.stdout],
            "stderr": [line.to_dict() for line in self.stderr],
        }

    def __str__(self) -> str:
        lines = [f"{line.stream} {line}" for line in self.interleaved]
        return "\n".join([str(self.status), *lines])


@dataclass(frozen=True, slots=True)
class ProcessHistory:
    """The history of one process or task."""

    status: ProcessStatus
    incarnations: tuple[IncarnationReport, ...]
    attempts: tuple[RecoveryAttempt, ...]
    errors: tuple[tuple[datetime, str, str], ...] = ()
    """Other errors: (time, kind, message)."""
    earlier: Earlier = NONE_EARLIER
    """The incarnations before these, which are no longer kept."""

    @property
    def name(self) -> str:
        """The name of the process."""
        return self.status.name

    @property
    def exit_statuses(self) -> list[ExitStatus | None]:
        """One for each incarnation, in order; None if it runs or never ran."""
        return [one.exit_status for one in self.incarnations]

    @property
    def failures(self) -> list[IncarnationReport]:
        """The incarnations that ended in a failure."""
        return [one for one in self.incarnations if one.failed]

    def to_dict(self, *, most_lines: int | None = None) -> dict[str, object]:
        """Return the history ready for JSON; *most_lines* as for the incarnations."""
        check_most_lines(most_lines)
        return {
            "status": self.status.to_dict(),
            "restarts": self.status.restarts,
            "exit_statuses": self.exit_statuses,
            "incarnations": [
                one.to_dict(most_lines=most_lines) for one in self.incarnations
            ],
            "attempts": [one.to_dict() for one in self.attempts],
            "errors": [[at.isoformat(), kind, what] for at, kind, what in self.errors],
            "earlier": self.earlier.to_dict(),
        }

    def __str__(self) -> str:
        parts = [str(self.status)]
        parts += [str(self.earlier)] if self.earlier else []
        parts += [str(one) for one in self.incarnations]
        parts += [str(attempt) for attempt in self.attempts]
        parts += [f"{at:%H:%M:%S} {kind}: {what}" for at, kind, what in self.errors]
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class ErrorHistory(Mapping[str, ProcessHistory]):
    """The histories of several processes by name: a read-only mapping."""

    processes: dict[str, ProcessHistory] = field(
        default_factory=dict[str, ProcessHistory]
    )
    forgotten_names: int = 0
    """The number of dead names that are no longer kept."""
    forgotten: Earlier = NONE_EARLIER
    """All incarnations of these names."""

    def __getitem__(self, name: str) -> ProcessHistory:
        return self.processes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.processes)

    def __len__(self) -> int:
        return len(self.processes)

    def filter(
        self,
        process: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        cause: Cause | str | None = None,
        failed: bool | None = None,
    ) -> ErrorHistory:
        """
        Return the part of the history that meets all given conditions.

        Args:
            process: Only this process.
            since: Incarnations that ended at or after this time, or still run.
            until: Incarnations that began before this time.
            cause: This kind of end, such as ``Cause.SIGNALLED`` or ``"spawn failed"``.
            failed: True for incarnations that ended in a failure, False for the others.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.text("process", process, optional=True)
        arguments.moment("since", since, optional=True)
        arguments.moment("until", until, optional=True)
        if cause is not None:
            arguments.choice("cause", cause, tuple(Cause))
        arguments.flag("failed", failed, optional=True)

        def wanted(one: IncarnationReport) -> bool:
            return (
                (since is None or one.ended_at is None or one.ended_at >= since)
                and (until is None or one.started_at < until)
                and (cause is None or one.cause == cause)
                and (failed is None or one.failed is failed)
            )

        kept: dict[str, ProcessHistory] = {}
        for name, history in self.processes.items():
            if process is not None and name != process:
                continue
            records = tuple(filter(wanted, history.incarnations))
            numbers = {one.incarnation for one in records}
            attempts = tuple(one for one in history.attempts if one.after in numbers)
            if records or (cause is None and failed is None):
                kept[name] = replace(history, incarnations=records, attempts=attempts)
        return replace(self, processes=kept)

    def to_dict(self, *, most_lines: int | None = None) -> dict[str, object]:
        """Return the history ready for JSON; *most_lines* as for the incarnations."""
        check_most_lines(most_lines)
        return {
            name: one.to_dict(most_lines=most_lines)
            for name, one in self.processes.items()
        }

    def __str__(self) -> str:
        parts = list(map(str, self.processes.values()))
        if self.forgotten_names:
            parts.insert(0, f"{self.forgotten_names} dead names: {self.forgotten}")
        return "\n\n".join(parts) or "nothing happened yet"
