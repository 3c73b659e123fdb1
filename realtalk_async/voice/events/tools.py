"""The events of tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.voice.events.base import SESSION, VoiceEvent, info, warning

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
    """The traceback of the exception that it raised; the service does not receive it."""
    blocked: float = field(default=0.0, kw_only=True)
    """The longest time, in seconds, that it kept the event loop; 0 if that was short."""

    def log_entry(self) -> EventLogEntry:
        context: dict[str, object] = {"name": self.name, "output": self.output}
        context["seconds"] = round(self.seconds, 3)
        if self.error:
            context["error"] = self.error
        if self.blocked:
            context["blocked"] = round(self.blocked, 3)
        if self.failed:
            return warning(SESSION, "Tool failed", **context)
        if self.blocked:
            what = "Tool blocked the event loop: without async it would run in a thread"
            return warning(SESSION, what, **context)
        return info(SESSION, "Tool finished", **context)

    def __str__(self) -> str:
        verb = "failed" if self.failed else "finished"
        return f"{self.name} {verb} after {self.seconds:.1f} s: {self.output}"
