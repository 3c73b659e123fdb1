"""
Faults on demand, to see what a client makes of them. Pure.

A fault is written ``KIND[-ARGUMENT][@EVENT][:N]``: it strikes at the *N*-th event
(the first, if there is no *N*) of type *EVENT* that the peer would send. ``*`` as
*EVENT* is any event. In the URL of a connection there may be several, and they strike
on each connection that uses that URL::

    ws://127.0.0.1:8765/v1/realtime?fault=drop:5&fault=late-0.5@response.created

`Peer.fault` arms one that strikes once, on whichever connection comes first. There,
``@now`` as *EVENT* needs no event: ``drop@now`` breaks all open connections at once.
It goes with ``drop``, ``close``, ``stall``, ``malformed``, ``binary``, ``unknown``,
``error`` and ``beta``; what needs an event to spoil spoils one that nobody knows.

=========================  =====================================  ====================
fault                      what happens                           EVENT if none is given
=========================  =====================================  ====================
``drop``                   the connection breaks, without a       response.output_audio.delta
                           close frame, instead of the event
``close-CODE``             the peer closes with CODE (1000,       response.output_audio.delta
                           1001, 1011 …) instead of the event
``stall``                  this event and all after it are never  response.output_audio.delta
                           sent; the connection stays open
``malformed``              the event's JSON is cut in the middle  response.output_audio.delta
``binary``                 the event comes as a binary frame      response.output_audio.delta
``badbase64``              the event's ``delta`` is not base64    response.output_audio.delta
``unknown``                an event nobody knows comes before it  response.output_audio.delta
``error[-CODE]``           an ``error`` event comes before it;    response.output_audio.delta
                           some codes end the session, see below
``failed[-CODE]``          the response failed with CODE instead  response.done
                           (or the transcription, if that is
                           EVENT)
``incomplete[-REASON]``    the response is incomplete instead     response.done
``missing``                the event is not sent                  response.done
``late[-SECONDS]``         the event comes late (0.5 s), others   conversation.item.input_
                           overtake it                            audio_transcription.completed
``twice``                  the event comes twice                  response.done
``beta``                   from here on events have their names   session.created
                           of before GA
``refuse[-STATUS]``        the handshake is refused (503): only
                           in a URL or by call, no EVENT
=========================  =====================================  ====================

*EVENT* is always the name of today, whatever ``beta`` makes of it.

Codes of ``error`` that close the connection too, as the service does, and with what:
`FATAL`. All others leave the session alive: ``rate_limit_exceeded``, ``server_error``,
``response_cancel_not_active`` or whatever text is given.
"""

from __future__ import annotations

import http
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import orjson

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline.effects import JsonObject, as_object

if TYPE_CHECKING:
    from collections.abc import Iterable

FATAL = {
    "session_expired": 1001,
    "invalid_api_key": 3000,
    "account_deactivated": 3000,
    "insufficient_quota": 4000,
    "credit_balance_exhausted": 4000,
    "billing_hard_limit_reached": 4000,
    "beta_api_shape_disabled": 4000,
}
"""Codes of ``error`` events after which the peer closes, and its close code."""

_AUDIO = "response.output_audio.delta"
_DONE = "response.done"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
_EVENTS = {
    **dict.fromkeys(("drop", "close", "stall", "malformed", "binary"), _AUDIO),
    **dict.fromkeys(("badbase64", "unknown", "error"), _AUDIO),
    **dict.fromkeys(("failed", "incomplete", "missing", "twice"), _DONE),
    "late": f"{_TRANSCRIPTION}.completed",
    "beta": "session.created",
    "refuse": "",
}
_ARGUMENTS = {
    "close": "1011",
    "error": "server_error",
    "failed": "server_error",
    "incomplete": "max_output_tokens",
    "late": "0.5",
    "refuse": "503",
}
NOW = "now"
"""In the place of an event: at once."""

_AT_ONCE = frozenset(
    ("drop", "close", "stall", "malformed", "binary", "unknown", "error", "beta")
)
_REFUSALS = [status for status in http.HTTPStatus if status >= 400]
_SYNTAX = re.compile(
    r"(?P<kind>[a-z0-9]+)(?:-(?P<argument>[\w.]+))?"
    r"(?:@(?P<event>\*|[a-z_.]+))?(?::(?P<count>[1-9]\d*))?"
)

_BETA = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": None,
}
"""The names before GA; ``None`` for events that there were not."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and where it strikes."""

    kind: str
    argument: str = ""
    event: str = ""
    """The type of event at which it strikes, ``*`` for any, or `NOW`."""
    count: int = 1
    """At which event of that type, from 1."""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """
        Read a fault, as the module describes it.

        Raises:
            InvalidConfiguration: If there is no such fault.
        """
        match = _SYNTAX.fullmatch(text.strip())
        if match is None or match["kind"] not in _EVENTS:
            kinds = ", ".join(_EVENTS)
            message = f"no such fault: {text!r}; write KIND[-ARGUMENT][@EVENT][:N] "
            raise InvalidConfiguration(f"{message}with KIND one of {kinds}")
        kind = match["kind"]
        argument = match["argument"] or _ARGUMENTS.get(kind, "")
        _check_argument(text, kind, argument)
        event = match["event"] or _EVENTS[kind]
        if event == NOW and (kind not in _AT_ONCE or match["count"]):
            kinds = ", ".join(sorted(_AT_ONCE))
            raise InvalidConfiguration(f"{text!r}: only {kinds} can strike now, once")
        return cls(kind, argument, event, int(match["count"] or 1))


def _check_argument(text: str, kind: str, argument: str) -> None:
    """Refuse a number that is none, or a close code that cannot be sent."""
    try:
        number = float(argument) if kind in ("close", "late", "refuse") else 0.0
    except ValueError:
        raise InvalidConfiguration(f"{text!r}: {argument!r} is no number") from None
    if kind == "refuse" and number not in _REFUSALS:
        raise InvalidConfiguration(f"{text!r}: the status must be one from 400 to 599")
    if kind == "close" and number not in (1000, 1001, 1011, *range(3000, 5000)):
        allowed = "1000, 1001, 1011 or 3000 to 4999"
        raise InvalidConfiguration(f"{text!r}: the close code must be {allowed}")


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes, as a text frame unless *binary*; after *delay* seconds."""

    data: bytes = field(repr=False)
    binary: bool = False
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Drop:
    """Break the connection."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in good order."""

    code: int
    reason: str = ""


Act: TypeAlias = Send | Drop | Close


@dataclass(slots=True)
class _Armed:
    """A fault that waits for its event."""

    fault: Fault
    seen: int = 0

    def strikes(self, event_type: str) -> bool:
        """Count an event of that type; whether it is the one."""
        if self.fault.event not in (event_type, "*"):
            return False
        self.seen += 1
        return self.seen == self.fault.count


class Faults:
    """What becomes of each event that the peer sends on one connection, or on any."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._armed = [_Armed(fault) for fault in faults]

    def arm(self, fault: Fault) -> None:
        """Have *fault* strike, its count beginning now."""
        self._armed.append(_Armed(fault))

    def due(self, event_type: str) -> list[Fault]:
        """Count an event and return the faults that strike at it; they are spent."""
        struck = [armed for armed in self._armed if armed.strikes(event_type)]
        for armed in struck:
            self._armed.remove(armed)
        return [armed.fault for armed in struck]

    def take_refusal(self) -> int | None:
        """Return the status to refuse a handshake with, if one is armed; it is spent."""
        for armed in self._armed:
            if armed.fault.kind == "refuse":
                self._armed.remove(armed)
                return int(armed.fault.argument)
        return None


class Wire:
    """
    Turns events into what really happens on one connection.

    Args:
        mine: The faults of this connection.
        shared: Those of the whole peer.
    """

    def __init__(self, mine: Faults, shared: Faults) -> None:
        self._sources = (mine, shared)
        self._stalled = False
        self._beta = False

    def send(self, event: JsonObject) -> list[Act]:
        """Return what to do in order to send *event*, or not to."""
        kind = str(event["type"])
        faults = [fault for source in self._sources for fault in source.due(kind)]
        acts: list[Act] = [Send(data) for data in self._encode(event)]
        for fault in faults:
            acts = self._strike(fault, event, acts)
        return self._let_through(acts)

    def strike(self, fault: Fault) -> list[Act]:
        """Return what to do in order to have *fault* strike now."""
        spoilt = _unknown() if fault.kind in ("malformed", "binary") else []
        acts = self._strike(fault, _UNKNOWN, spoilt)
        return self._let_through(acts)

    def _let_through(self, acts: list[Act]) -> list[Act]:
        """Hold back what is sent after a stall; the connection can still break."""
        return [act for act in acts if not (self._stalled and isinstance(act, Send))]

    def _strike(self, fault: Fault, event: JsonObject, acts: list[Act]) -> list[Act]:
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
                return [Send(data) for data in self._encode(event)] if acts else []
            case "missing":
                return []
            case "twice":
                return acts * 2
            case "unknown":
                return [*_unknown(), *acts]
            case "error":
                return _error(fault.argument, acts)
            case _:
                return [_change(fault, event, act) for act in acts]

    def _encode(self, event: JsonObject) -> list[bytes]:
        if self._beta:
            name = _BETA.get(str(event["type"]), event["type"])
            event = {**event, "type": name}
        return [orjson.dumps(event)] if event["type"] else []


def _change(fault: Fault, event: JsonObject, act: Act) -> Act:
    """Return *act* with another content, form or time."""
    if not isinstance(act, Send):
        return act
    match fault.kind:
        case "malformed":
            return Send(act.data[: len(act.data) // 2])
        case "binary":
            return Send(act.data, binary=True)
        case "badbase64":
            return Send(orjson.dumps({**event, "delta": "*** not base64 ***"}))
        case "late":
            return Send(act.data, delay=float(fault.argument))
        case "failed" if event["type"] == f"{_TRANSCRIPTION}.completed":
            return Send(orjson.dumps(_untranscribed(fault, event)))
        case _:
            return Send(orjson.dumps(_unsuccessful(fault, event)))


def _untranscribed(fault: Fault, event: JsonObject) -> JsonObject:
    """Return what comes in place of a transcript."""
    message = f"The transcription failed, as was asked for: {fault.argument}."
    error = {"type": "server_error", "code": fault.argument, "message": message}
    ids = {key: event[key] for key in ("event_id", "item_id", "content_index")}
    return {"type": f"{_TRANSCRIPTION}.failed", **ids, "error": error}


def _unsuccessful(fault: Fault, event: JsonObject) -> JsonObject:
    """Return a ``response.done`` that tells of no success."""
    details: JsonObject = {"type": fault.kind}
    if fault.kind == "failed":
        message = f"The response failed, as was asked for: {fault.argument}."
        error = {"type": "server_error", "code": fault.argument, "message": message}
        details["error"] = error
    else:
        details["reason"] = fault.argument
    told = {"status": fault.kind, "status_details": details}
    return {**event, "response": {**as_object(event.get("response")), **told}}


_UNKNOWN: JsonObject = {
    "type": "peer.unknown_event",
    "event_id": "event_unknown",
    "value": 42,
}


def _unknown() -> list[Act]:
    return [Send(orjson.dumps(_UNKNOWN))]


def _error(code: str, acts: list[Act]) -> list[Act]:
    event = orjson.dumps(error_event(code))
    if code in FATAL:
        return [Send(event), Close(FATAL[code], code)]
    return [Send(event), *acts]


def error_event(code: str, message: str = "") -> JsonObject:
    """Return the ``error`` event of a code that no client event is to blame for."""
    known = {"session_expired": "Your session hit the maximum duration of 60 minutes."}
    told = message or known.get(code, f"An error, as was asked for: {code}.")
    kind = "server_error" if code == "server_error" else "invalid_request_error"
    error = {
        "type": kind,
        "code": code,
        "message": told,
        "param": None,
        "event_id": None,
    }
    return {"type": "error", "event_id": "event_fault", "error": error}
