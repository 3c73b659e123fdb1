"""Handlers of the service's events about responses: start, content, tool calls, end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events
from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.connection_state import is_due
from realtalk_async.voice.protocol.cost.session_cost import response_usage
from realtalk_async.voice.protocol.responses import ResponseState

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import Outcome, Usage, VoiceEvent
    from realtalk_async.voice.protocol.conversation import (
        Conversation,
        ItemEvents,
        Medium,
    )
    from realtalk_async.voice.protocol.messages import SendMessage, ServerEvent
    from realtalk_async.voice.protocol.outbox import Outbox
    from realtalk_async.voice.protocol.responses import Request, Response, Responses
    from realtalk_async.voice.protocol.turns import Turn


_FINAL = ("completed", "cancelled", "failed", "incomplete")


class ResponseEvents:
    """
    Handles events of responses.

    Args:
        conversation: Receives the text.
        items: Adds the items of a response to the conversation.
        outbox: Receives the tool calls, and sends their results.
        responses: The responses under way.
        turn: The user's turn, which a response answers.
        send: Called with each message for the service.
        publish: Called with each event for the app.
    """

    def __init__(
        self,
        conversation: Conversation,
        items: ItemEvents,
        outbox: Outbox,
        responses: Responses,
        turn: Turn,
        send: SendMessage,
        publish: Callable[[VoiceEvent], None],
    ) -> None:
        self._conversation = conversation
        self._items = items
        self._outbox = outbox
        self._responses = responses
        self._turn = turn
        self._send = send
        self._publish = publish

    def handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        """Return the handlers by event type; each takes the event and the time."""
        transcript = "response.output_audio_transcript"
        of_active = {
            "response.output_item.added": self._on_item,
            "response.output_item.done": self._on_item,
            "response.function_call_arguments.done": self._on_call,
            f"{transcript}.delta": self._on_text_delta,
            f"{transcript}.done": self._on_transcript_done,
            "response.output_text.delta": self._on_text_delta,
            "response.output_text.done": self._on_text_done,
        }
        return {
            "response.created": self._on_created,
            **{kind: self._of_active(handler) for kind, handler in of_active.items()},
        }

    def _of_active(
        self, handler: Callable[[Response, ServerEvent, float], None]
    ) -> Callable[[ServerEvent, float], None]:
        def handle(event: ServerEvent, now: float) -> None:
            response = self.active_response(event, now)
            if response is not None:
                handler(response, event, now)

        return handle

    def active_response(self, event: ServerEvent, now: float) -> Response | None:
        """
        Return the response of an event; ``None`` if it has ended or was interrupted.

        A response that was not announced starts here: some servers send
        ``response.created`` late.
        """
        response_id = event.text("response_id") or self._responses.newest
        response = self._find(response_id, now)
        is_active = response is not None and response.state is ResponseState.ACTIVE
        return response if is_active else None

    # --- Start and end ------------------------------------------------------------

    def _on_created(self, event: ServerEvent, now: float) -> None:
        self._find(event.text("response", "id"), now)

    def _find(self, response_id: str, now: float) -> Response | None:
        """Return the response, started now if it is new; ``None`` if it has ended."""
        if self._responses.has_ended(response_id):
            return None
        response = self._responses.get(response_id)
        if response is None:
            uses_tools = self._outbox.response_started()
            response = self._responses.start(response_id, now, uses_tools=uses_tools)
            self._turn.answered()
            self._publish(events.ResponseStarted(response_id))
            if response.state is ResponseState.INTERRUPTED:
                self._send(messages.cancel_response(response_id))
        response.event_received(now)
        return response

    def on_done(self, event: ServerEvent, now: float) -> None:
        """End a response as ``response.done`` says."""
        response = self._find(event.text("response", "id"), now)
        if response is not None:
            self._add_final_items(response, event.objects("response", "output"))
            usage = response_usage(event)
            self.finish(response, *_final_status(event), now, usage)

    def finish(
        self,
        response: Response,
        status: Status,
        reason: str,
        now: float,
        usage: Usage | None = None,
    ) -> None:
        """End a response, and publish its outcome."""
        for item_id in response.items:
            self._conversation.finish(item_id)
        texts = (self._conversation.text(item_id) for item_id in response.items)
        text = " ".join(filter(None, texts))
        self._ended(self._responses.end(response, status, text, reason, now, usage))

    def finish_requested(self, status: Status, reason: str, now: float) -> None:
        """End a response that was requested, or is owed, and has not started."""
        self._ended(self._responses.end_requested(status, reason, now))

    def finish_unsent(
        self, request: Request, status: Status, reason: str, now: float
    ) -> None:
        """End a request that was never sent, and publish its outcome."""
        outcome = self._responses.end_unsent(request, status, reason, now)
        self._publish(events.ResponseFinished(outcome))

    def request_failed(self, reason: str, now: float) -> None:
        """End the response whose request the service refused."""
        if self._responses.sent_at is not None:
            self.finish_requested(Status.FAILED, reason, now)

    def message_refused(self, item_id: str, reason: str, now: float) -> None:
        """End the request whose message the service refused, and the response to it."""
        asked = [
            r for r in self._responses if any(q.item_id == item_id for q in r.requests)
        ]
        outcome = self._responses.end_refused(item_id, reason, now)
        if outcome is None:
            return
        for response in asked:
            if not response.requests and response.state is ResponseState.ACTIVE:
                self._send(messages.cancel_response(response.response_id))
        self._publish(events.ResponseFinished(outcome))

    def give_up_overdue(self, now: float) -> bool:
        """End the overdue responses; return whether one has stalled."""
        overdue = [r for r in self._responses if now >= self._responses.gives_up_at(r)]
        for response in overdue:
            # While the service takes it for active, it refuses another request.
            self._send(messages.cancel_response(response.response_id))
            if response.state is ResponseState.INTERRUPTED:
                self.finish(response, Status.CANCELLED, "interrupted", now)
            else:
                self.finish(response, Status.STALLED, self._responses.stalled_for, now)
        stalled = any(r.state is ResponseState.ACTIVE for r in overdue)
        if is_due(self._responses.requested_until, now):
            self._stall_requested(now)
            stalled = True
        if is_due(self._turn.response_until, now):
            self._turn.answered()
            self._stall_requested(now)
            stalled = True
        return stalled

    def _stall_requested(self, now: float) -> None:
        self.finish_requested(Status.STALLED, self._responses.stalled_for, now)

    def _ended(self, outcome: Outcome) -> None:
        self._outbox.response_ended(outcome)
        self._publish(events.ResponseFinished(outcome))
        if outcome.is_mere_call and not self._outbox.awaits_answer:
            why = "the service called tools again and again, and did not answer"
            self.finish_after_tools(Status.FAILED, why, outcome.ended_at)

    def finish_after_tools(self, status: Status, reason: str, now: float) -> None:
        """End the response that was to follow the results of tools."""
        outcome = self._responses.end_after_tools(status, reason, now)
        self._publish(events.ResponseFinished(outcome))

    def _add_final_items(
        self, response: Response, items: list[dict[str, object]]
    ) -> None:
        """Add the items that ``response.done`` lists."""
        for each in items:
            item = messages.ServerEvent("item", each)
            response.add_item(self._items.add(item, None))
            if response.state is ResponseState.ACTIVE:
                self._note_call(response, item)

    # --- Items and tool calls -----------------------------------------------------

    def _on_item(self, response: Response, event: ServerEvent, now: float) -> None:
        item_id = self._items.add(event.within("item"), None)
        response.add_item(item_id)
        if event.type.endswith("done"):
            self._conversation.finish(item_id)
        self._note_call(response, event.within("item"))

    def _note_call(self, response: Response, item: ServerEvent) -> None:
        """Note a tool call, and call the tool if the arguments are complete."""
        if item.text("type") != "function_call":
            return
        call_id, name = item.text("call_id"), item.text("name")
        response.announced[item.text("id")] = call_id, name
        if item.text("status") == "completed":
            called = events.ToolCalled(call_id, name, item.text("arguments"))
            self._call(response, called, item.text("id"))

    def _on_call(self, response: Response, event: ServerEvent, now: float) -> None:
        named_here = event.text("call_id"), event.text("name")
        item_id = event.text("item_id")
        call_id, name = response.announced.get(item_id, named_here)
        called = events.ToolCalled(call_id, name, event.text("arguments"))
        self._call(response, called, item_id)

    def _call(
        self, response: Response, called: events.ToolCalled, item_id: str
    ) -> None:
        """Call a tool once; the service announces each call up to three times."""
        call_id = called.call_id
        if not call_id or call_id in response.calls:
            return
        response.calls[call_id] = called.name
        if self._outbox.tool_called(called, item_id, response.response_id):
            self._publish(called)

    # --- Text -----------------------------------------------------------

    def note_output(self, response: Response, event: ServerEvent, now: float) -> None:
        """Note that text or audio of a response arrived."""
        item_id = event.text("item_id")
        medium: Medium = "audio" if "audio" in event.type else "text"
        self._conversation.add(item_id, "assistant", medium=medium)
        response.add_item(item_id)
        if response.first_output_at is None:
            response.first_output_at = now

    def _on_text_delta(
        self, response: Response, event: ServerEvent, now: float
    ) -> None:
        self.note_output(response, event, now)
        item_id, delta = event.text("item_id"), event.text("delta")
        self._conversation.append_text(item_id, event.index, delta)
        self._publish(events.ResponseText(response.response_id, item_id, delta))

    def _on_transcript_done(
        self, response: Response, event: ServerEvent, now: float
    ) -> None:
        self._set_text(response, event, event.text("transcript"), now)

    def _on_text_done(self, response: Response, event: ServerEvent, now: float) -> None:
        self._set_text(response, event, event.text("text"), now)

    def _set_text(
        self, response: Response, event: ServerEvent, text: str, now: float
    ) -> None:
        self.note_output(response, event, now)
        if text:
            self._conversation.set_text(event.text("item_id"), event.index, text)


def _final_status(event: ServerEvent) -> tuple[Status, str]:
    """Return the status that ``response.done`` gives, and the reason for people."""
    said = event.text("response", "status")
    status = Status(said) if said in _FINAL else Status.COMPLETED
    if status is Status.COMPLETED:
        return status, ""
    details = ("response", "status_details")
    code = event.text(*details, "error", "code")
    message = event.text(*details, "error", "message")
    reason = event.text(*details, "reason") or ": ".join(filter(None, (code, message)))
    return status, reason or said
