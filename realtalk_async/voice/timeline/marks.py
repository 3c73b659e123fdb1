"""The marks of a timeline, and files of them as JSON lines."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

import orjson

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Track: TypeAlias = Literal[
    "user", "recorder", "connection", "service", "tools", "player", "speaker"
]
TRACKS: tuple[Track, ...] = get_args(Track)
"""In the order of the picture: the way of the audio from the user and back."""

_TRACKS: dict[str, Track] = {track: track for track in TRACKS}


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment or a span of time on one track."""

    at: float
    """Seconds from the session's start."""
    track: Track
    kind: str
    """Such as ``speech``, ``audio``, ``heard``, ``died``, ``restarted``, ``lost``."""
    text: str = ""
    until: float | None = None
    """The end of a span; ``None`` for a moment."""
    amount: float = 0.0
    """Seconds of audio in the span; 0 if it has none."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values, without the empty ones."""
        fields = dataclasses.asdict(self)
        for name in ("at", "until", "amount"):
            fields[name] = fields[name] and round(fields[name], 4)
        return {name: value for name, value in fields.items() if value or name == "at"}

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> Mark:
        """
        Return the mark that `to_dict` wrote.

        Raises:
            InvalidConfiguration: If the time or the track is missing or invalid.
        """
        at, until, amount = (fields.get(key) for key in ("at", "until", "amount"))
        track = _TRACKS.get(str(fields.get("track")))
        if not isinstance(at, int | float) or track is None:
            raise InvalidConfiguration(f"no valid mark of a timeline: {dict(fields)}")
        return cls(
            float(at),
            track,
            str(fields.get("kind", "")),
            str(fields.get("text", "")),
            float(until) if isinstance(until, int | float) else None,
            float(amount) if isinstance(amount, int | float) else 0.0,
        )


def save(marks: Iterable[Mark], path: str | os.PathLike[str]) -> None:
    """
    Write *marks* to a file as JSON lines. Blocks: call it in a thread.

    Raises:
        OSError: If *path* cannot be written.
    """
    lines = b"".join(orjson.dumps(mark.to_dict()) + b"\n" for mark in marks)
    Path(path).write_bytes(lines)


def load(path: str | os.PathLike[str]) -> tuple[Mark, ...]:
    """
    Read a file that `save` wrote.

    Raises:
        OSError: If *path* cannot be read.
        InvalidConfiguration: If a line is no valid mark; the message has its number.
    """
    lines = Path(path).read_bytes().splitlines()
    return tuple(
        _parse(line, number, path)
        for number, line in enumerate(lines, 1)
        if line.strip()
    )


def _parse(line: bytes, number: int, path: str | os.PathLike[str]) -> Mark:
    try:
        fields: object = orjson.loads(line)
        if not isinstance(fields, dict):
            raise InvalidConfiguration("not a JSON object")
        return Mark.from_dict(cast("Mapping[str, object]", fields))
    except ValueError as error:
        raise InvalidConfiguration(
            f"{os.fspath(path)}, line {number}: {error}; "
            f"give a file that Stream.save_timeline wrote"
        ) from error
