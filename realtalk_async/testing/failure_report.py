"""
What a failed test has to tell of its children and its logs, for its report. An edge.

Managers and loggers are found wherever the test, or the app's own code, has made them: the
garbage collector knows all objects. That takes some milliseconds, and only a test that has failed takes them.
"""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from realtalk_async.logs import Logger, parse_line
from realtalk_async.supervision import ProcessManager

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from realtalk_async.supervision import IncarnationReport, ProcessHistory

OURS = (ProcessManager, Logger)

MOST_LINES = 50
"""Newest lines of a log that are told."""

MOST_BYTES = 64 * 1024
"""Bytes from the end of a log in which they are looked for."""

MOST_LIVES = 3
"""Newest incarnations of each child that are told."""

MOST_CHILDREN = 20
"""Children that are told of; those that failed go first."""

Section = tuple[str, str]
"""Title and text."""


def sections(since: float) -> list[Section]:
    """
    Return what a report is to tell.

    Args:
        since: When the test began, in seconds since the epoch: what was over by then is
            not its own.
    """
    began = datetime.fromtimestamp(since, UTC)
    # By type(), as proxies and mocks lie about their class.
    known = [one for one in gc.get_objects() if issubclass(type(one), OURS)]
    histories = [
        history
        for one in known
        if isinstance(one, ProcessManager)
        for history in one.get_error_history().processes.values()
        if any(_is_of(life, began) for life in history.incarnations)
    ]
    paths = {one.path: None for one in known if isinstance(one, Logger)}
    return [*_of_children(histories), *_of_logs(paths, began)]


def _is_of(life: IncarnationReport, began: datetime) -> bool:
    """Return whether a life belongs to a test that began then."""
    return life.ended_at is None or life.ended_at >= began


def _of_children(histories: list[ProcessHistory]) -> list[Section]:
    ordered = sorted(histories, key=lambda one: not one.failures)
    told = [
        (f"realtalk-async child {one.name}", _of_child(one))
        for one in ordered[:MOST_CHILDREN]
    ]
    if len(ordered) > MOST_CHILDREN:
        names = ", ".join(one.name for one in ordered[MOST_CHILDREN:])
        told.append(("realtalk-async children left out", names))
    return told


def _of_child(history: ProcessHistory) -> str:
    """Return how a child fared: its newest lives, each with its last lines."""
    lives = history.incarnations
    left_out = len(lives) - MOST_LIVES
    lines = [f"({left_out} earlier incarnations are left out)"] if left_out > 0 else []
    for life in lives[-MOST_LIVES:]:
        lines.append(f"incarnation {life.incarnation}: {life.summary}")
        if life.sign:
            lines.append(f"  looks like {life.sign.kind}: {life.sign.advice}")
        lines += [f"  {line.stream} {line}" for line in life.last_words]
    lines.append(f"now {history.status}")
    return "\n".join(lines)


def _of_logs(paths: Iterable[Path], began: datetime) -> list[Section]:
    found = ((path, _tail(path, began)) for path in paths)
    return [
        (f"realtalk-async log ({path})", "\n".join(lines))
        for path, lines in found
        if lines
    ]


def _tail(path: Path, began: datetime) -> list[str]:
    """Return the newest lines of a log that were written since then."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MOST_BYTES))
            whole = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    lines = whole[1:] if size > MOST_BYTES else whole  # the first is cut
    # A log's time is told in seconds.
    second = began.replace(microsecond=0)
    return [line for line in lines[-MOST_LINES:] if _is_since(line, second)]


def _is_since(line: str, moment: datetime) -> bool:
    entry = parse_line(line)
    return entry is None or entry.timestamp >= moment
