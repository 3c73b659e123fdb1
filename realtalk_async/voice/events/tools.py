"""The events of tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.voice.events.base import (
    SESSION,
    NotLogged,
    VoiceEvent,
    info,
    warning,
)

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry


@dataclass(frozen=True, slots=True)
class ToolCalled(VoiceEvent):
    """The service calls a tool."""

    kind = "tool.called"
    call_id: str
    name: str
    arguments: str
    """A JSON object."""

    def log_entry(self) -> EventLogEntry:
        context = {"name": self.name, "arguments": self.arguments}
        return info(SESSION, "Tool called", **context)

    def __str__(self) -> str:
        return f"{self.name} called with {self.arguments}"


@dataclass(frozen=True, slots=True)
class ToolFinished(VoiceEvent):
    """A tool returned or failed; its output is sent to the service."""

    kind = "tool.finished"
    call_id: str
    name: str
    output: str
    """The output that the service receives."""
    seconds: float
    """Duration of the call."""
    failed: bool = field(default=False, kw_only=True)
    error: str = field(default="", kw_only=True)
    """
    The traceback of the exception that it raised, or what became of a cancelled call or
    of an output that is too long; the service does not receive it.
    """
    blocked: float = field(default=0.0, kw_only=True)
    """The longest time, in seconds, that it kept the event loop; 0 if that was short."""
    cancelled: bool = field(default=False, kw_only=True)
    """Whether the user broke in, or the session ended, before it returned."""
    ends_session: bool = field(default=False, kw_only=True)
    """Whether it raised `EndSession`: the session ends after the next response."""

    def log_entry(self) -> EventLogEntry:
        context: dict[str, object] = {"name": self.name, "output": self.output}
        context["seconds"] = round(self.seconds, 3)
        if self.error:
            context["error"] = self.error
        if self.blocked:
            context["blocked"] = round(self.blocked, 3)
        if self.cancelled:
            return info(SESSION, "Tool cancelled", **context)
        if self.failed:
            return warning(SESSION, "Tool failed", **context)
        if self.blocked:
            what = "Tool blocked the event loop: without async it would run in a thread"
            return warning(SESSION, what, **context)
        return info(SESSION, "Tool finished", **context)

    def __str__(self) -> str:
        verb = "failed" if self.failed else "finished"
        verb = "cancelled" if self.cancelled else verb
        return f"{self.name} {verb} after {self.seconds:.1f} s: {self.output}"


@dataclass(frozen=True, slots=True)
class ToolsInterrupted(NotLogged, VoiceEvent):
    """The user broke in while tools worked; those that allow it are cancelled."""

    kind = "tool.interrupted"
    call_ids: tuple[str, ...]
    """The calls that were under way."""

    def __str__(self) -> str:
        return f"the user broke in during {len(self.call_ids)} calls of tools"


@dataclass(frozen=True, slots=True)
class ToolLimitReached(VoiceEvent):
    """
    The service called tools again and again without an answer.

    The tool is not called; the service is asked for an answer without tools.
    """

    kind = "tool.limit_reached"
    call_id: str
    name: str
    limit: int
    """The `max_tool_steps` of the stream."""

    def log_entry(self) -> EventLogEntry:
        context = {"name": self.name, "limit": self.limit}
        return warning(SESSION, "Tool not called: too many calls in a row", **context)

    def __str__(self) -> str:
        return (
            f"{self.name} not called: no more than {self.limit} responses in a row may "
            f"call tools without an answer"
        )
