"""Handlers of the service's events about the user's speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.conversation import ItemEvents
    from realtalk_async.voice.protocol.messages import ServerEvent
    from realtalk_async.voice.protocol.outbox import Outbox
    from realtalk_async.voice.protocol.requests.interruption import Interruption
    from realtalk_async.voice.protocol.requests.session_updates import SessionUpdates
    from realtalk_async.voice.protocol.turns import Turn


class SpeechEvents:
    """
    Handles events of the user's speech.

    Args:
        updates: Has the configuration, which says what the service does by itself.
        items: Adds the item of the speech to the conversation.
        outbox: Counts the calls of tools anew.
        turn: The state of the user's turn.
        interruption: Decides whether the speech interrupts.
        publish: Called with each event for the app.
    """

    def __init__(
        self,
        updates: SessionUpdates,
        items: ItemEvents,
        outbox: Outbox,
        turn: Turn,
        interruption: Interruption,
        publish: Callable[[VoiceEvent], None],
    ) -> None:
        self._updates = updates
        self._items = items
        self._outbox = outbox
        self._turn = turn
        self._interruption = interruption
        self._publish = publish

    def handlers(self) -> dict[str, Callable[[ServerEvent, float], None]]:
        """Return the handlers by event type; each takes the event and the time."""
        return {
            "input_audio_buffer.speech_started": self._on_started,
            "input_audio_buffer.speech_stopped": self._on_stopped,
            "input_audio_buffer.committed": self._on_committed,
        }

    def _on_started(self, event: ServerEvent, now: float) -> None:
        self._turn.speech_started()
        self._outbox.turn_started()
        self._publish(events.SpeechStarted(event.text("item_id")))
        self._interruption.speech_started(now)
        if self._updates.config.interrupts:
            self._interruption.cut_off(now)

    def _on_stopped(self, event: ServerEvent, now: float) -> None:
        self._turn.speech_stopped(now)
        self._publish(events.SpeechStopped(event.text("item_id")))
        self._interruption.speech_stopped()

    def _on_committed(self, event: ServerEvent, now: float) -> None:
        item_id, previous = event.text("item_id"), self._items.previous(event)
        self._items.add_user_speech(item_id, previous)
        self._turn.committed(now, awaits_response=self._updates.config.responds)
        self._interruption.committed()
