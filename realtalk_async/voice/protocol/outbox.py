"""
What we have to say to the service: under which ids, in which order, and when. Pure.

Texts of the app, the status and the answers of tools wait here while a response is under
way or there is no connection. A new connection is told first what was said before it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.voice.events import Entry
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.decisions import Decision, Send

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import Role, ToolCalled, ToolFinished
    from realtalk_async.voice.protocol.conversation import AnsweredCall, Conversation
    from realtalk_async.voice.protocol.messages import Message
    from realtalk_async.voice.protocol.responses import Responses

_REMEMBERED = 256  # messages of ours that errors may still name


class Sent(NamedTuple):
    """What is remembered of a message of ours, for errors that name it."""

    type: str
    item_id: str = ""


class _Text(NamedTuple):
    """A text of the app that waits to be sent, or only a question."""

    text: str
    """Empty if what it asks about was spoken."""
    role: Role
    trigger_response: bool


class _Call(NamedTuple):
    """A tool that was called: by which item, and on which connection."""

    event: ToolCalled
    item_id: str
    connection: int


class Echoes:
    """
    The items that we created and that the service has not yet told of.

    Most servers keep the id that we gave. One that gives its own is known by the words
    of the item, and its id stands for ours from then on.
    """

    def __init__(self) -> None:
        self._expected: dict[str, str] = {}
        self._ours: dict[str, str] = {}

    def expect(self, item_id: str, text: str) -> None:
        """Note that we created *item_id* with *text*."""
        self._expected[item_id] = text

    def expect_no_more(self) -> None:
        """Note that the connection is gone, and all echoes with it."""
        self._expected.clear()

    def known_as(self, item_id: str) -> str:
        """Return the id under which we know an item: ours, or else the service's."""
        return self._ours.get(item_id, item_id)

    def recognise(self, item_id: str, text: str) -> str:
        """Return the id under which we know an item that says *text*."""
        if item_id in self._ours:
            return self._ours[item_id]
        if item_id in self._expected:
            del self._expected[item_id]
            return item_id
        ours = next((key for key, said in self._expected.items() if said == text), None)
        if ours is None:
            return item_id
        del self._expected[ours]
        self._ours[item_id] = ours
        return ours


class Outgoing:
    """
    Our side of one session, over all its connections.

    Args:
        conversation: What was said so far; what we say is added.
        responses: Which responses are under way; what we ask for is noted.
        echoes: Is told which items of the service will be ours.
        decide: Called with each message that is to be sent now.
    """

    def __init__(
        self,
        conversation: Conversation,
        responses: Responses,
        echoes: Echoes,
        decide: Callable[[Decision], None],
    ) -> None:
        self._conversation = conversation
        self._responses = responses
        self._echoes = echoes
        self._decide = decide
        self._events = 0
        self._items = 0
        self._sent: dict[str, Sent] = {}
        self._texts: deque[_Text] = deque()
        self.status = ""
        """What is told after each finished response; empty for nothing."""
        self._status_items: set[str] = set()
        self._status_due = False
        self._calls: dict[str, _Call] = {}  # of tools that have not answered yet
        self._answers: deque[tuple[_Call, str]] = deque()  # not yet sent
        self._answer_due = False  # an answer was sent, and no response has followed yet
        self._connections = 0
        self._replayed: set[str] = set()

    # --- What waits ---------------------------------------------------------------

    def __len__(self) -> int:
        """How many texts of the app wait to be sent."""
        return len(self._texts)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits: no text, and no tool that has yet to answer."""
        return not self._texts and not self._calls

    @property
    def questions(self) -> int:
        """How many of the texts that wait ask for a response."""
        return sum(text.trigger_response for text in self._texts)

    def queue(self, text: str, role: Role, *, trigger_response: bool) -> None:
        """Have a text sent when it may be."""
        self._texts.append(_Text(text, role, trigger_response))

    def queue_question(self) -> None:
        """Have a response asked for to what was spoken, when it may be."""
        self.queue("", "user", trigger_response=True)

    def called(self, event: ToolCalled, item_id: str) -> None:
        """Note that a tool was called by *item_id*."""
        self._calls[event.call_id] = _Call(event, item_id, self._connections)

    def answered(self, result: ToolFinished) -> bool:
        """Have the answer of a tool sent when it may be; is it still wanted?"""
        call = self._calls.pop(result.call_id, None)
        if call is not None:
            self._answers.append((call, result.output))
        return call is not None

    def response_began(self) -> None:
        """A response has begun: it takes all answers into account."""
        self._answer_due = False

    def response_ended(self) -> None:
        """A response has ended: the status is due."""
        self._status_due = True

    # --- Sending ------------------------------------------------------------------

    def send(self, message: Message, item_id: str = "") -> str:
        """Send *message* now, under a new ``event_id``, which is returned."""
        self._events += 1
        event_id = f"evt_{self._events}"
        self._sent[event_id] = Sent(str(message["type"]), item_id)
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._decide(Send({**message, "event_id": event_id}))
        return event_id

    def audio(self, pcm: bytes) -> Message:
        """Return the message that sends what the microphone heard."""
        self._events += 1
        return {**messages.append_audio(pcm), "event_id": f"evt_{self._events}"}

    def sent(self, event_id: str) -> Sent:
        """Return what is remembered of a message; nothing if it is long ago."""
        return self._sent.get(event_id, Sent(""))

    def send_what_waits(self, now: float) -> None:
        """Send all that had to wait, up to the next question; none is under way."""
        if self._status_due:
            self._send_status()
        while self._answers:
            self._answer(*self._answers.popleft())
        if self._calls or self._responses.must_wait(now):
            return  # one response for all of them
        if self._responses.ask_again or self._answer_due:
            self._responses.ask_again = False
            self._ask(now)
        while self._texts and not self._responses.responding:
            waiting = self._texts.popleft()
            if waiting.text:
                self._create(waiting.role, waiting.text)
            if waiting.trigger_response:
                self._ask(now)

    def _send_status(self) -> None:
        self._status_due = False
        if self.status:
            self._status_items.add(self._create("system", self.status))

    def _create(self, role: Role, text: str) -> str:
        """Send a text under an id of ours, and have it in the conversation at once."""
        item_id = self._new_id()
        self._conversation.add(item_id, role)
        self._conversation.set_text(item_id, 0, text)
        self._conversation.finish(item_id)
        self._send_text(item_id, role, text)
        return item_id

    def _new_id(self) -> str:
        self._items += 1
        return f"item_realtalk_{self._items}"

    def _send_text(self, item_id: str, role: Role, text: str) -> None:
        self.send(messages.create_item(item_id, role, text), item_id)
        self._echoes.expect(item_id, text)

    def _ask(self, now: float) -> None:
        self._responses.asked_at = now
        self.send(messages.create_response())

    def _answer(self, call: _Call, output: str) -> None:
        """Send what a tool answered; a new connection is told of the call first."""
        answered = self._conversation.answer(
            call.item_id, call.event, output, self._new_id()
        )
        if call.connection != self._connections:
            self._send_call(answered)
        self._send_answer(answered)
        self._answer_due = True

    def _send_call(self, call: AnsweredCall) -> None:
        item_id = call.item_id
        message = messages.repeat_call(item_id, call.call_id, call.name, call.arguments)
        self.send(message, item_id)
        self._echoes.expect(item_id, f"function_call {call.call_id}")

    def _send_answer(self, call: AnsweredCall) -> None:
        item_id = call.answer_id
        self.send(messages.answer_call(item_id, call.call_id, call.output), item_id)
        self._echoes.expect(item_id, f"function_call_output {call.call_id}")

    # --- A new connection ---------------------------------------------------------

    def connected(self) -> None:
        """What was sent on the last connection will never be answered."""
        self._connections += 1
        self._echoes.expect_no_more()

    def has_replayed(self, item_id: str) -> bool:
        """Return whether this connection knows an item as text only."""
        return item_id in self._replayed

    def replay(self) -> int:
        """
        Tell a new connection what was said on the earlier ones, as text.

        Interrupted responses are told as they were heard; of the status messages only
        the last, for it has replaced the others. A tool's call comes with its answer;
        one that is not answered yet is told when it is.

        Returns:
            How many messages and answered calls were told.
        """
        history = self._conversation.history()
        statuses = [each.item_id for each in history]
        statuses = [item_id for item_id in statuses if item_id in self._status_items]
        outdated = set(statuses[:-1])
        told = [each for each in history if each.item_id not in outdated]
        self._replayed = {each.item_id for each in told}
        for each in told:
            if isinstance(each, Entry):
                self._send_text(each.item_id, each.role, each.content)
            else:
                self._send_call(each)
                self._send_answer(each)
        return len(told)
