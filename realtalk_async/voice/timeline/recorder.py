"""
What happened when in a session, for the picture of its time line. Pure.

Fifty pieces of sound a second in each direction would be too many to keep: pieces of one
kind that follow each other are one mark.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.protocol.pcm import BYTES_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

Lane: TypeAlias = Literal[
    "user", "recorder", "connection", "service", "tools", "player", "speaker"
]
LANES: tuple[Lane, ...] = get_args(Lane)
"""From the user's mouth to the user's ear."""

_LANES: dict[str, Lane] = {lane: lane for lane in LANES}

_SEAM = 0.25  # seconds: a shorter hole between two pieces is none
_MOST = 50_000  # marks: 10 MB, some hours of lively talk


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, or went on for some time."""

    at: float
    """Seconds from the session's start."""
    lane: Lane
    kind: str
    """Such as ``speech``, ``audio``, ``heard``, ``died``, ``revived``, ``lost``."""
    text: str = ""
    until: float | None = None
    """When it ended; ``None`` if it was a moment."""
    amount: float = 0.0
    """Seconds of sound in it, if it is sound."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON; what is empty is left out."""
        fields = dataclasses.asdict(self)
        for name in ("at", "until", "amount"):
            fields[name] = fields[name] and round(fields[name], 4)
        return {name: value for name, value in fields.items() if value or name == "at"}

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> Mark:
        """
        Read what `to_dict` wrote.

        Raises:
            InvalidConfiguration: If it is no mark.
        """
        at, until, amount = (fields.get(key) for key in ("at", "until", "amount"))
        lane = _LANES.get(str(fields.get("lane")))
        if not isinstance(at, int | float) or lane is None:
            raise InvalidConfiguration(f"no mark of a time line: {dict(fields)}")
        return cls(
            float(at),
            lane,
            str(fields.get("kind", "")),
            str(fields.get("text", "")),
            float(until) if isinstance(until, int | float) else None,
            float(amount) if isinstance(amount, int | float) else 0.0,
        )


class Chronicle:
    """
    The marks of one session, as they come.

    Args:
        now: The session's start, in monotonic seconds, as all times here.
    """

    def __init__(self, now: float) -> None:
        self.began_at = now
        """The session's start; it may be set as long as there are no marks."""
        self.dropped = 0
        """Marks that were too many to be kept."""
        self._marks: list[Mark] = []
        self._latest: dict[tuple[Lane, str], int] = {}

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, in the order of their beginnings."""
        return tuple(sorted(self._marks, key=lambda mark: mark.at))

    def note(self, lane: Lane, kind: str, now: float, text: str = "") -> None:
        """Note that something happened."""
        self._add(Mark(now - self.began_at, lane, kind, text))

    def note_sound(
        self, lane: Lane, kind: str, start: float, end: float, amount: float
    ) -> None:
        """Note a piece of sound, joined to the last one if it follows it."""
        start, end = start - self.began_at, end - self.began_at
        index = self._latest.get((lane, kind))
        last = None if index is None else self._marks[index]
        if index is None or last is None or start - (last.until or 0) > _SEAM:
            place = self._add(Mark(start, lane, kind, "", end, amount))
            self._latest[lane, kind] = place
            return
        until = max(end, last.until or 0)
        self._marks[index] = replace(last, until=until, amount=last.amount + amount)

    def open(self, lane: Lane, kind: str, now: float, text: str = "") -> None:
        """Note that something begins; `close` ends it."""
        place = self._add(Mark(now - self.began_at, lane, kind, text))
        self._latest[lane, kind] = place

    def close(self, lane: Lane, kind: str, now: float, text: str = "") -> None:
        """Note that what was opened ends; nothing if it was not."""
        index = self._latest.pop((lane, kind), None)
        if index is not None:
            mark = self._marks[index]
            until, text = now - self.began_at, text or mark.text
            self._marks[index] = replace(mark, until=until, text=text)

    def recorded(self, pcm: bytes, at: float) -> None:
        """Note sound from the recorder."""
        self.note_sound("recorder", "sound", at, at, len(pcm) / BYTES_PER_SECOND)

    def received(self, part: object, pcm: bytes, at: float) -> None:
        """Note sound from the service."""
        self.note_sound("service", "audio", at, at, len(pcm) / BYTES_PER_SECOND)

    def played(self, part: object, pcm: bytes, at: float) -> None:
        """Note sound that is audible from *at* on."""
        seconds = len(pcm) / BYTES_PER_SECOND
        self.note_sound("speaker", "heard", at, at + seconds, seconds)

    def _add(self, mark: Mark) -> int:
        """Keep a mark, and return its place."""
        if len(self._marks) >= _MOST:
            # The oldest half goes: whoever looks, looks at what has just gone wrong.
            del self._marks[: _MOST // 2]
            self._latest.clear()
            self.dropped += _MOST // 2
        self._marks.append(mark)
        return len(self._marks) - 1
