"""
The faults that the offline peer can inject: their table, their syntax, their listing.

``python -m realtalk_async.offline --list-faults`` prints the table.
"""

from __future__ import annotations

import http
import re
from dataclasses import dataclass
from textwrap import fill, indent

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration

CLOSE_CODES = {
    "session_expired": 1001,
    "invalid_api_key": 3000,
    "account_deactivated": 3000,
    "insufficient_quota": 4000,
    "credit_balance_exhausted": 4000,
    "billing_hard_limit_reached": 4000,
    "beta_api_shape_disabled": 4000,
}
"""Codes of ``error`` events after which the peer closes, and its close codes."""

AUDIO_DELTA = "response.output_audio.delta"
RESPONSE_DONE = "response.done"
TRANSCRIPTION = "conversation.item.input_audio_transcription"

NOW = "now"
"""In place of an event: at once."""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One row of the table of faults."""

    syntax: str
    """The kind and its argument, ``close-CODE``; brackets enclose an optional argument."""
    effect: str
    """The effect that the client sees."""
    stream: str
    """The reaction of a `realtalk_async.Stream`."""
    event: str = AUDIO_DELTA
    """The event that triggers the fault if the fault names none."""
    argument: str = ""
    """The default of the argument."""
    at_once: bool = False
    """Whether ``@now`` is allowed."""


_RECONNECTS = (
    "ConnectionLost; the response is lost; it reconnects and replays the conversation"
)

FAULT_KINDS = {
    "drop": FaultKind(
        "drop",
        "the connection breaks without a close frame, in place of the event",
        _RECONNECTS,
        at_once=True,
    ),
    "close": FaultKind(
        "close[-CODE]",
        "the peer closes with CODE (1000, 1001, 1011, 3000 to 4999), in place of the event",
        _RECONNECTS,
        argument="1011",
        at_once=True,
    ),
    "stall": FaultKind(
        "stall",
        "the event and all later events are not sent; the connection stays open and "
        "answers pings",
        "the response is stalled; it checks the connection and reconnects",
        at_once=True,
    ),
    "malformed": FaultKind(
        "malformed",
        "the JSON of the event is cut in the middle",
        "ProtocolProblem; it goes on",
        at_once=True,
    ),
    "binary": FaultKind(
        "binary",
        "the event comes in a binary frame",
        "it reads the event",
        at_once=True,
    ),
    "badbase64": FaultKind(
        "badbase64",
        "the `delta` of the event is not base64",
        "ProtocolProblem; it goes on",
    ),
    "unknown": FaultKind(
        "unknown",
        "an event of an unknown type comes before the event",
        "UnknownEvent with the data; it goes on",
        at_once=True,
    ),
    "error": FaultKind(
        "error[-CODE]",
        "an `error` event comes before the event; some codes close the connection (below)",
        "ServiceError; it reconnects after session_expired, ends with ServiceRefused "
        "after the other codes below, goes on after all others",
        argument="server_error",
        at_once=True,
    ),
    "failed": FaultKind(
        "failed[-CODE]",
        "the response fails with CODE; so does a transcription if the event is its own",
        "the response is failed; the codes below end the session",
        RESPONSE_DONE,
        "server_error",
    ),
    "incomplete": FaultKind(
        "incomplete[-REASON]",
        "the response is incomplete for REASON: max_output_tokens, content_filter",
        "the response is incomplete",
        RESPONSE_DONE,
        "max_output_tokens",
    ),
    "missing": FaultKind(
        "missing",
        "the event is not sent",
        "the response is stalled",
        RESPONSE_DONE,
    ),
    "late": FaultKind(
        "late[-SECONDS]",
        "the event is sent SECONDS later, after events that follow it",
        "it puts the transcript at its place in the conversation",
        f"{TRANSCRIPTION}.completed",
        "0.5",
    ),
    "twice": FaultKind(
        "twice",
        "the event is sent twice",
        "it uses the event once",
        RESPONSE_DONE,
    ),
    "beta": FaultKind(
        "beta",
        "from the event on, events have their names of before GA",
        "it reads these names",
        "session.created",
        at_once=True,
    ),
    "refuse": FaultKind(
        "refuse[-STATUS]",
        "the handshake is refused with STATUS, 400 to 599; it takes no event",
        "it tries again, or ends with the reason",
        event="",
        argument="503",
    ),
}
"""All kinds of faults."""

_REFUSALS = [status for status in http.HTTPStatus if status >= 400]
_CLOSE_CODES_ALLOWED = (1000, 1001, 1011, *range(3000, 5000))
_SYNTAX = re.compile(
    r"(?P<kind>[a-z0-9]+)(?:-(?P<argument>[\w.]+))?"
    r"(?:@(?P<event>\*|[a-z_.]+))?(?::(?P<count>[1-9]\d*))?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A fault and the event that triggers it.

    Raises:
        InvalidConfiguration: If there is no such fault.
    """

    kind: str
    argument: str = ""
    event: str = ""
    """The type of the event, ``*`` for any type, or `NOW`."""
    count: int = 1
    """Which event of that type, from 1."""

    def __post_init__(self) -> None:
        arguments.choice("kind", self.kind, FAULT_KINDS)
        arguments.text("argument", self.argument)
        arguments.text("event", self.event)
        arguments.integer("count", self.count, minimum=1)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """
        Read ``KIND[-ARGUMENT][@EVENT][:N]``, see `describe_faults`.

        Raises:
            InvalidConfiguration: If there is no such fault.
        """
        arguments.text("text", text)
        match = _SYNTAX.fullmatch(text.strip())
        if match is None or match["kind"] not in FAULT_KINDS:
            kinds = ", ".join(FAULT_KINDS)
            message = f"no such fault: {text!r}; write KIND[-ARGUMENT][@EVENT][:N] "
            raise InvalidConfiguration(f"{message}with KIND one of {kinds}")
        name = match["kind"]
        kind = FAULT_KINDS[name]
        argument = match["argument"] or kind.argument
        _check_argument(text, name, argument)
        event = match["event"] or kind.event
        if event == NOW and (not kind.at_once or match["count"]):
            message = f"{text!r}: @{NOW} takes no count and is allowed only with "
            raise InvalidConfiguration(f"{message}{_kinds_at_once()}")
        return cls(name, argument, event, int(match["count"] or 1))


def _check_argument(text: str, kind: str, argument: str) -> None:
    try:
        number = float(argument) if kind in ("close", "late", "refuse") else 0.0
    except ValueError:
        raise InvalidConfiguration(f"{text!r}: {argument!r} is no number") from None
    if kind == "refuse" and number not in _REFUSALS:
        raise InvalidConfiguration(f"{text!r}: the status must be one from 400 to 599")
    if kind == "close" and number not in _CLOSE_CODES_ALLOWED:
        allowed = "1000, 1001, 1011 or 3000 to 4999"
        raise InvalidConfiguration(f"{text!r}: the close code must be {allowed}")


def _kinds_at_once() -> str:
    return ", ".join(sorted(name for name, kind in FAULT_KINDS.items() if kind.at_once))


def describe_faults() -> str:
    """Return the table of faults as text for a terminal, 88 columns wide."""
    rows = [_describe(kind) for kind in FAULT_KINDS.values()]
    codes = [f"    {code} (closes with {CLOSE_CODES[code]})" for code in CLOSE_CODES]
    return "\n\n".join([_INTRODUCTION, *rows, "\n".join([_CODES, *codes])])


def _describe(kind: FaultKind) -> str:
    lines = [f"client: {kind.effect}", f"Stream: {kind.stream}"]
    trigger = f"   at {kind.event}" if kind.event else ""
    default = f"   default {kind.argument}" if kind.argument else ""
    details = "\n".join(map(_fill, lines))
    return f"{kind.syntax}{trigger}{default}\n{indent(details, '    ')}"


def _fill(text: str) -> str:
    return fill(text, 84, subsequent_indent="        ", break_on_hyphens=False)


_INTRODUCTION = f"""\
A fault is written KIND[-ARGUMENT][@EVENT][:N]. The N-th event (default: the first) of
type EVENT that the peer is about to send triggers it; * is any type. EVENT is always
the GA name. Examples: drop:5, late-0.5@response.created, close-1001@*:9.

On the command line (--fault drop:5), in Peer(faults=…) and in the URL of a connection
(ws://HOST:PORT/v1/realtime?fault=drop:5&fault=late-1@response.done) it is injected on
each such connection. Peer.fault("drop:5") injects it once, on the connection that
triggers it first. There, @now needs no event: drop@now breaks all open connections at
once. It is allowed with {_kinds_at_once()}.

For each kind: the default EVENT, what the client receives, and what a
realtalk_async.Stream does then."""

_CODES = """\
Codes of `error` that close the connection; a Stream reconnects only after the first:"""
