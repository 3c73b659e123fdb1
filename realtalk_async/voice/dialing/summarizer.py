"""Asks a function of the app for the text that stands for older messages."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from realtalk_async.concurrency.daemon_thread import call_function
from realtalk_async.voice.events import CONNECTION

if TYPE_CHECKING:
    from realtalk_async.logs import Logger
    from realtalk_async.voice.protocol.conversation import Entry
    from realtalk_async.voice.protocol.history.limits import HistoryLimits


class Summarizer:
    """
    Calls the function while the connection is opened, never twice at a time.

    A call that takes too long goes on: its text is for the next connection that leaves
    out the same messages.

    Args:
        limits: Has the function and the time that it may take.
        logger: Gets an entry for each call that failed.
    """

    def __init__(self, limits: HistoryLimits, logger: Logger) -> None:
        self._function = limits.summarize
        self._timeout = limits.summarize_timeout
        self._logger = logger
        self._call: asyncio.Task[object] | None = None
        self._ids: tuple[str, ...] = ()  # the messages of the last call
        self._until = 0.0
        self._reported: asyncio.Task[object] | None = None

    def begin(self, messages: tuple[Entry, ...]) -> None:
        """Begin a call, unless one still runs, or the last one had the same messages."""
        ids = tuple(message.item_id for message in messages)
        if self._function is None:
            return
        if self._call is not None and not self._call.done():
            self._until = time.monotonic() + self._timeout
            return
        if ids == self._ids:
            return
        self._ids, self._call = ids, None
        if ids:
            what = call_function(self._function, messages, "realtalk summary")
            self._call = asyncio.create_task(what)
            self._until = time.monotonic() + self._timeout

    async def text(self, messages: tuple[Entry, ...]) -> str:
        """
        Return the text for *messages*; empty if there is none in time.

        Cancellation: The call goes on.
        """
        call = self._call
        if call is None or not messages:
            return ""
        left = max(0.0, self._until - time.monotonic())
        await asyncio.wait([call], timeout=left)
        if not call.done():
            self._report(call, f"no summary within {self._timeout:g} s")
            return ""
        if self._ids != tuple(message.item_id for message in messages):
            return ""  # the call began for an earlier connection
        error = None if call.cancelled() else call.exception()
        text = None if call.cancelled() or error is not None else call.result()
        if isinstance(text, str):
            return text
        self._report(
            call, f"it returned {text!r:.100}" if error is None else repr(error)
        )
        return ""

    def _report(self, call: asyncio.Task[object], reason: str) -> None:
        if self._reported is call:
            return
        self._reported = call
        message = (
            "The function that sums up older messages failed: one line replaces it"
        )
        self._logger.warning(CONNECTION, message, {"reason": reason})

    async def aclose(self) -> None:
        """Cancel the call."""
        if self._call is not None and not self._call.done():
            self._call.cancel()
            await asyncio.wait([self._call], timeout=1.0)
