"""What the window into an app tells, and does, when asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.control.diff import Changed
from realtalk_async.exceptions import RealtalkError, UnknownProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from realtalk_async.control.protocol import JsonObject, Question
    from realtalk_async.supervision import (
        ManagedProcess,
        OutputLine,
        ProcessManager,
        ProcessStatus,
    )

    Answer = Callable[[Question], AsyncGenerator[object]]

LINES = 10
"""Lines that are told if nobody says how many."""

PERIOD = 1.0
"""Seconds between two looks of a watch if nobody says how many."""

LAST_LINE = 200
"""Characters of a process's last line that a watch tells."""


class Refused(RealtalkError):
    """What was asked for could not be done."""


class Answers:
    """
    Answers questions about the processes of one manager.

    Args:
        manager: Whose they are.
        app: What tells this app from others, ready for JSON.
    """

    def __init__(self, manager: ProcessManager, app: JsonObject) -> None:
        self._manager = manager
        self._app = app
        self._by_ask: dict[str, Answer] = {
            "ps": self._ps,
            "watch": self._watch,
            "tail": self._tail,
            "logs": self._logs,
            "history": self._history,
            "explain": self._explain,
            "restart": self._restart,
            "stop": self._stop,
        }

    def to(self, question: Question) -> AsyncGenerator[object]:
        """
        Return the parts of the answer, ready for JSON.

        Raises:
            RealtalkError: While it is iterated over, if there is no answer.
        """
        return self._by_ask[question.ask](question)

    def _find(self, question: Question) -> ManagedProcess:
        """Return the process; a coroutine has no output, and its own way to go on."""
        processes, name = self._manager.processes, str(question.name)
        if name in self._manager.tasks:
            raise Refused(f"{name!r} is a coroutine: {question.ask} is for processes")
        if name not in processes:
            raise UnknownProcess(name, self._manager.get_statuses())
        return processes[name]

    def _overview(self) -> JsonObject:
        manager = self._manager
        return {
            **self._app,
            "status": manager.status,
            "log": str(manager.logger.path),
            "degraded": dict(manager.degraded),
        }

    async def _ps(self, _question: Question) -> AsyncGenerator[object]:
        statuses = self._manager.get_statuses().values()
        processes = [one.to_dict() for one in statuses]
        yield {**self._overview(), "processes": processes}

    async def _watch(self, question: Question) -> AsyncGenerator[object]:
        """Tell all of each process, then, look by look, only what has changed."""
        changed, period = Changed(), question.period or PERIOD
        while True:
            rows: dict[str, JsonObject] = {}
            time_slice = TimeSlice()
            for name in [*self._manager.processes, *self._manager.tasks]:
                row = self._row(name)
                if row is not None:
                    rows[name] = row
                await time_slice.yield_if_over()
            yield {**self._overview(), **changed.since_last(rows)}
            await asyncio.sleep(period)

    def _row(self, name: str) -> JsonObject | None:
        """Return what a watch tells of a process or a coroutine; None if it is gone."""
        if name in self._manager.tasks:
            return _row(self._manager.tasks[name].get_status())
        process = self._manager.processes.get(name)
        if process is None:
            return None
        last = process.last_line("stdout") or process.last_line("stderr")
        streams = (
            process.get_volume("stdout", most=0),
            process.get_volume("stderr", most=0),
        )
        return {
            **_row(process.get_status()),
            "bytes": sum(one.size for one in streams),
            "last": last[:LAST_LINE],
        }

    async def _tail(self, question: Question) -> AsyncGenerator[object]:
        process = self._find(question)
        # Both at once: nothing is missing in between, and nothing told twice.
        following = process.follow()
        for line in _newest(process, _count(question), is_followed=question.follow):
            yield _line(line, question.width)
        if question.follow:
            async for line in following:
                yield _line(line, question.width)

    async def _logs(self, question: Question) -> AsyncGenerator[object]:
        logger = self._manager.logger
        which = question.level, question.component, question.pattern
        following = logger.follow_logs(*which) if question.follow else None
        for entry in await logger.get_logs(*which, n=_count(question)):
            yield {**entry.to_dict(), "line": str(entry)}
        if following is not None:
            async for entry in following:
                yield {**entry.to_dict(), "line": str(entry)}

    async def _history(self, question: Question) -> AsyncGenerator[object]:
        found = self._manager.get_error_history(question.name)
        for one in found.processes.values():
            lines = 0 if question.n is None else question.n
            yield one.to_dict(most_lines=lines)

    async def _explain(self, question: Question) -> AsyncGenerator[object]:
        explanation = self._manager.explain(str(question.name))
        told = explanation.to_dict(most_lines=_count(question))
        yield {**told, "text": str(explanation)}

    async def _restart(self, question: Question) -> AsyncGenerator[object]:
        process = self._find(question)
        if process.status == "dead":
            if not await process.restart():
                raise Refused(f"{process.name!r} was not restarted: {process.reason}")
        elif process.policy.mode == "temporary":
            await process.stop()
            await process.start()
        else:
            await process.restart_with_group("a restart was asked for from outside")
        yield (await process.wait_until_running()).to_dict()

    async def _stop(self, question: Question) -> AsyncGenerator[object]:
        yield (await self._manager.stop(str(question.name))).to_dict()


def _row(status: ProcessStatus) -> JsonObject:
    """Return what of a status does not change by itself."""
    runs = status.status == "running"
    return {
        "state": str(status.state),
        "pid": status.pid,
        "incarnation": status.incarnation,
        "started_at": status.started_at and status.started_at.timestamp(),
        "uptime": None if runs else status.uptime,
        "restarts": status.restarts,
        "exit_status": status.exit_status,
        "reason": status.reason,
    }


def _line(line: OutputLine, width: int | None) -> JsonObject:
    told = line.to_dict()
    return told if width is None else {**told, "text": line.text[:width]}


def _count(question: Question) -> int:
    return LINES if question.n is None else question.n


def _newest(
    process: ManagedProcess, count: int, *, is_followed: bool
) -> list[OutputLine]:
    """Return the newest lines of both streams in the order of arrival."""
    streams = [process.get_stdout(), process.get_stderr()]
    if count == 0:
        return []
    # What has no end yet is told when it has one, if the process is followed.
    lines = sorted(
        (line for stream in streams for line in stream[-count - 1 :]),
        key=lambda line: line.sequence,
    )
    whole = [line for line in lines if not (is_followed and line.partial)]
    return whole[-count:]
