"""
The sections that a failed test adds to its pytest report: its children and its log.

All managers and loggers count, also those that the app's own code makes: the garbage
collector lists them. That takes some milliseconds, and only for a test that has failed.
"""

from __future__ import annotations

import contextlib
import gc
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from realtalk_async.logs import Logger, parse_line, queue
from realtalk_async.supervision import ProcessManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from realtalk_async.supervision import IncarnationReport, ProcessHistory

MAX_LINES = 50
"""Newest lines of a log in the report."""

MAX_BYTES = 64 * 1024
"""Bytes at the end of a log that are searched for these lines."""

MAX_INCARNATIONS = 3
"""Newest incarnations of each child in the report."""

MAX_CHILDREN = 20
"""Children in the report; failed children come first."""

Section = tuple[str, str]
"""Title and text."""


def sizes_of_logs() -> dict[Path, int]:
    """Return the present size in bytes of each log of this process."""
    found: dict[Path, int] = {}
    for path in queue.paths():
        with contextlib.suppress(OSError):
            found[path] = path.stat().st_size
    return found


def sections(since: float, sizes: Mapping[Path, int]) -> list[Section]:
    """
    Return the sections for the report of one test.

    Args:
        since: When the test began, in seconds since the epoch. Incarnations and log lines
            from before are left out.
        sizes: The sizes of the logs at that time: a log line gives its time to the
            second only, and another test may have written in the same second.
    """
    began = datetime.fromtimestamp(since, UTC)
    # By type(): proxies and mocks give another class as `__class__`.
    known = [
        one
        for one in gc.get_objects()
        if issubclass(type(one), (ProcessManager, Logger)) and _is_complete(one)
    ]
    histories = [
        history
        for one in known
        if isinstance(one, ProcessManager)
        for history in one.get_error_history().processes.values()
        if any(_lived_after(began, report) for report in history.incarnations)
    ]
    paths = {one.path: None for one in known if isinstance(one, Logger)}
    return [*_child_sections(histories), *_log_sections(paths, began, sizes)]


def _is_complete(one: object) -> bool:
    """Return whether the constructor has returned: a refused argument ends it early."""
    return hasattr(one, "path") if isinstance(one, Logger) else hasattr(one, "degraded")


def _lived_after(began: datetime, report: IncarnationReport) -> bool:
    return report.ended_at is None or report.ended_at >= began


def _child_sections(histories: list[ProcessHistory]) -> list[Section]:
    ordered = sorted(histories, key=lambda history: not history.failures)
    found = [
        (f"realtalk-async child {history.name}", _describe_child(history))
        for history in ordered[:MAX_CHILDREN]
    ]
    if len(ordered) > MAX_CHILDREN:
        names = ", ".join(history.name for history in ordered[MAX_CHILDREN:])
        found.append(("realtalk-async children left out", names))
    return found


def _describe_child(history: ProcessHistory) -> str:
    """Return the newest incarnations of a child, each with its last lines of output."""
    reports = history.incarnations
    left_out = len(reports) - MAX_INCARNATIONS
    lines = [f"({left_out} earlier incarnations are left out)"] if left_out > 0 else []
    for report in reports[-MAX_INCARNATIONS:]:
        lines.append(f"incarnation {report.incarnation}: {report.summary}")
        if report.sign:
            lines.append(f"  looks like {report.sign.kind}: {report.sign.advice}")
        lines += [f"  {line.stream} {line}" for line in report.last_lines]
    lines.append(f"now {history.status}")
    return "\n".join(lines)


def _log_sections(
    paths: Iterable[Path], began: datetime, sizes: Mapping[Path, int]
) -> list[Section]:
    found = ((path, _newest_lines(path, began, sizes.get(path, 0))) for path in paths)
    return [
        (f"realtalk-async log ({path})", "\n".join(lines))
        for path, lines in found
        if lines
    ]


def _newest_lines(path: Path, began: datetime, size_before: int) -> list[str]:
    """Return the newest lines of a log that were written since *began*."""
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
            return []
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            known = size_before if size_before <= size else 0  # truncated or rotated
            start = max(known, size - MAX_BYTES)
            file.seek(start)
            found = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    lines = found[1:] if start > known else found  # the first line may be cut
    # A log line gives its time to the second.
    second = began.replace(microsecond=0)
    return [line for line in lines[-MAX_LINES:] if _is_since(line, second)]


def _is_since(line: str, moment: datetime) -> bool:
    entry = parse_line(line)
    return entry is None or entry.timestamp >= moment
