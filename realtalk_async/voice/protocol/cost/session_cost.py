"""Adds up what a session costs, and watches its bounds as a listener to its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events
from realtalk_async.voice.events import Usage
from realtalk_async.voice.protocol.cost.limits import LimitWatch
from realtalk_async.voice.protocol.cost.self_talk import SelfTalkWatch
from realtalk_async.voice.protocol.history.tables import forget_oldest

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.cost.limits import SessionLimits
    from realtalk_async.voice.protocol.messages import ServerEvent


class SessionCost:
    """
    The cost and the bounds of one session.

    Args:
        limits: The bounds.
        publish: Called with each event for the app.
    """

    def __init__(
        self, limits: SessionLimits, publish: Callable[[VoiceEvent], None]
    ) -> None:
        self.total = Usage()
        """The tokens of all responses and transcripts."""
        self.limits = LimitWatch(limits)
        self._self_talk = SelfTalkWatch(limits.self_talk)
        self._publish = publish
        self._was_active = False
        self._counted: dict[str, None] = {}  # responses

    def on_event(self, event: VoiceEvent) -> None:
        """Note an event, which is published before those that it causes."""
        self._publish(event)
        told: VoiceEvent | None = None
        match event:
            case events.SpeechStarted():
                self._self_talk.speech_started(event.item_id)
            case events.UserTranscript():
                self.total += event.usage or Usage()
                told = self._self_talk.transcribed(event.item_id, event.text)
            case events.ResponseFinished(outcome):
                if outcome.response_id and not outcome.is_mere_call:
                    told = self._self_talk.response_ended(outcome.text)
            case _:
                return
        if told is not None:
            self._publish(told)

    def on_response_done(self, event: ServerEvent) -> None:
        """Add the tokens of a response, once, also if it was given up before."""
        response_id, usage = event.text("response", "id"), response_usage(event)
        if usage is None or response_id in self._counted:
            return
        self._counted[response_id] = None
        forget_oldest(self._counted)
        self.total += usage

    def user_acted(self, now: float) -> None:
        """Note a text, a request or push-to-talk."""
        self.limits.active(now)
        self._self_talk.user_acted()

    def check(self, now: float, active_until: float | None) -> bool:
        """
        Tell a limit that is reached; return whether that is so for the first time.

        Args:
            now: The time.
            active_until: Until when somebody speaks, or a response is heard; ``None`` if
                nobody does.
        """
        if active_until is not None:
            self.limits.active(active_until)
        elif self._was_active:
            self.limits.active(now)  # it has just ended
        self._was_active = active_until is not None
        reached = self.limits.check(now, self.total.total)
        if reached is not None:
            self._publish(reached)
        return reached is not None


def response_usage(event: ServerEvent) -> Usage | None:
    """Return the tokens that ``response.done`` tells; ``None`` if it tells none."""
    usage = event.within("response", "usage")
    if not usage.data:
        return None
    into, cached, out = (
        usage.within("input_token_details"),
        usage.within("input_token_details", "cached_tokens_details"),
        usage.within("output_token_details"),
    )
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        input_text=_count(into, "text_tokens"),
        input_audio=_count(into, "audio_tokens"),
        input_image=_count(into, "image_tokens"),
        cached=_count(into, "cached_tokens"),
        cached_text=_count(cached, "text_tokens"),
        cached_audio=_count(cached, "audio_tokens"),
        cached_image=_count(cached, "image_tokens"),
        output_text=_count(out, "text_tokens"),
        output_audio=_count(out, "audio_tokens"),
    )


def transcription_usage(event: ServerEvent) -> Usage | None:
    """Return the tokens, or the seconds, of a transcript; ``None`` if it tells none."""
    usage = event.within("usage")
    if not usage.data:
        return None
    return Usage(
        transcription_tokens=_count(usage, "total_tokens"),
        transcription_seconds=max(0.0, usage.number("seconds") or 0.0),
    )


def _count(event: ServerEvent, name: str) -> int:
    return max(0, int(event.number(name) or 0))
