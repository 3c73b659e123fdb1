"""The responses of a session and the requests for them: each starts and ends once."""

from __future__ import annotations

import enum
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from realtalk_async.voice.events import Outcome, Status
from realtalk_async.voice.protocol.messages import RESPONSE_ACTIVE
from realtalk_async.voice.protocol.playback import Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from realtalk_async.voice.events import Usage


_REMEMBERED = 256  # ended responses, of which late events may still arrive
_PAUSE = 0.5  # seconds before a request that an unknown response blocked is repeated


class RequestState(enum.Enum):
    """The state of a request for a response."""

    QUEUED = "queued"
    """The request waits for the connection or for the response under way."""
    SENT = "sent"
    """The service got the request and has not started a response."""
    ACTIVE = "active"
    """The service sends the response."""
    TOOLS = "tools"
    """The response called tools; the next response uses their results."""
    ENDED = "ended"
    """The response ended: see `Request.outcome`."""


@dataclass(slots=True, eq=False)
class Request:
    """A request for a response."""

    state: RequestState = RequestState.QUEUED
    outcome: Outcome | None = None
    """How the response ended that belongs to the request."""
    may_call_tools: bool = True
    """Whether the response may call tools; not if a tool asks for it, and waits."""
    refused_at: float | None = None
    """When it was first refused because of a response that is unknown here."""
    item_id: str = ""
    """The message that was sent with the request; empty if there is none."""
    is_handed_out: bool = False
    """Whether the app has got the outcome."""


class ResponseState(enum.Enum):
    """The state of a response that has not ended."""

    ACTIVE = "active"
    INTERRUPTED = "interrupted"
    """Cancelled; its remaining events are ignored until the service confirms."""


@dataclass(slots=True)
class Response:
    """A response that has not ended."""

    response_id: str
    started_at: float
    last_at: float
    """When its last event arrived, or when it was interrupted."""
    requests: list[Request] = field(default_factory=list[Request])
    """The requests that it answers; none if the service started it by itself."""
    state: ResponseState = ResponseState.ACTIVE
    items: list[str] = field(default_factory=list[str])
    """The ids of its items, in order."""
    audio: dict[Part, int] = field(default_factory=dict[Part, int])
    """Number of received bytes of each part."""
    first_output_at: float | None = None
    announced: dict[str, tuple[str, str]] = field(
        default_factory=dict[str, tuple[str, str]]
    )
    """Items that are tool calls: call id and tool name, by item id."""
    calls: dict[str, str] = field(default_factory=dict[str, str])
    """The tools that it called, by call id."""

    def add_item(self, item_id: str) -> None:
        """Add an item, once."""
        if item_id and item_id not in self.items:
            self.items.append(item_id)

    def event_received(self, now: float) -> None:
        """Note that an event of the response arrived."""
        if self.state is ResponseState.ACTIVE:
            self.last_at = now

    def interrupt(self, now: float) -> None:
        """Note that the response was cancelled."""
        self.state = ResponseState.INTERRUPTED
        self.last_at = now


class Responses:
    """
    All responses of one session, and the requests that wait for one.

    Args:
        stall_after: Seconds without an event after which a response is given up.
        cancel_grace: Seconds that the service has to confirm an interruption.
        most: How many outcomes are kept, the newest ones.
    """

    def __init__(
        self, *, stall_after: float, cancel_grace: float, most: int = 5_000
    ) -> None:
        self.outcomes = deque[Outcome](maxlen=most)
        """How the newest responses ended, in the order of their ends."""
        self.ended = 0
        """Number of responses that have ended."""
        self.counts = Counter[str]()
        """Number of responses by status."""
        self.sent_at: float | None = None
        """When the request in the state SENT was sent; ``None`` if there is none."""
        self.latest: Request | None = None
        """The last request of the app, until the app has got its outcome."""
        self.ended_at = 0.0
        """When the last response ended."""
        self._sent: list[Request] = []
        self._refused: list[Request] = []
        self._after_tools: list[Request] = []
        self._awaits_tools = False
        """Whether the request in the state SENT was sent while tools worked."""
        self._cancel_next = False
        self._repeat_at = 0.0
        self._stall_after = stall_after
        self._cancel_grace = cancel_grace
        self._active: dict[str, Response] = {}
        self._ended: dict[str, None] = {}

    # --- Requests -----------------------------------------------------------------

    def new_request(self, *, may_call_tools: bool = True) -> Request:
        """Return a new request of the app, which `Stream.wait_for_response` awaits."""
        self.latest = Request(may_call_tools=may_call_tools)
        return self.latest

    def request_sent(
        self, now: float, request: Request | None = None, *, tools_work: bool = False
    ) -> None:
        """
        Note that the service was asked for a response.

        The response answers *request*, and every request that the service refused
        before; unless tools still work, also those that wait for their results.
        """
        mine = [] if request is None else [request]
        waiting = [*self._sent, *self._refused]
        if not tools_work:
            waiting += self._after_tools
            self._after_tools = []
        self._sent = [*waiting, *mine] or [Request()]
        self._refused = []
        self._awaits_tools = tools_work
        self.sent_at = now
        _set_state(self._sent, RequestState.SENT)

    def request_refused(self, now: float) -> Outcome | None:
        """
        Note that the service refused a request because another response is active.

        That response may be unknown here: not announced yet, or given up. So the
        request is repeated when a response ends, and after half a second at the
        latest. If the service refuses it for as long as a response may stall, and no
        response starts meanwhile, it ends as failed, with the returned outcome.
        """
        self._refused += self._sent
        for response in self:  # it took the request for its own
            self._refused += response.requests
            response.requests = []
        self._sent, self.sent_at = [], None
        self._repeat_at = now + _PAUSE
        _set_state(self._refused, RequestState.QUEUED)
        for request in self._refused:
            request.refused_at = (
                now if request.refused_at is None else request.refused_at
            )
        return self._end_blocked(now)

    def _end_blocked(self, now: float) -> Outcome | None:
        since = [r.refused_at for r in self._refused if r.refused_at is not None]
        if not since or now - min(since) < self._stall_after:
            return None
        blocked, self._refused = self._refused, []
        reason = f"{RESPONSE_ACTIVE}: refused for {self._stall_after:g} s"
        outcome = Outcome("", Status.FAILED, "", reason, now, None, now)
        return self._note(outcome, blocked)

    @property
    def may_call_tools(self) -> bool:
        """Whether the response that was requested may call tools."""
        return any(request.may_call_tools for request in self._sent)

    @property
    def must_repeat(self) -> bool:
        """Whether a refused request has to be sent again."""
        return bool(self._refused)

    def repeats_later(self, now: float) -> bool:
        """Return whether it is too early to repeat a refused request."""
        return self.must_repeat and now < self._repeat_at

    def cancel_requested(self, *, owed: bool) -> None:
        """Have the response cancelled that was requested, or is *owed*, and not started."""
        if owed or self.sent_at is not None:
            self.cancel_next()

    def cancel_next(self) -> None:
        """Have the response cancelled that was requested and has not started."""
        self._cancel_next = True

    def first_answer(self, since: int) -> Outcome | None:
        """Return the first outcome after *since* others that is more than a tool call."""
        later = islice(reversed(self.outcomes), self.ended - since)
        answers = [each for each in later if not each.is_mere_call]
        return answers[-1] if answers else None

    def handed_out(self, request: Request | None) -> None:
        """Note that the app has got the outcome of *request*."""
        if request is not None:
            request.is_handed_out = True
        if self.latest is request:
            self.latest = None

    # --- Start and end ------------------------------------------------------------

    def __iter__(self) -> Iterator[Response]:
        """Yield the responses that have not ended; they may end meanwhile."""
        return iter(list(self._active.values()))

    @property
    def responding(self) -> bool:
        """Whether a response is active or requested."""
        return bool(self._active) or self.sent_at is not None

    @property
    def newest(self) -> str:
        """The id of the response that started last; empty if none is active."""
        return next(reversed(self._active), "")

    def has_ended(self, response_id: str) -> bool:
        """Return whether the response of that id has ended."""
        return response_id in self._ended

    def get(self, response_id: str) -> Response | None:
        """Return the response of that id if it has not ended."""
        return self._active.get(response_id)

    def start(
        self, response_id: str, now: float, *, uses_tools: bool = False
    ) -> Response:
        """
        Start a response, which answers the sent request if there is one.

        Args:
            response_id: The id that the service gave.
            now: The time.
            uses_tools: Whether the service had the results of all tools before.
        """
        requests, self._sent, self.sent_at = self._sent, [], None
        before_results, self._awaits_tools = self._awaits_tools, False
        if uses_tools and not before_results:
            requests = [*requests, *self._after_tools]
            self._after_tools = []
        _set_state(requests, RequestState.ACTIVE)
        for request in self._refused:
            request.refused_at = None
        response = Response(response_id, now, now, requests)
        if self._cancel_next:
            self._cancel_next = False
            response.interrupt(now)
        self._active[response_id] = response
        return response

    def end(
        self,
        response: Response,
        status: Status,
        text: str,
        reason: str,
        now: float,
        usage: Usage | None = None,
    ) -> Outcome:
        """End a response."""
        del self._active[response.response_id]
        self._repeat_at = now
        self._ended[response.response_id] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        times = (response.started_at, response.first_output_at, now)
        calls = tuple(response.calls.values())
        about = response.response_id, status, text, reason
        outcome = Outcome(*about, *times, calls, usage)
        if outcome.is_mere_call:
            _set_state(response.requests, RequestState.TOOLS)
            self._after_tools += response.requests
            return self._note(outcome)
        return self._note(outcome, response.requests)

    def end_requested(self, status: Status, reason: str, now: float) -> Outcome:
        """End a response that was requested, or is owed, and has not started."""
        requested_at = now if self.sent_at is None else self.sent_at
        requests, self._sent, self.sent_at = self._sent, [], None
        self._cancel_next = False
        outcome = Outcome("", status, "", reason, requested_at, None, now)
        return self._note(outcome, requests)

    def end_refused(self, item_id: str, reason: str, now: float) -> Outcome | None:
        """
        End the request whose message the service refused, if there is one.

        A requested response that would answer no other request is cancelled when it
        starts.
        """
        for requests in (self._sent, self._refused, *(r.requests for r in self)):
            for request in requests:
                if item_id and request.item_id == item_id:
                    requests.remove(request)
                    outcome = Outcome("", Status.FAILED, "", reason, now, None, now)
                    self._cancel_next |= requests is self._sent and not requests
                    return self._note(outcome, [request])
        return None

    def end_unsent(
        self, request: Request, status: Status, reason: str, now: float
    ) -> Outcome:
        """End *request* without asking the service."""
        outcome = Outcome("", status, "", reason, now, None, now)
        return self._note(outcome, [request])

    def end_after_tools(self, status: Status, reason: str, now: float) -> Outcome:
        """End the response that was to follow the results of tools."""
        requests, self._after_tools = self._after_tools, []
        return self._note(Outcome("", status, "", reason, now, None, now), requests)

    @property
    def has_requests_after_tools(self) -> bool:
        """Whether a request of the app waits for the results of tools."""
        return bool(self._after_tools)

    def called(self, call_id: str) -> bool:
        """Return whether a response that has not ended made the call."""
        return any(call_id in response.calls for response in self)

    def connection_lost(self) -> bool:
        """Return whether a request was lost; then `end_requested` ends it."""
        lost = self.sent_at is not None or self.must_repeat
        self._sent += self._refused
        self._refused = []
        return lost

    def _note(self, outcome: Outcome, requests: Iterable[Request] = ()) -> Outcome:
        self.outcomes.append(outcome)
        self.ended += 1
        self.ended_at = outcome.ended_at
        self.counts[str(outcome.status)] += 1
        for request in requests:
            request.state, request.outcome = RequestState.ENDED, outcome
        return outcome

    # --- Deadlines ----------------------------------------------------------------

    def gives_up_at(self, response: Response) -> float:
        """Return when a response is given up unless an event of it arrives."""
        if response.state is ResponseState.INTERRUPTED:
            return response.last_at + self._cancel_grace
        return response.last_at + self._stall_after

    @property
    def requested_until(self) -> float | None:
        """When the response is given up that was requested and has not started."""
        return None if self.sent_at is None else self.sent_at + self._stall_after

    @property
    def deadline(self) -> float | None:
        """The first of all these times; ``None`` if there is none."""
        times = [self.gives_up_at(response) for response in self]
        if self.requested_until is not None:
            times.append(self.requested_until)
        if self.must_repeat and not self.responding:
            times.append(self._repeat_at)
        return min(times, default=None)

    @property
    def stalled_for(self) -> str:
        """Why a response stalled, for people."""
        return f"nothing more came for {self._stall_after:g} s"


def _set_state(requests: Iterable[Request], state: RequestState) -> None:
    for request in requests:
        request.state = state
