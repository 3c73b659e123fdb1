"""What the window into an app tells, and does, when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.exceptions import RealtalkError, UnknownProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from realtalk_async.supervision import (
        ManagedProcess,
        OutputLine,
        ProcessManager,
    )

    from .wire import JsonObject, Question

    Answer = Callable[[Question], AsyncGenerator[object]]

LINES = 10
"""Lines that are told if nobody says how many."""


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

    async def _ps(self, _question: Question) -> AsyncGenerator[object]:
        manager = self._manager
        yield {
            **self._app,
            "status": manager.status,
            "log": str(manager.logger.path),
            "degraded": dict(manager.degraded),
            "processes": [one.to_dict() for one in manager.get_statuses().values()],
        }

    async def _tail(self, question: Question) -> AsyncGenerator[object]:
        process = self._find(question)
        # Both at once: nothing is missing in between, and nothing told twice.
        following = process.follow()
        for line in _newest(process, _count(question), is_followed=question.follow):
            yield line.to_dict()
        if question.follow:
            async for line in following:
                yield line.to_dict()

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
        told = self._manager.explain(str(question.name))
        yield {**told.to_dict(most_lines=_count(question)), "text": str(told)}

    async def _restart(self, question: Question) -> AsyncGenerator[object]:
        process = self._find(question)
        if process.status == "dead":
            if not await process.restart():
                raise Refused(f"{process.name!r} was not restarted: {process.reason}")
        elif process.policy.mode == "temporary":
            await process.stop()
            await process.start()
        else:
            await process.bounce("a restart was asked for from outside")
        yield (await process.wait_until_running()).to_dict()

    async def _stop(self, question: Question) -> AsyncGenerator[object]:
        yield (await self._manager.stop(str(question.name))).to_dict()


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
