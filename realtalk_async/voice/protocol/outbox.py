"""
What waits to be sent: the app's texts, the status message and the results of tools.

It waits while a response is active or there is no connection. While tools work, texts and
requests of the app are sent, so that the model can speak meanwhile; the results of all tools
have one response. A new connection first gets the conversation so far.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.voice.events import ResponseRequested, ToolLimitReached
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.conversation import IMAGE_ONLY, Entry
from realtalk_async.voice.protocol.history.limits import DEFAULT_LIMITS
from realtalk_async.voice.protocol.history.replay import (
    MOST_SUMMARY,
    cut,
    describe,
    select,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import (
        Outcome,
        ToolCalled,
        ToolFinished,
        VoiceEvent,
    )
    from realtalk_async.voice.protocol.conversation import (
        AnsweredCall,
        Conversation,
        OwnItems,
    )
    from realtalk_async.voice.protocol.history.limits import HistoryLimits
    from realtalk_async.voice.protocol.history.replay import Selection
    from realtalk_async.voice.protocol.messages import Role, SendMessage
    from realtalk_async.voice.protocol.requests.images import Image
    from realtalk_async.voice.protocol.responses import Request, Responses


DEFAULT_TOOL_STEPS = 10
"""How many responses in a row may call tools without an answer."""


class _Text(NamedTuple):
    """A message of the app that waits to be sent, or only a request for a response."""

    text: str
    """Empty for an image without one, and if the request is for a spoken turn."""
    role: Role
    request: Request | None
    image: Image | None = None


class _Result(NamedTuple):
    """The result of a tool that was not sent yet."""

    call: _Call
    output: str
    wants_response: bool = True
    """Whether a response is to be requested that uses it."""


class _Call(NamedTuple):
    """A tool call, its item, and the number of the connection on which it came."""

    event: ToolCalled
    item_id: str
    connection: int


class Replayed(NamedTuple):
    """What a new connection got of the conversation."""

    items: int
    """Number of messages, and of tool calls with their results."""
    left_out: int
    """Number of older ones, for which one message stands."""


class Outbox:
    """
    What one session has to send, over all its connections.

    Args:
        conversation: The conversation so far; sent texts are added.
        responses: The responses under way; requests are noted there.
        own_items: Is told which items the service will confirm.
        send: Called with each message for the service.
        publish: Called with each event for the app.
        max_tool_steps: How many responses in a row may call tools without an answer.
        limits: How much of the conversation a new connection gets.
    """

    def __init__(
        self,
        conversation: Conversation,
        responses: Responses,
        own_items: OwnItems,
        send: SendMessage,
        publish: Callable[[VoiceEvent], None],
        max_tool_steps: int = DEFAULT_TOOL_STEPS,
        limits: HistoryLimits = DEFAULT_LIMITS,
    ) -> None:
        self._conversation = conversation
        self._responses = responses
        self._own_items = own_items
        self._send = send
        self._publish = publish
        self._item_number = 0
        self._texts: deque[_Text] = deque()
        self.status = ""
        """The status message, which follows each finished response; empty for none."""
        self._status_item = ""  # of the last status message
        self._status_due = False
        self._calls: dict[str, _Call] = {}  # of tools that have not returned
        self._results: deque[_Result] = deque()  # not yet sent
        self._max_tool_steps = max_tool_steps
        self._tool_steps = 0  # responses in a row that called tools
        self._calling = ""  # the last response that called a tool
        self._result_sent = False  # and no response has started since
        self._connection = 0
        self._replayed: set[str] = set()
        self._limits = limits

    # --- Texts, status, results of tools ------------------------------------------

    @property
    def queued_texts(self) -> int:
        """Number of texts that wait to be sent."""
        return len(self._texts)

    @property
    def is_idle(self) -> bool:
        """Whether no text waits and no tool runs."""
        return not self._texts and not self._calls

    @property
    def running_calls(self) -> tuple[str, ...]:
        """The ids of the calls whose tools have not returned."""
        return tuple(self._calls)

    @property
    def awaits_answer(self) -> bool:
        """Whether the results of tools still get a response."""
        wanted = any(result.wants_response for result in self._results)
        return bool(self._calls) or self._result_sent or wanted

    def queue(
        self,
        text: str,
        role: Role,
        request: Request | None,
        image: Image | None = None,
    ) -> None:
        """Send a message, then *request*, as soon as no response is active."""
        self._texts.append(_Text(text, role, request, image))

    def queue_request(self, request: Request) -> None:
        """Request a response to a spoken turn as soon as no response is active."""
        self._texts.append(_Text("", "user", request))

    def tool_called(self, event: ToolCalled, item_id: str, response_id: str) -> bool:
        """
        Note that an item of a response calls a tool; return whether it may run.

        If there were too many calls in a row without an answer, the service gets an error
        instead of a result, and is asked for a response without tools; if that calls
        tools again, it is asked no more.
        """
        call = _Call(event, item_id, self._connection)
        if response_id != self._calling:
            self._tool_steps, self._calling = self._tool_steps + 1, response_id
        if self._tool_steps <= self._max_tool_steps:
            self._calls[event.call_id] = call
            return True
        limit = f"no more than {self._max_tool_steps} responses in a row may call tools"
        error = f"error: {limit}: answer now, without tools"
        is_first = self._tool_steps == self._max_tool_steps + 1
        self._results.append(_Result(call, error, wants_response=is_first))
        self._publish(ToolLimitReached(event.call_id, event.name, self._max_tool_steps))
        return False

    def turn_started(self) -> None:
        """Note that the user speaks: calls of tools are counted anew."""
        self._tool_steps = 0

    def tool_finished(self, result: ToolFinished) -> bool:
        """Queue the result of a tool; return whether the service waits for it."""
        call = self._calls.pop(result.call_id, None)
        if call is not None:
            wanted = not result.cancelled
            self._results.append(_Result(call, result.output, wants_response=wanted))
        return call is not None

    def response_started(self) -> bool:
        """Return whether the response that starts uses the results of all tools."""
        has_results, self._result_sent = self._result_sent, False
        return has_results and not self._calls

    def response_ended(self, outcome: Outcome) -> None:
        """Note that the status message is due, and whether tools have their answer."""
        self._status_due = True
        if not outcome.calls and not self.awaits_answer:
            self._tool_steps = 0

    def send_queued(self, now: float) -> None:
        """Send the queued messages, up to the next request; no response is active."""
        if self._status_due:
            self._send_status()
        while self._results:
            self._send_result(self._results.popleft())
        if self._responses.repeats_later(now):
            return
        has_results = self._result_sent and not self._calls
        if self._responses.must_repeat or has_results:
            self._send_request(now)
        while self._texts and not self._responses.responding:
            waiting = self._texts.popleft()
            item_id = ""
            if waiting.text or waiting.image:
                item_id = self._create(waiting.role, waiting.text, waiting.image)
            if waiting.request is not None:
                waiting.request.item_id = item_id
                self._send_request(now, waiting.request)

    def _send_request(self, now: float, request: Request | None = None) -> None:
        self._responses.request_sent(now, request, tools_work=bool(self._calls))
        in_bounds = self._tool_steps <= self._max_tool_steps
        tools = in_bounds and self._responses.may_call_tools
        self._send(messages.create_response(tools=tools))
        self._publish(ResponseRequested())

    def _send_status(self) -> None:
        self._status_due = False
        if self.status:
            self._conversation.replace(self._status_item)
            self._status_item = self._create("system", self.status)

    def _create(self, role: Role, text: str, image: Image | None = None) -> str:
        """Send a message under an id of the client; add it to the conversation."""
        item_id = self._new_id()
        self._conversation.add(item_id, role)
        self._conversation.set_text(item_id, 0 if image is None else 1, text)
        if image is not None:
            self._conversation.attach(item_id, image)
        self._conversation.finish(item_id)
        self._send_text(item_id, role, text, image)
        return item_id

    def _new_id(self) -> str:
        self._item_number += 1
        return f"item_realtalk_{self._item_number}"

    def _send_text(
        self, item_id: str, role: Role, text: str, image: Image | None
    ) -> None:
        self._send(messages.create_item(item_id, role, text, image), item_id)
        self._own_items.expect(item_id, text or IMAGE_ONLY)

    def _send_result(self, result: _Result) -> None:
        """Send the result of a tool; a newer connection gets the call first."""
        call, output = result.call, result.output
        answered = self._conversation.answer(
            call.item_id, call.event, output, self._new_id()
        )
        if call.connection != self._connection:
            self._replay_call(answered)
        self._replay_result(answered)
        self._result_sent = self._result_sent or result.wants_response

    # --- A new connection ---------------------------------------------------------

    def select(self) -> Selection:
        """Return what a new connection gets of the conversation so far, and the rest."""
        history = self._conversation.history()
        return select(history, self._limits, self._status_item)

    def replay(self, summary: str = "") -> Replayed:
        """
        Send the conversation so far to a new connection, as text and the newest images.

        Of a long conversation it gets the newest part, see `HistoryLimits`; *summary*, or
        a line that tells their number, stands for the older messages.

        An interrupted response is sent as far as it was heard; of the status messages
        only the last, which replaced the others. A tool call is sent with its result;
        a call without one is sent when the tool returns.

        Returns:
            The numbers of messages, and of tool calls with their results.
        """
        self._connection += 1
        self._own_items.clear_expected()
        replayed, older = self.select()
        dropped = self._conversation.dropped
        if older or dropped:
            text = cut(summary.strip(), MOST_SUMMARY) or describe(older, dropped)
            item_id = self._new_id()
            self._conversation.add(item_id, "system")
            self._conversation.delete(item_id)  # it is not part of the conversation
            self._send_text(item_id, "system", text, None)
        self._replayed = {item.item_id for item in replayed}
        for item in replayed:
            if isinstance(item, Entry):
                said, image = self._conversation.to_replay(item.item_id)
                text = item.content if said else ""  # which may be cut
                self._send_text(item.item_id, item.role, text, image)
            else:
                self._replay_call(item)
                self._replay_result(item)
        return Replayed(len(replayed), len(older) + dropped)

    def has_replayed(self, item_id: str) -> bool:
        """Return whether this connection knows an item as text only."""
        return item_id in self._replayed

    def _replay_call(self, call: AnsweredCall) -> None:
        item_id = call.item_id
        message = messages.repeat_call(item_id, call.call_id, call.name, call.arguments)
        self._send(message, item_id)
        self._own_items.expect(item_id, f"function_call {call.call_id}")

    def _replay_result(self, call: AnsweredCall) -> None:
        item_id = call.answer_id
        self._send(messages.answer_call(item_id, call.call_id, call.output), item_id)
        self._own_items.expect(item_id, f"function_call_output {call.call_id}")
