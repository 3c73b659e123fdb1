"""The log of all protocol events of a session, sent and received; audio is only counted."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args, overload

import orjson

from realtalk_async import arguments
from realtalk_async.voice.protocol.requests.json_value import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

Direction: TypeAlias = Literal["sent", "received"]

_AUDIO_FIELDS = {
    "input_audio_buffer.append": "audio",
    "response.audio.delta": "delta",
    "response.output_audio.delta": "delta",
}
_MEDIA_FIELDS = {"image_url": "image", "audio": "audio"}
_MAX_DETAILS = 100
_HIDDEN_FIELDS = ("type", "event_id")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One protocol event, or a run of successive audio events."""

    at: datetime
    """When the event, or the first event of a run, was sent or received."""
    direction: Direction
    type: str
    data: Mapping[str, object]
    """The whole event; a note of their size replaces audio and images."""
    count: int = 1
    """The number of audio events in the run."""
    audio_bytes: int = 0
    """Bytes of audio in the run."""
    until: datetime | None = None
    """When the last event of a run was sent or received."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            "at": self.at.isoformat(timespec="milliseconds"),
            "direction": self.direction,
            "type": self.type,
            "data": dict(self.data),
            "count": self.count,
            "audio_bytes": self.audio_bytes,
            "until": self.until and self.until.isoformat(timespec="milliseconds"),
        }

    def __str__(self) -> str:
        clock = self.at.strftime("%H:%M:%S.%f")[:-3]
        arrow = "→" if self.direction == "sent" else "←"
        return f"{clock} {arrow} {self.type:<48} {self.details()}".rstrip()

    def details(self) -> str:
        """Return the event's fields as JSON, cut to 100 characters."""
        if self.audio_bytes:
            return f"{self.count} x audio, {self.audio_bytes:,} bytes"
        shown = {k: v for k, v in self.data.items() if k not in _HIDDEN_FIELDS}
        text = orjson.dumps(shown, default=str).decode() if shown else ""
        if len(text) > _MAX_DETAILS:
            return text[: _MAX_DETAILS - 1] + "…"
        return text


class EventLog(Sequence[LoggedEvent]):
    """
    The newest protocol events of a session, oldest first; older ones are counted.

    Audio events arrive fifty times a second in each direction. Successive audio events of
    one type and direction, without another event between them, are one entry that counts
    them; the audio itself is not kept.

    Args:
        most: How many entries are kept; then the oldest tenth is dropped.
        most_bytes: How many bytes of them, as JSON.
    """

    def __init__(self, most: int = 10_000, most_bytes: int = 32 * 2**20) -> None:
        arguments.integer("most", most, minimum=1)
        arguments.integer("most_bytes", most_bytes, minimum=1)
        self._most = most
        self._most_bytes = most_bytes
        self._events: list[LoggedEvent] = []
        self._sizes: list[int] = []
        self._bytes = 0
        self._runs: dict[tuple[Direction, str], int] = {}
        self.dropped = 0
        """Number of the oldest entries that are not kept any more."""

    @overload
    def __getitem__(self, index: int) -> LoggedEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[LoggedEvent]: ...
    def __getitem__(self, index: int | slice) -> LoggedEvent | list[LoggedEvent]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"<EventLog: {len(self)} events>"

    def record(
        self,
        direction: Direction,
        data: Mapping[str, object],
        at: datetime | None = None,
    ) -> None:
        """Add one event. *data* is kept: the caller must not change it afterwards."""
        arguments.choice("direction", direction, get_args(Direction))
        arguments.mapping("data", data)
        arguments.moment("at", at, optional=True)
        at = at or datetime.now(UTC).astimezone()
        kind = str(data.get("type"))
        field = _AUDIO_FIELDS.get(kind)
        if field is not None:
            self._record_audio(direction, kind, field, data, at)
            return
        self._runs.clear()
        if kind.startswith("conversation.item."):
            data = _without_media(data)
        elif kind.startswith("session."):
            data = cast("Mapping[str, object]", without_secrets(data))
        self._append(LoggedEvent(at, direction, kind, data))

    def _append(self, event: LoggedEvent) -> None:
        size = _json_size(event.data)
        self._events.append(event)
        self._sizes.append(size)
        self._bytes += size
        too_many = len(self._events) > self._most
        if not too_many and self._bytes <= self._most_bytes:
            return
        # A tenth at once: removing from the front of a list moves all the rest.
        least = max(1, self._most // 10) if too_many else 1
        number, left = 0, self._bytes
        while number < len(self._events) - 1 and (
            number < least or left > self._most_bytes * 9 // 10
        ):
            left -= self._sizes[number]
            number += 1
        del self._events[:number], self._sizes[:number]
        self.dropped, self._bytes = self.dropped + number, left
        self._runs.clear()

    def _record_audio(
        self,
        direction: Direction,
        kind: str,
        field: str,
        data: Mapping[str, object],
        at: datetime,
    ) -> None:
        size = _decoded_size(data.get(field))
        index = self._runs.get((direction, kind))
        if index is None:
            elided = {**data, field: f"<{size} bytes of audio>"}
            self._append(LoggedEvent(at, direction, kind, elided, 1, size))
            self._runs[direction, kind] = len(self._events) - 1
            return
        run = self._events[index]
        self._events[index] = LoggedEvent(
            *(run.at, direction, kind, run.data),
            count=run.count + 1,
            audio_bytes=run.audio_bytes + size,
            until=at,
        )

    def find(
        self,
        pattern: str | None = None,
        *,
        direction: Direction | None = None,
        since: datetime | None = None,
        n: int | None = None,
    ) -> list[LoggedEvent]:
        """
        Return the events that match, oldest first.

        Args:
            pattern: A regular expression that is searched in the type: ``"^response"``.
            direction: Only sent or only received events.
            since: Only events since then; a timezone-aware time.
            n: Only the newest *n* matching events.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        wanted = arguments.pattern("pattern", "" if pattern is None else pattern)
        if direction is not None:
            arguments.choice("direction", direction, get_args(Direction))
        arguments.moment("since", since, optional=True)
        arguments.integer("n", n, minimum=0, optional=True)
        found = [
            event
            for event in self._events
            if wanted.search(event.type)
            and (direction is None or event.direction == direction)
            and (since is None or event.at >= since)
        ]
        return found if n is None else found[len(found) - min(n, len(found)) :]


def print_table(
    events: Iterable[LoggedEvent], file: TextIO | None = None, dropped: int = 0
) -> None:
    """
    Print one line for each event: time, direction, type, details.

    Args:
        events: The events.
        file: Where to print; standard output if omitted.
        dropped: The number of older entries that the log has dropped, for a first line.
    """
    out = file or sys.stdout
    if dropped:
        out.write(f"({dropped:,} older events are not kept any more)\n")
    for event in events:
        out.write(f"{event}\n")


def _json_size(data: Mapping[str, object]) -> int:
    try:
        return len(orjson.dumps(data, default=str))
    except orjson.JSONEncodeError:  # such as a lone surrogate
        return len(repr(data))


def _without_media(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return an event about an item, with a note of their size for images and audio."""
    item = data.get("item")
    fields = cast("dict[str, object]", item) if isinstance(item, dict) else {}
    content = fields.get("content")
    if not isinstance(content, list):
        return data
    parts = [_noted(part) for part in cast("list[object]", content)]
    return {**data, "item": {**fields, "content": parts}}


def _noted(part: object) -> object:
    if not isinstance(part, dict):
        return part
    noted = dict(cast("dict[str, object]", part))
    for field, what in _MEDIA_FIELDS.items():
        value = noted.get(field)
        if isinstance(value, str):
            size = _decoded_size(value.rpartition(",")[2])
            noted[field] = f"<{size} bytes of {what}>"
    return noted


def _decoded_size(audio: object) -> int:
    """Return the number of bytes that the base64 text *audio* encodes."""
    if not isinstance(audio, str):
        return 0
    padding = len(audio) - len(audio.rstrip("="))
    return len(audio) * 3 // 4 - padding
