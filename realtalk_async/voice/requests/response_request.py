"""A request for a response that the app can await."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from realtalk_async.voice.events import Outcome
    from realtalk_async.voice.protocol.responses import Request, Responses


class ResponseRequest:
    """
    A request for a response; await it for the outcome of the response that belongs to it.

    Each request has its own outcome, in whatever order requests and responses of the
    service's own follow each other:

    - A request waits while another response is under way, or while there is no
      connection; a request that the service refuses because of another response is sent
      again.
    - If the response only calls tools, the outcome is that of the response that follows
      their results.
    - An interrupted response is ``cancelled``. If the connection is lost after the
      request was sent, the outcome is ``lost``: the conversation is replayed, the
      request is not repeated. Failed and stalled responses are outcomes likewise.
    - If the service refuses the message that was sent with the request, or refuses the
      request for as long as a response may stall, the outcome is ``failed`` with the
      words of the service, and the response to it is cancelled.
    - If the user breaks in while tools work for it, and they are cancelled, so is it.

    It may be awaited several times, by several tasks, or not at all. `outcome` and
    `done` tell its state without waiting.
    """

    def __init__(
        self, request: Request, wait: Callable[[Request], Awaitable[Outcome]]
    ) -> None:
        self._request = request
        self._wait = wait

    def __await__(self) -> Generator[object, None, Outcome]:
        """
        Wait for the end of the response.

        Raises:
            ClosedStream: If the session has ended, or ends before.

        Cancellation: Safe; the request remains.
        """
        return self._wait(self._request).__await__()

    @property
    def outcome(self) -> Outcome | None:
        """How the response ended; ``None`` if it has not."""
        return self._request.outcome

    def done(self) -> bool:
        """Return whether the response has ended."""
        return self._request.outcome is not None

    def __repr__(self) -> str:
        state = self._request.outcome or self._request.state.value
        return f"<ResponseRequest {state}>"


_last_request: ContextVar[tuple[Responses | None, Request | None]] = ContextVar(
    "_last_request", default=(None, None)
)
"""The last request of a task, and the session to which it belongs."""


def note_request(responses: Responses) -> None:
    """Note the last request of a session as that of the calling task."""
    _last_request.set((responses, responses.latest))


def request_of_task(responses: Responses) -> Request | None:
    """Return the last request of the calling task, until it has the outcome."""
    owner, request = _last_request.get()
    if owner is not responses or request is None:
        return None
    is_old = request.outcome is not None and responses.latest is not None
    return None if is_old or request.is_handed_out else request
