"""The bridge from loguru, for apps that have imported it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from realtalk_async.logs.bridges.log_protocol import (
    Log,
    call_of,
    level_of,
    show_traceback,
)
from realtalk_async.logs.serialize import show_text

if TYPE_CHECKING:
    from collections.abc import Callable


class LoguruSink:
    """
    Forwards the messages of loguru.

    The sink stays although the app calls ``logger.remove()`` or ``logger.configure(…)``,
    which remove all sinks; `undo` removes it.
    """

    def __init__(
        self, logger: Log, level: int, is_forwarding: Callable[[], bool]
    ) -> None:
        """
        Forward messages of at least *level* to *logger*.

        Args:
            logger: The log.
            level: A number of logging.
            is_forwarding: Whether the message comes from a record of logging that
                reaches the log itself (a handler passes such records on to loguru).
        """
        self._log = logger
        self._level = level
        self._is_forwarding = is_forwarding
        self._loguru: Any = sys.modules["loguru"].logger
        self._kind: Any = type(self._loguru)
        self._active = True
        self._number = 0
        self._add()
        self._remove = self._kind.remove
        self._kept_remove = self._wrap_remove()

    def undo(self) -> None:
        """Remove the sink, and the wrapper that keeps it."""
        self._active = False
        if self._kind.remove is self._kept_remove:
            self._kind.remove = self._remove
        with contextlib.suppress(ValueError):  # the app has removed it by its number
            self._remove(self._loguru, self._number)

    def _add(self) -> None:
        self._number = self._loguru.add(
            self._forward, level=self._level, format="{message}"
        )

    def _wrap_remove(self) -> Callable[..., None]:
        # `configure` calls `remove` as well.
        def remove(logger: Any, handler_id: int | None = None) -> None:  # noqa: ANN401
            self._remove(logger, handler_id)
            if handler_id is None and self._active:
                self._add()

        self._kind.remove = remove
        return remove

    def _forward(self, message: Any) -> None:  # noqa: ANN401 - loguru's own str
        if self._is_forwarding():
            return
        record: dict[str, Any] = message.record
        context: dict[str, object] = dict(record["extra"])
        level = level_of(record["level"].no)
        if record["level"].name != level:
            context["level"] = record["level"].name
        exception = record["exception"]
        if exception is not None and exception.value is not None:
            context["exception"] = show_traceback(exception.value)
        component = record["name"] or "loguru"
        _ = call_of(self._log, level)(component, show_text(record["message"]), context)
