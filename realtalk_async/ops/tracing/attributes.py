"""
Attributes of spans by OpenTelemetry's conventions for generative AI.

Read in its semantic conventions, package opentelemetry-semantic-conventions 0.66b2; they
have the status "development" there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from realtalk_async.voice.events import Status

if TYPE_CHECKING:
    from realtalk_async.voice.events import Outcome

Attributes = dict[str, str | int | float | list[str]]

PROVIDER = "openai"
"""The protocol's; other services that speak it are told apart by the model only."""

_FINISH_REASONS = {
    Status.COMPLETED: "stop",
    Status.CANCELLED: "cancelled",
    Status.INCOMPLETE: "length",
}


def of_turn(session_id: str, model: str) -> Attributes:
    """Return what each span about the model has."""
    given: Attributes = {"gen_ai.provider.name": PROVIDER}
    if session_id:
        given["gen_ai.conversation.id"] = session_id
    if model:
        given["gen_ai.request.model"] = model
    return given


def of_response(outcome: Outcome, *, spoken: bool) -> Attributes:
    """Return what a response has at its end, without its words."""
    reason = _FINISH_REASONS.get(outcome.status, "error")
    if outcome.is_mere_call:
        reason = "tool_calls"
    given: Attributes = {
        "gen_ai.output.type": "speech" if spoken else "text",
        "gen_ai.response.finish_reasons": [reason],
    }
    if outcome.response_id:
        given["gen_ai.response.id"] = outcome.response_id
    if outcome.first_output_at is not None and outcome.asked_at:
        seconds = outcome.first_output_at - outcome.asked_at
        given["gen_ai.response.time_to_first_chunk"] = max(seconds, 0.0)
    usage = outcome.usage
    if usage is not None:
        given["gen_ai.usage.input_tokens"] = usage.input_tokens
        given["gen_ai.usage.output_tokens"] = usage.output_tokens
        given["gen_ai.usage.cache_read.input_tokens"] = usage.cached
    return given


def of_tool(call_id: str, name: str) -> Attributes:
    """Return what a call of a tool has, without its arguments."""
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call_id,
    }


def message(role: str, text: str, finish_reason: str = "") -> str:
    """Return one message in the form of ``gen_ai.input.messages``."""
    part = {"type": "text", "content": text}
    one: dict[str, object] = {"role": role, "parts": [part]}
    if finish_reason:
        one["finish_reason"] = finish_reason
    return json.dumps([one], ensure_ascii=False)
