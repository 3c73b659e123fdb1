"""Handle the requests of the control socket, one method of the protocol each."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.exceptions import RealtalkError, UnknownProcess
from realtalk_async.supervision.output.states import limit_states

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from realtalk_async.control.protocol import JsonObject, Request
    from realtalk_async.supervision import (
        ManagedProcess,
        OutputLine,
        ProcessManager,
        ProcessStatus,
    )

    Handler = Callable[[Request], AsyncGenerator[object]]
    ReloadFunction = Callable[[], Awaitable[Mapping[str, str]]]

MEASURED = 0.05
"""Seconds by which two measurements of the same time may differ."""

DEFAULT_LINES = 10
"""Lines or entries of a response if the request gives no number."""

DEFAULT_PERIOD = 1.0
"""Seconds between two items of a watch if the request gives no period."""

MAX_LAST_LINE = 200
"""Characters of a process's last line in a watch."""


class RequestRefused(RealtalkError):
    """The app cannot fulfil a request."""


class RequestHandlers:
    """
    Handles the requests about the processes of one manager.

    Args:
        manager: The manager.
        app: Identifies this app; ready for JSON.
        on_reload: See `serve_control`.
    """

    def __init__(
        self,
        manager: ProcessManager,
        app: JsonObject,
        on_reload: ReloadFunction | None = None,
    ) -> None:
        self._manager = manager
        self._app = app
        self._on_reload = on_reload
        self._handlers: dict[str, Handler] = {
            "ps": self._ps,
            "watch": self._watch,
            "tail": self._tail,
            "logs": self._logs,
            "history": self._history,
            "explain": self._explain,
            "restart": self._restart,
            "stop": self._stop,
            "reload": self._reload,
        }

    def handle(self, request: Request) -> AsyncGenerator[object]:
        """
        Return the items of the response, ready for JSON.

        Raises:
            RealtalkError: During the iteration, if the request is refused.
        """
        return self._handlers[request.method](request)

    def _process(self, request: Request) -> ManagedProcess:
        """Return the process of a request that is not for coroutines."""
        processes, name = self._manager.processes, str(request.name)
        if name in self._manager.tasks:
            raise RequestRefused(
                f"{name!r} is a coroutine: {request.method} is for processes"
            )
        if name not in processes:
            raise UnknownProcess(name, self._manager.get_statuses())
        return processes[name]

    def _app_status(self) -> JsonObject:
        manager = self._manager
        return {
            **self._app,
            "status": manager.status,
            "log": str(manager.logger.path),
            "degraded": dict(manager.degraded),
            "containment": manager.containment.to_dict(),
        }

    async def _ps(self, _request: Request) -> AsyncGenerator[object]:
        statuses = self._manager.get_statuses().values()
        processes = [one.to_dict() for one in statuses]
        yield {**self._app_status(), "processes": processes}

    async def _watch(self, request: Request) -> AsyncGenerator[object]:
        differ, period = Differ(), request.period or DEFAULT_PERIOD
        while True:
            rows: dict[str, JsonObject] = {}
            time_slice = TimeSlice()
            for name in [*self._manager.processes, *self._manager.tasks]:
                row = self._row(name)
                if row is not None:
                    rows[name] = row
                await time_slice.yield_if_over()
            yield {**self._app_status(), **differ.compare(rows)}
            await asyncio.sleep(period)

    def _row(self, name: str) -> JsonObject | None:
        """Return the row of a process or a coroutine in a watch; None if it is gone."""
        if name in self._manager.tasks:
            status = self._manager.tasks[name].get_status()
            return {**_lasting_fields(status), "last": self._detail(name)}
        process = self._manager.processes.get(name)
        if process is None:
            return None
        last = process.last_line("stdout") or self._detail(name)
        last = last or process.last_line("stderr")
        streams = (
            process.get_volume("stdout", most=0),
            process.get_volume("stderr", most=0),
        )
        return {
            **_lasting_fields(process.get_status()),
            "bytes": sum(one.size for one in streams),
            "last": last[:MAX_LAST_LINE],
        }

    def _detail(self, name: str) -> str:
        return next(iter(self._manager.get_details(name)), "")

    async def _tail(self, request: Request) -> AsyncGenerator[object]:
        process = self._process(request)
        # Both before the first `await`: no line is lost in between, and none comes twice.
        following = limit_states(process.follow())
        lines = _newest_lines(process, _count(request), is_followed=request.follow)
        for line in lines:
            yield _line_to_dict(line, request.width)
        if request.follow:
            async for line in following:
                yield _line_to_dict(line, request.width)

    async def _logs(self, request: Request) -> AsyncGenerator[object]:
        logger = self._manager.logger
        filters = request.level, request.component, request.pattern
        following = logger.follow_logs(*filters) if request.follow else None
        for entry in await logger.get_logs(*filters, n=_count(request)):
            yield {**entry.to_dict(), "line": str(entry)}
        if following is not None:
            async for entry in following:
                yield {**entry.to_dict(), "line": str(entry)}

    async def _history(self, request: Request) -> AsyncGenerator[object]:
        found = self._manager.get_error_history(request.name)
        for one in found.processes.values():
            lines = 0 if request.n is None else request.n
            yield one.to_dict(most_lines=lines)

    async def _explain(self, request: Request) -> AsyncGenerator[object]:
        explanation = self._manager.explain(str(request.name))
        fields = explanation.to_dict(most_lines=_count(request))
        yield {**fields, "text": str(explanation)}

    async def _restart(self, request: Request) -> AsyncGenerator[object]:
        name = self._process(request).name
        yield (await self._manager.restart(name)).to_dict()

    async def _stop(self, request: Request) -> AsyncGenerator[object]:
        yield (await self._manager.stop(str(request.name))).to_dict()

    async def _reload(self, _request: Request) -> AsyncGenerator[object]:
        if self._on_reload is None:
            raise RequestRefused(
                "this app has no file that it could read again: 'realtalk-async run FILE' "
                "has one, and an app that passes on_reload to serve_control"
            )
        for name, what in (await self._on_reload()).items():
            yield {"name": name, "what": what}


class Differ:
    """Remembers the rows that one client of a watch has got: it gets only differences."""

    def __init__(self) -> None:
        self._sent: dict[str, JsonObject] = {}

    def compare(self, rows: dict[str, JsonObject]) -> JsonObject:
        """
        Return the differences between the last rows and these.

        Args:
            rows: All rows, by name.

        Returns:
            ``changed``: by name, the changed fields, or all fields of a new row;
            ``gone``: the names of rows that do not exist any more.
        """
        before, self._sent = self._sent, rows
        changed = {
            name: _changed_fields(before.get(name), row) for name, row in rows.items()
        }
        return {
            "changed": {name: fields for name, fields in changed.items() if fields},
            "gone": [name for name in before if name not in rows],
        }


def _changed_fields(before: JsonObject | None, now: JsonObject) -> JsonObject:
    if before is None:
        return now
    return {
        key: value
        for key, value in now.items()
        if key not in before or _differs(before[key], value)
    }


def _differs(before: object, now: object) -> bool:
    """Return whether a field has changed; the times of a start are measured anew."""
    if isinstance(before, float) and isinstance(now, float):
        return abs(before - now) > MEASURED
    return before != now


def _lasting_fields(status: ProcessStatus) -> JsonObject:
    """Return the fields that do not change with time alone."""
    runs = status.status == "running"
    return {
        "state": str(status.state),
        "pid": status.pid,
        "incarnation": status.incarnation,
        "started_at": status.started_at and status.started_at.timestamp(),
        # In monotonic seconds: the wall clock may be set, or go on in a suspend.
        "began": time.monotonic() - status.uptime if runs else None,
        "uptime": None if runs else status.uptime,
        "restarts": status.restarts,
        "exit_status": status.exit_status,
        "reason": status.reason,
    }


def _line_to_dict(line: OutputLine, width: int | None) -> JsonObject:
    is_state = line.raw.endswith(b"\r")
    return {
        **line.to_dict(),
        "text": line.last_state[:width],
        "partial": line.partial and not is_state,
    }


def _count(request: Request) -> int:
    return DEFAULT_LINES if request.n is None else request.n


def _newest_lines(
    process: ManagedProcess, count: int, *, is_followed: bool
) -> list[OutputLine]:
    """Return the newest lines of both streams in the order of arrival."""
    streams = [process.get_stdout(), process.get_stderr()]
    if count == 0:
        return []
    lines = sorted(
        (line for stream in streams for line in stream[-count - 1 :]),
        key=lambda line: line.sequence,
    )
    # A follower gets an unfinished line itself.
    whole = [line for line in lines if not (is_followed and line.partial)]
    return whole[-count:]
