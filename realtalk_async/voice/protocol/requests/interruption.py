"""An interruption: what was queued is dropped, and each response truncated as heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.hearing.barge_in import BargeIn, InterruptWhen
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS
from realtalk_async.voice.protocol.playback import OUTAGE_ITEM, Cut
from realtalk_async.voice.protocol.responses import ResponseState

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.conversation import Conversation
    from realtalk_async.voice.protocol.messages import SendMessage
    from realtalk_async.voice.protocol.outbox import Outbox
    from realtalk_async.voice.protocol.playback import Playback
    from realtalk_async.voice.protocol.responses import Responses
    from realtalk_async.voice.protocol.turns import Turn


class Interruption:
    """
    Interrupts the responses of one session.

    Args:
        playback: Its queue is cleared.
        responses: The responses under way.
        conversation: Keeps the text as far as it was heard.
        outbox: Knows the tools that run, and the items without audio.
        turn: Tells whether the service will start a response.
        send: Called with each message for the service.
        publish: Called with each event for the app.
        when: When speech interrupts a response; ``None`` to leave that to the service.
        responds: Whether a turn is answered, if the service does not do it.
    """

    def __init__(
        self,
        playback: Playback,
        responses: Responses,
        conversation: Conversation,
        outbox: Outbox,
        turn: Turn,
        send: SendMessage,
        publish: Callable[[VoiceEvent], None],
        when: InterruptWhen | None,
        *,
        responds: bool,
    ) -> None:
        self._playback = playback
        self._responses = responses
        self._conversation = conversation
        self._outbox = outbox
        self._turn = turn
        self._send = send
        self._publish = publish
        self._when = when
        self._responds = responds
        self._barge_in = BargeIn(when)

    # --- The decision -------------------------------------------------------------

    def speech_started(self, now: float) -> None:
        """Note that the service noticed speech."""
        under_way = self._responses.responding or self._turn.awaits_response
        audible = self._playback.remaining(now) > 0
        self._barge_in.speech_started(during_response=under_way or audible)

    def recorded(self, pcm: bytes, now: float) -> None:
        """Note audio of the microphone; long and loud speech interrupts, or asks to."""
        if not self._barge_in.add(pcm):
            return
        if self._when is None or self._when.decide is None:
            self.decided(now, interrupts=True)
        else:
            speech_ms, dbfs = self._barge_in.speech_ms, self._barge_in.dbfs
            self._publish(events.InterruptionPending(speech_ms, dbfs))

    def decided(self, now: float, *, interrupts: bool) -> None:
        """Interrupt the response, or let the speech go unanswered."""
        if not self._barge_in.is_asked:
            return
        if interrupts:
            self.interrupt(now)
        else:
            self._publish(self._barge_in.ignored("the app decided so"))
        if self._barge_in.decided(interrupts=interrupts):
            self._answer()

    def speech_stopped(self) -> None:
        """Note the end of the speech."""
        if self._barge_in.speech_stopped():
            self._publish(self._barge_in.ignored("too short or too quiet"))

    def committed(self) -> None:
        """Note that the service took the turn, and answer it unless the service does."""
        if self._when is not None and self._barge_in.committed():
            self._answer()

    def _answer(self) -> None:
        if self._responds:
            self._outbox.queue_request(self._responses.new_request())

    # --- The interruption ---------------------------------------------------------

    def interrupt(self, now: float) -> None:
        """Interrupt the response under way, as the user's voice does."""
        for response in self._responses:
            if response.state is ResponseState.ACTIVE:
                self._send(messages.cancel_response(response.response_id))
        self._responses.cancel_requested(owed=self._turn.awaits_response)
        self.cut_off(now)

    def cut_off(self, now: float) -> None:
        """Drop the queued audio, and truncate each response to its heard part."""
        unplayed_ms = self._playback.level_ms(now)
        if unplayed_ms:
            latency_ms = self._playback.latency_ms
            self._publish(events.PlaybackCleared(unplayed_ms + latency_ms))
        cuts = {cut.part: cut for cut in self._playback.clear(now)}
        for response in self._responses:
            if response.state is ResponseState.INTERRUPTED:
                continue  # none of its audio was played since
            response.interrupt(now)
            for part, size in response.audio.items():
                # All audio so far was played, but the service would send more.
                received = size // BYTES_PER_MS
                cuts.setdefault(part, Cut(part, received, received))
        for cut in cuts.values():
            self._truncate(cut)
        if calls := self._outbox.running_calls:
            self._publish(events.ToolsInterrupted(calls))

    def _truncate(self, cut: Cut) -> None:
        item_id, index = cut.part
        if item_id == OUTAGE_ITEM:
            return
        fraction = cut.heard_ms / cut.received_ms if cut.received_ms else 0.0
        text = self._conversation.interrupt(item_id, fraction)
        # The service takes neither zero nor more than it sent.
        end = min(max(1, cut.heard_ms), max(1, cut.received_ms))
        if not self._outbox.has_replayed(item_id):  # as text, without audio
            self._send(messages.truncate_item(item_id, index, end))
        self._publish(events.Interrupted(item_id, cut.heard_ms, cut.received_ms, text))
