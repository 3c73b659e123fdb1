"""
The fault injector of a connection: from a server event to the actions on the socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import orjson

from realtalk_async.offline.effects import JsonObject, as_object
from realtalk_async.offline.faults.kinds import CLOSE_CODES, TRANSCRIPTION, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

_BETA_NAMES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": None,
}
"""The names before GA; ``None`` for events that did not exist then."""

_UNKNOWN_EVENT: JsonObject = {
    "type": "peer.unknown_event",
    "event_id": "event_unknown",
    "value": 42,
}


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes = field(repr=False)
    binary: bool = False
    """Whether in a binary frame; else in a text frame."""
    delay: float = 0.0
    """Seconds to wait before."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Break the connection without a close frame."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with a close frame."""

    code: int
    reason: str = ""


Action: TypeAlias = Send | Drop | Close


@dataclass(slots=True)
class _ArmedFault:
    fault: Fault
    seen: int = 0

    def is_triggered_by(self, event_type: str) -> bool:
        """Count an event; return whether it triggers the fault."""
        if self.fault.event not in (event_type, "*"):
            return False
        self.seen += 1
        return self.seen == self.fault.count


class ArmedFaults:
    """The faults that wait for their events, on one connection or on all of them."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._armed = [_ArmedFault(fault) for fault in faults]

    def arm(self, fault: Fault) -> None:
        """Add *fault*; it counts events from now on."""
        self._armed.append(_ArmedFault(fault))

    def take_triggered(self, event_type: str) -> list[Fault]:
        """Count an event; remove and return the faults that it triggers."""
        triggered = [
            armed for armed in self._armed if armed.is_triggered_by(event_type)
        ]
        for armed in triggered:
            self._armed.remove(armed)
        return [armed.fault for armed in triggered]

    def take_refusal(self) -> int | None:
        """Remove the oldest ``refuse`` fault and return its HTTP status."""
        for armed in self._armed:
            if armed.fault.kind == "refuse":
                self._armed.remove(armed)
                return int(armed.fault.argument)
        return None


class FaultInjector:
    """
    Decides what happens to each server event of one connection.

    Args:
        own: The faults of this connection.
        shared: The faults of the whole peer.
    """

    def __init__(self, own: ArmedFaults, shared: ArmedFaults) -> None:
        self._sources = (own, shared)
        self._stalled = False
        self._beta = False

    def process(self, event: JsonObject) -> list[Action]:
        """Return the actions for *event*: without a fault, to send it."""
        kind = str(event["type"])
        faults = [f for source in self._sources for f in source.take_triggered(kind)]
        actions: list[Action] = [Send(data) for data in self._encode(event)]
        for fault in faults:
            actions = self._apply(fault, event, actions)
        return self._without_stalled(actions)

    def apply(self, fault: Fault) -> list[Action]:
        """Return the actions for *fault*, which needs no event."""
        needs_event = fault.kind in ("malformed", "binary")
        actions = self._apply(
            fault, _UNKNOWN_EVENT, [_unknown_event()] if needs_event else []
        )
        return self._without_stalled(actions)

    def _without_stalled(self, actions: list[Action]) -> list[Action]:
        """Send nothing after a stall; the connection can still break."""
        return [
            action
            for action in actions
            if not (self._stalled and isinstance(action, Send))
        ]

    def _apply(
        self, fault: Fault, event: JsonObject, actions: list[Action]
    ) -> list[Action]:
        match fault.kind:
            case "drop":
                return [Drop()]
            case "close":
                return [Close(int(fault.argument))]
            case "stall":
                self._stalled = True
                return []
            case "beta":
                self._beta = True
                return [Send(data) for data in self._encode(event)] if actions else []
            case "missing":
                return []
            case "twice":
                return actions * 2
            case "unknown":
                return [_unknown_event(), *actions]
            case "error":
                return _with_error(fault.argument, actions)
            case _:
                return [_modified(fault, event, action) for action in actions]

    def _encode(self, event: JsonObject) -> list[bytes]:
        if self._beta:
            name = _BETA_NAMES.get(str(event["type"]), event["type"])
            event = {**event, "type": name}
        return [orjson.dumps(event)] if event["type"] else []


def _modified(fault: Fault, event: JsonObject, action: Action) -> Action:
    """Return *action* with another content, frame type or delay."""
    if not isinstance(action, Send):
        return action
    match fault.kind:
        case "malformed":
            return Send(action.data[: len(action.data) // 2])
        case "binary":
            return Send(action.data, binary=True)
        case "badbase64":
            return Send(orjson.dumps({**event, "delta": "*** not base64 ***"}))
        case "late":
            return Send(action.data, delay=float(fault.argument))
        case "failed" if event["type"] == f"{TRANSCRIPTION}.completed":
            return Send(orjson.dumps(_failed_transcription(fault, event)))
        case _:
            return Send(orjson.dumps(_unsuccessful_response(fault, event)))


def _failed_transcription(fault: Fault, event: JsonObject) -> JsonObject:
    message = f"The transcription failed, as requested: {fault.argument}."
    error = {"type": "server_error", "code": fault.argument, "message": message}
    ids = {key: event[key] for key in ("event_id", "item_id", "content_index")}
    return {"type": f"{TRANSCRIPTION}.failed", **ids, "error": error}


def _unsuccessful_response(fault: Fault, event: JsonObject) -> JsonObject:
    """Return ``response.done`` with the status ``failed`` or ``incomplete``."""
    details: JsonObject = {"type": fault.kind}
    if fault.kind == "failed":
        message = f"The response failed, as requested: {fault.argument}."
        error = {"type": "server_error", "code": fault.argument, "message": message}
        details["error"] = error
    else:
        details["reason"] = fault.argument
    status = {"status": fault.kind, "status_details": details}
    return {**event, "response": {**as_object(event.get("response")), **status}}


def _unknown_event() -> Action:
    return Send(orjson.dumps(_UNKNOWN_EVENT))


def _with_error(code: str, actions: list[Action]) -> list[Action]:
    event = orjson.dumps(error_event(code))
    if code in CLOSE_CODES:
        return [Send(event), Close(CLOSE_CODES[code], code)]
    return [Send(event), *actions]


def error_event(code: str, message: str = "") -> JsonObject:
    """Return an ``error`` event that answers no client event."""
    known = {"session_expired": "Your session hit the maximum duration of 60 minutes."}
    text = message or known.get(code, f"An error, as requested: {code}.")
    kind = "server_error" if code == "server_error" else "invalid_request_error"
    error = {
        "type": kind,
        "code": code,
        "message": text,
        "param": None,
        "event_id": None,
    }
    return {"type": "error", "event_id": "event_fault", "error": error}
