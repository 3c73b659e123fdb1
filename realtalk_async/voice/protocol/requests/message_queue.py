"""The messages that wait to be sent, and the ids by which an error names them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from realtalk_async.voice.protocol.messages import Sent

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.messages import Message

_REMEMBERED = 256  # sent messages that an error may still name


class MessageQueue:
    """The messages for the service, in their order."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._sent: dict[str, Sent] = {}
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def send(
        self, message: Message, item_id: str = "", *, from_app: bool = False
    ) -> str:
        """
        Queue *message*, and return its id.

        Args:
            message: The message; an ``event_id`` that it has is kept.
            item_id: The item that it creates; empty if it creates none.
            from_app: Whether the app made it.
        """
        message = self.numbered(message)
        self._messages.append(message)
        event_id = str(message["event_id"])
        self._sent[event_id] = Sent(str(message["type"]), item_id, from_app=from_app)
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        return event_id

    def numbered(self, message: Message) -> Message:
        """Return *message* with an id."""
        self._number += 1
        return {"event_id": f"evt_{self._number}", **message}

    def pop(self) -> Message | None:
        """Remove and return the next message; ``None`` if there is none."""
        return self._messages.popleft() if self._messages else None

    def clear(self) -> None:
        """Drop all messages: they were for a connection that is gone."""
        self._messages.clear()

    def named(self, event_id: str) -> Sent:
        """Return the message of that id; one without a type if it is unknown."""
        return self._sent.get(event_id, Sent(""))
