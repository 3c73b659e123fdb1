"""
Which responses are under way, how the others ended, and which one the app waits for. Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.voice.events import Outcome, Status
from realtalk_async.voice.protocol.playback import Part

if TYPE_CHECKING:
    from collections.abc import Iterator


_REMEMBERED = 256  # ended responses of which late events may still come
_PAUSE = (
    0.5  # seconds before a question is asked again that a response unknown to us bars
)


@dataclass(slots=True)
class Response:
    """A response that is under way."""

    response_id: str
    started_at: float
    last_at: float
    """When something of it came last."""
    items: list[str] = field(default_factory=list[str])
    """The items that it consists of, in order."""
    audio: dict[Part, int] = field(default_factory=dict[Part, int])
    """Bytes that came of each part."""
    first_output_at: float | None = None
    interrupted_at: float | None = None
    announced: dict[str, tuple[str, str]] = field(
        default_factory=dict[str, tuple[str, str]]
    )
    """Items that are calls, whose arguments may still come: call id and tool."""
    calls: dict[str, str] = field(default_factory=dict[str, str])
    """The tools that it called, by the id of the call."""

    def consists_of(self, item_id: str) -> None:
        """Note that *item_id* is a part of it."""
        if item_id and item_id not in self.items:
            self.items.append(item_id)


class Responses:
    """
    The book of responses: each begins once and ends once.

    Args:
        stall_after: Seconds without a word after which a response is given up.
        cancel_grace: Seconds that the service has to confirm an interruption.
    """

    def __init__(self, *, stall_after: float, cancel_grace: float) -> None:
        self.outcomes: list[Outcome] = []
        """How each response ended, in the order of their ends."""
        self.counts = Counter[str]()
        """How many ended in which way."""
        self.asked_at: float | None = None
        """When a response was asked for that has not begun; ``None`` if there is none."""
        self.ask_again = False
        """The last question came too early, and is to be asked again."""
        self._ask_again_at = 0.0
        self._stall_after = stall_after
        self._cancel_grace = cancel_grace
        self._under_way: dict[str, Response] = {}
        self._ended: dict[str, None] = {}
        self._awaited: int | None = None

    # --- Under way ----------------------------------------------------------------

    def __iter__(self) -> Iterator[Response]:
        """Yield those under way; they may end meanwhile."""
        return iter(list(self._under_way.values()))

    @property
    def responding(self) -> bool:
        """Whether a response is under way, or has been asked for."""
        return bool(self._under_way) or self.asked_at is not None

    @property
    def newest(self) -> str:
        """The id of the response that began last; empty if none is under way."""
        return next(reversed(self._under_way), "")

    def has_ended(self, response_id: str) -> bool:
        """Return whether a response of that id is over; nothing of it is wanted then."""
        return response_id in self._ended

    def get(self, response_id: str) -> Response | None:
        """Return the response under way of that id, if there is one."""
        return self._under_way.get(response_id)

    def begin(self, response_id: str, now: float) -> Response:
        """Begin a response; if one was asked for, this is it."""
        if self.ask_again and self._awaited is not None:
            self._awaited += 1  # it comes before the one that was asked for
        self.asked_at = None
        response = self._under_way[response_id] = Response(response_id, now, now)
        return response

    def end(
        self, response: Response, status: Status, text: str, reason: str, now: float
    ) -> Outcome:
        """End a response that is under way."""
        del self._under_way[response.response_id]
        self._ask_again_at = now
        self._ended[response.response_id] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        times = (response.started_at, response.first_output_at, now)
        calls = tuple(response.calls.values())
        return self._note(
            Outcome(response.response_id, status, text, reason, *times, calls)
        )

    def end_asked(self, status: Status, reason: str, now: float) -> Outcome:
        """End a response that was asked for and never began."""
        asked_at = now if self.asked_at is None else self.asked_at
        self.asked_at = None
        return self._note(Outcome("", status, "", reason, asked_at, None, now))

    def decline(self, reason: str, now: float) -> Outcome:
        """End at once what the app will wait for: there is nothing to be asked."""
        self._awaited = len(self.outcomes)
        return self._note(Outcome("", Status.CANCELLED, "", reason, now, None, now))

    def _note(self, outcome: Outcome) -> Outcome:
        self.outcomes.append(outcome)
        self.counts[str(outcome.status)] += 1
        return outcome

    # --- Giving up ----------------------------------------------------------------

    def gives_up_at(self, response: Response) -> float:
        """Return when a response is given up unless something of it comes."""
        if response.interrupted_at is not None:
            return response.interrupted_at + self._cancel_grace
        return response.last_at + self._stall_after

    @property
    def asked_until(self) -> float | None:
        """When the response that was asked for is given up."""
        return None if self.asked_at is None else self.asked_at + self._stall_after

    @property
    def deadline(self) -> float | None:
        """When the first of all these is given up; ``None`` if there is none."""
        times = [self.gives_up_at(response) for response in self]
        if self.asked_until is not None:
            times.append(self.asked_until)
        if self.ask_again and not self.responding:
            times.append(self._ask_again_at)
        return min(times, default=None)

    @property
    def stalled_for(self) -> str:
        """Why a response stalled, in words."""
        return f"nothing more came for {self._stall_after:g} s"

    # --- Which one the app waits for ----------------------------------------------

    @property
    def awaited(self) -> int:
        """
        The index in `outcomes` of the response that the app waits for.

        That is the last one it asked for, if it was not yet handed out; else the one
        that is under way, or the next.
        """
        return len(self.outcomes) if self._awaited is None else self._awaited

    @property
    def asked_for(self) -> int:
        """The index in `outcomes` of the response last asked for; -1 if none is due."""
        return -1 if self._awaited is None else self._awaited

    def will_ask(self, questions_before: int) -> None:
        """Note that the app asks, with so many questions of its own still waiting."""
        under_way = len(self._under_way) + (self.asked_at is not None)
        before = len(self.outcomes) + under_way + questions_before + self.ask_again
        self._awaited = before

    def postpone(self, now: float, *, ask_again: bool) -> None:
        """
        Note that another response came before the one that was asked for.

        We may not know of it: it was not announced yet, or was given up. So the next
        question waits until a response ends, or for half a second.
        """
        self.ask_again = ask_again
        self.asked_at = None
        self._ask_again_at = now + _PAUSE
        if self._awaited is not None and self._under_way:
            self._awaited += 1

    def must_wait(self, now: float) -> bool:
        """Whether it is too early to ask again."""
        return self.ask_again and now < self._ask_again_at

    def follow_up(self) -> None:
        """Note that the response that has just ended will be followed by another one."""
        if self._awaited is not None and self._awaited >= len(self.outcomes):
            self._awaited += 1

    def answer_from(self, index: int) -> int:
        """Return the first index from *index* on whose response is more than a call."""
        while index < len(self.outcomes) and self.outcomes[index].is_mere_call:
            index += 1
        return index

    def handed_out(self, index: int) -> None:
        """Note that the app has seen the outcome of that *index*."""
        if self._awaited is not None and self._awaited <= index:
            self._awaited = None
