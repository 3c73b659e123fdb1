"""
The picture of a conversation's time line: marks in, the text of an SVG out. Pure.

Who said what when, what came from the service, what was really heard, and who died and
came back: one lane each. `save` and `load` keep the marks as JSON lines.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import orjson

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.timeline.recorder import LANES, Mark

if TYPE_CHECKING:
    from realtalk_async.voice.timeline.recorder import Lane

_WIDTH = 1160  # pixels of the time axis
_LEFT = 100  # pixels for the names of the lanes
_LANE = 34
_HEAD = 64
_AXIS = 22
_STRIP = 30.0  # seconds in one row, at the least
_MOST_STRIPS = 40
_LETTER = 6.2  # pixels, about

_COLOURS = {
    "speech": "#4c78a8",
    "sound": "#c8d3e0",
    "up": "#d5e8d4",
    "audio": "#f2a541",
    "text": "#f7d794",
    "call": "#b07aa1",
    "heard": "#59a14f",
    "running": "#e8e8e8",
}
_MOMENTS = {
    "died": ("✕", "#d62728"),
    "lost": ("✕", "#d62728"),
    "given up": ("✕", "#7f0000"),
    "failed": ("!", "#d62728"),
    "error": ("!", "#d62728"),
    "interrupted": ("◀", "#e45756"),
    "revived": ("▲", "#2ca02c"),
    "restored": ("▲", "#2ca02c"),
    "recycled": ("↻", "#1f77b4"),
    "connected": ("●", "#2ca02c"),
    "ready": ("●", "#2ca02c"),
}
_PLAIN_MOMENT = ("•", "#555555")
_LABELLED = frozenset(
    ("transcript", "completed", "died", "lost", "interrupted", "stalled", "failed")
)
_LASTING = frozenset(("speech", "up", "call"))
_LONGEST_LABEL = 240.0  # pixels
_SIGN = 14  # pixels of a sign
_SEAM = 0.2  # seconds: what ends so soon is over


# --- Keeping it -------------------------------------------------------------------


def save(marks: Iterable[Mark], path: str | os.PathLike[str]) -> None:
    """
    Write *marks* as JSON lines. It writes a file: off the loop, please.

    Raises:
        OSError: If *path* cannot be written.
    """
    lines = b"".join(orjson.dumps(mark.to_dict()) + b"\n" for mark in marks)
    Path(path).write_bytes(lines)


def load(path: str | os.PathLike[str]) -> tuple[Mark, ...]:
    """
    Read what `save` wrote.

    Raises:
        OSError: If *path* cannot be read.
        InvalidConfiguration: If a line is no mark; says which.
    """
    lines = Path(path).read_bytes().splitlines()
    return tuple(
        _read(line, number, path)
        for number, line in enumerate(lines, 1)
        if line.strip()
    )


def _read(line: bytes, number: int, path: str | os.PathLike[str]) -> Mark:
    try:
        fields: object = orjson.loads(line)
        if not isinstance(fields, dict):
            raise InvalidConfiguration("not an object")
        return Mark.from_dict(cast("Mapping[str, object]", fields))
    except ValueError as error:
        raise InvalidConfiguration(
            f"{os.fspath(path)}, line {number}: {error}; "
            f"a time line is what Stream.save_timeline writes"
        ) from error


# --- Drawing it -------------------------------------------------------------------


class HasTimeline(Protocol):
    """A summary of a session."""

    @property
    def timeline(self) -> tuple[Mark, ...]:
        """The marks of the session."""


def render(source: HasTimeline | Iterable[Mark] | str | os.PathLike[str]) -> str:
    """
    Draw a time line.

    Args:
        source: A session's summary, its marks, or the path of a file of `save`.

    Returns:
        The text of an SVG. Half a minute is one row, and as much as it takes if there
        would be more than forty of them.

    Raises:
        OSError, InvalidConfiguration: See `load`.
    """
    if isinstance(source, str | os.PathLike):
        marks = load(source)
    elif isinstance(source, Iterable):
        marks = tuple(source)
    else:
        marks = source.timeline
    return "\n".join(_svg(marks))


@dataclass(frozen=True, slots=True)
class _Strip:
    """One row of the picture: the time from *start* to *end*, in seconds."""

    start: float
    end: float
    top: int
    lanes: tuple[Lane, ...]

    def x(self, at: float) -> float:
        share = (min(max(at, self.start), self.end) - self.start) / (
            self.end - self.start
        )
        return _LEFT + share * _WIDTH

    def y(self, lane: Lane) -> int:
        return self.top + self.lanes.index(lane) * _LANE

    def shows(self, mark: Mark) -> bool:
        until = mark.at if mark.until is None else mark.until
        return mark.at < self.end and until >= self.start

    @property
    def height(self) -> int:
        return len(self.lanes) * _LANE + _AXIS


def _end(marks: tuple[Mark, ...]) -> float:
    return max((mark.until or mark.at for mark in marks), default=1.0)


def _to_the_end(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Have what was still going on last to the end of the picture."""
    end = _end(marks)
    return tuple(
        replace(mark, until=end) if mark.kind in _LASTING and not mark.until else mark
        for mark in marks
    )


def _strips(marks: tuple[Mark, ...], lanes: tuple[Lane, ...]) -> list[_Strip]:
    end = _end(marks) + 0.5
    count = min(_MOST_STRIPS, max(1, math.ceil(end / _STRIP)))
    length = max(end / count, 1.0)
    height = len(lanes) * _LANE + _AXIS + 12
    return [
        _Strip(i * length, (i + 1) * length, _HEAD + i * height, lanes)
        for i in range(count)
    ]


def _svg(marks: tuple[Mark, ...]) -> Iterator[str]:
    marks = _to_the_end(marks)
    used: set[Lane] = {mark.lane for mark in marks}
    lanes: tuple[Lane, ...] = tuple(lane for lane in LANES if lane in used) or LANES
    strips = _strips(marks, lanes)
    width = _LEFT + _WIDTH + 20
    height = strips[-1].top + strips[-1].height + 10
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    )
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    yield from _legend()
    for strip in strips:
        shown = [mark for mark in marks if strip.shows(mark)]
        yield from _draw_grid(strip)
        yield from _draw_spans(strip, shown)
        yield from _draw_moments(strip, shown)
    yield "</svg>"


def _legend() -> Iterator[str]:
    yield f'<text x="{_LEFT}" y="20" font-size="15">One conversation</text>'
    named = {
        "speech": "the user speaks",
        "sound": "the recorder delivers",
        "up": "connected",
        "audio": "sound comes from the service",
        "text": "text comes",
        "heard": "the response is heard",
        "call": "a tool runs",
    }
    x = _LEFT
    for kind, name in named.items():
        yield f'<rect x="{x}" y="32" width="12" height="12" fill="{_COLOURS[kind]}"/>'
        yield f'<text x="{x + 17}" y="42">{name}</text>'
        x += 34 + round(len(name) * _LETTER)
    yield f'<text x="{x}" y="42" fill="#d62728">✕ died, lost</text>'
    yield f'<text x="{x + 80}" y="42" fill="#2ca02c">▲ is back</text>'


def _draw_grid(strip: _Strip) -> Iterator[str]:
    bottom = strip.top + len(strip.lanes) * _LANE
    for lane in strip.lanes:
        y = strip.y(lane)
        yield f'<text x="8" y="{y + 21}" fill="#333">{lane}</text>'
        yield (
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y + _LANE}" '
            f'y2="{y + _LANE}" stroke="#eeeeee"/>'
        )
    for second in _ticks(strip):
        x = f"{strip.x(second):.1f}"
        yield (
            f'<line x1="{x}" x2="{x}" y1="{strip.top}" y2="{bottom}" '
            f'stroke="#eeeeee"/>'
            f'<text x="{x}" y="{bottom + 14}" fill="#777" text-anchor="middle">'
            f"{_clock(second)}</text>"
        )


def _ticks(strip: _Strip) -> Iterator[float]:
    length = strip.end - strip.start
    steps = (0.5, 1, 2, 5, 10, 30, 60, 300, 900)
    step = next((s for s in steps if length / s <= 16), 3600)
    for i in range(math.ceil(strip.start / step), math.floor(strip.end / step) + 1):
        yield i * step


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return (
        f"{int(minutes)}:{rest:04.1f}"
        if seconds % 1
        else f"{int(minutes)}:{rest:02.0f}"
    )


def _draw_spans(strip: _Strip, marks: list[Mark]) -> Iterator[str]:
    for mark in marks:
        if mark.until is None:
            continue
        x, end = strip.x(mark.at), strip.x(mark.until)
        # Sound that comes all at once is thin; what it says at all is that it came.
        size = max(2.0, end - x)
        thin = mark.kind in ("sound", "text", "up")
        y, height = strip.y(mark.lane) + (12 if thin else 6), 10 if thin else 22
        colour = _COLOURS.get(mark.kind, "#bbbbbb")
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{height}" rx="2" '
            f'fill="{colour}"><title>{_text(_explain(mark))}</title></rect>'
        )
        yield from _label(mark.text, x + 4, size - 8, y + 15, "#ffffff")


def _draw_moments(strip: _Strip, marks: list[Mark]) -> Iterator[str]:
    moments = [m for m in marks if m.until is None and m.at >= strip.start]
    labelled: dict[Lane, float] = {}
    for mark in moments:
        sign, colour = _MOMENTS.get(mark.kind, _PLAIN_MOMENT)
        x, y = strip.x(mark.at), strip.y(mark.lane) + 22
        yield (
            f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-size="15" '
            f'text-anchor="middle">{sign}<title>{_text(_explain(mark))}</title></text>'
        )
        if mark.kind in _LABELLED and x >= labelled.get(mark.lane, 0.0):
            start, room = _free(strip, mark, marks)
            labelled[mark.lane] = start
            height = y - 13 if _is_covered(mark, marks) else y - 1
            yield from _label(mark.text, start, room, height, colour)


def _free(strip: _Strip, mark: Mark, marks: list[Mark]) -> tuple[float, float]:
    """Return where there is room for the label of a moment, and how much."""
    x = strip.x(mark.at)
    places = sorted(strip.x(m.at) for m in marks if m.lane == mark.lane)
    for place in places:  # behind what stands close by
        if x < place <= x + _SIGN:
            x = place
    ahead = (place for place in places if place > x)
    end = min(next(ahead, math.inf), _LEFT + _WIDTH)
    return x + 9, min(_LONGEST_LABEL, end - x - _SIGN)


def _is_covered(mark: Mark, marks: list[Mark]) -> bool:
    """Whether something goes on in the lane of a moment, before and after it."""
    spans = (m for m in marks if m.lane == mark.lane and m.until is not None)
    return any(span.at < mark.at < (span.until or 0) - _SEAM for span in spans)


def _label(text: str, x: float, room: float, y: float, colour: str) -> Iterator[str]:
    """Write as much of *text* as there is room for, or nothing."""
    letters = int(room / _LETTER)
    if not text or letters < 4:
        return
    shown = text if len(text) <= letters else text[: letters - 1] + "…"
    yield f'<text x="{x:.1f}" y="{y}" fill="{colour}">{_text(shown)}</text>'


def _explain(mark: Mark) -> str:
    """Say all about a mark, for who points at it."""
    when = f"{mark.at:.3f} s"
    if mark.until is not None:
        when = f"{when} to {mark.until:.3f} s"
    sound = f", {mark.amount:.2f} s of sound" if mark.amount else ""
    said = f": {mark.text}" if mark.text else ""
    return f"{mark.lane}, {mark.kind}, {when}{sound}{said}"


def _text(text: str) -> str:
    """Return *text* as XML; what XML cannot hold is left out."""
    kept = (c for c in text if c in "\t\n" or " " <= c < "\ud800" or c > "\udfff")
    text = "".join(c for c in kept if c not in "\ufffe\uffff")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
