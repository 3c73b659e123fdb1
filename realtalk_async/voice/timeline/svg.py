"""
Draws a timeline as SVG, with one track for the user, each process and the service.

The picture shows all speech, the events of the service, the audio that the user heard,
and which processes died and were restarted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from realtalk_async.voice.timeline.marks import TRACKS, Mark, load

if TYPE_CHECKING:
    from realtalk_async.voice.timeline.marks import Track

_WIDTH = 1160  # pixels of the time axis
_LEFT = 100  # pixels for the names of the tracks
_TRACK_HEIGHT = 34
_HEADER_HEIGHT = 64
_AXIS_HEIGHT = 22
_MIN_ROW_SECONDS = 30.0
_MAX_ROWS = 40
_LETTER = 6.2  # pixels of an average letter

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
_SIGNS = {
    "died": ("✕", "#d62728"),
    "lost": ("✕", "#d62728"),
    "given up": ("✕", "#7f0000"),
    "failed": ("!", "#d62728"),
    "error": ("!", "#d62728"),
    "interrupted": ("◀", "#e45756"),
    "restarted": ("▲", "#2ca02c"),
    "restored": ("▲", "#2ca02c"),
    "recycled": ("↻", "#1f77b4"),
    "connected": ("●", "#2ca02c"),
    "ready": ("●", "#2ca02c"),
}
_DEFAULT_SIGN = ("•", "#555555")
_LABELLED = frozenset(
    ("transcript", "completed", "died", "lost", "interrupted", "stalled", "failed")
)
_SPANS = frozenset(("speech", "up", "call"))
_MAX_LABEL = 240.0  # pixels
_SIGN_WIDTH = 14  # pixels
_MIN_OVERLAP = 0.2  # seconds that a span continues behind a moment that it covers


class HasTimeline(Protocol):
    """An object with the marks of a session, such as a `Summary`."""

    @property
    def timeline(self) -> tuple[Mark, ...]:
        """The marks of the session."""
        ...


def render(source: HasTimeline | Iterable[Mark] | str | os.PathLike[str]) -> str:
    """
    Draw a timeline.

    Args:
        source: A session's summary, its marks, or the path of a file of marks.

    Returns:
        The text of an SVG. A row shows half a minute, or more if there would be more than
        forty rows.

    Raises:
        OSError: If the file cannot be read.
        InvalidConfiguration: If a line of the file is no valid mark.
    """
    if isinstance(source, str | os.PathLike):
        marks = load(source)
    elif isinstance(source, Iterable):
        marks = tuple(source)
    else:
        marks = source.timeline
    return "\n".join(_svg(marks))


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the picture; *start* and *end* are in seconds."""

    start: float
    end: float
    top: int
    tracks: tuple[Track, ...]

    def x(self, at: float) -> float:
        share = (min(max(at, self.start), self.end) - self.start) / (
            self.end - self.start
        )
        return _LEFT + share * _WIDTH

    def y(self, track: Track) -> int:
        return self.top + self.tracks.index(track) * _TRACK_HEIGHT

    def shows(self, mark: Mark) -> bool:
        until = mark.at if mark.until is None else mark.until
        return mark.at < self.end and until >= self.start

    @property
    def height(self) -> int:
        return len(self.tracks) * _TRACK_HEIGHT + _AXIS_HEIGHT


def _end(marks: tuple[Mark, ...]) -> float:
    return max((mark.until or mark.at for mark in marks), default=1.0)


def _close_spans(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Extend spans without an end to the end of the picture."""
    end = _end(marks)
    return tuple(
        replace(mark, until=end) if mark.kind in _SPANS and not mark.until else mark
        for mark in marks
    )


def _rows(marks: tuple[Mark, ...], tracks: tuple[Track, ...]) -> list[_Row]:
    end = _end(marks) + 0.5
    count = min(_MAX_ROWS, max(1, math.ceil(end / _MIN_ROW_SECONDS)))
    length = max(end / count, 1.0)
    height = len(tracks) * _TRACK_HEIGHT + _AXIS_HEIGHT + 12
    return [
        _Row(i * length, (i + 1) * length, _HEADER_HEIGHT + i * height, tracks)
        for i in range(count)
    ]


def _svg(marks: tuple[Mark, ...]) -> Iterator[str]:
    marks = _close_spans(marks)
    used: set[Track] = {mark.track for mark in marks}
    tracks: tuple[Track, ...] = (
        tuple(track for track in TRACKS if track in used) or TRACKS
    )
    rows = _rows(marks, tracks)
    width = _LEFT + _WIDTH + 20
    height = rows[-1].top + rows[-1].height + 10
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    )
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    yield from _legend()
    for row in rows:
        shown = [mark for mark in marks if row.shows(mark)]
        yield from _draw_grid(row)
        yield from _draw_spans(row, shown)
        yield from _draw_moments(row, shown)
    yield "</svg>"


def _legend() -> Iterator[str]:
    yield f'<text x="{_LEFT}" y="20" font-size="15">One conversation</text>'
    named = {
        "speech": "the user speaks",
        "sound": "the recorder delivers",
        "up": "connected",
        "audio": "audio comes from the service",
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
    yield f'<text x="{x + 80}" y="42" fill="#2ca02c">▲ restarted, restored</text>'


def _draw_grid(row: _Row) -> Iterator[str]:
    bottom = row.top + len(row.tracks) * _TRACK_HEIGHT
    for track in row.tracks:
        y = row.y(track)
        yield f'<text x="8" y="{y + 21}" fill="#333">{track}</text>'
        yield (
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y + _TRACK_HEIGHT}" '
            f'y2="{y + _TRACK_HEIGHT}" stroke="#eeeeee"/>'
        )
    for second in _ticks(row):
        x = f"{row.x(second):.1f}"
        yield (
            f'<line x1="{x}" x2="{x}" y1="{row.top}" y2="{bottom}" '
            f'stroke="#eeeeee"/>'
            f'<text x="{x}" y="{bottom + 14}" fill="#777" text-anchor="middle">'
            f"{_clock(second)}</text>"
        )


def _ticks(row: _Row) -> Iterator[float]:
    length = row.end - row.start
    steps = (0.5, 1, 2, 5, 10, 30, 60, 300, 900)
    step = next((s for s in steps if length / s <= 16), 3600)
    for i in range(math.ceil(row.start / step), math.floor(row.end / step) + 1):
        yield i * step


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return (
        f"{int(minutes)}:{rest:04.1f}"
        if seconds % 1
        else f"{int(minutes)}:{rest:02.0f}"
    )


def _draw_spans(row: _Row, marks: list[Mark]) -> Iterator[str]:
    for mark in marks:
        if mark.until is None:
            continue
        x, end = row.x(mark.at), row.x(mark.until)
        # A span without a duration still gets 2 pixels, to be seen.
        size = max(2.0, end - x)
        thin = mark.kind in ("sound", "text", "up")
        y, height = row.y(mark.track) + (12 if thin else 6), 10 if thin else 22
        colour = _COLOURS.get(mark.kind, "#bbbbbb")
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{height}" rx="2" '
            f'fill="{colour}"><title>{_text(_explain(mark))}</title></rect>'
        )
        yield from _label(mark.text, x + 4, size - 8, y + 15, "#ffffff")


def _draw_moments(row: _Row, marks: list[Mark]) -> Iterator[str]:
    moments = [m for m in marks if m.until is None and m.at >= row.start]
    labelled: dict[Track, float] = {}
    for mark in moments:
        sign, colour = _SIGNS.get(mark.kind, _DEFAULT_SIGN)
        x, y = row.x(mark.at), row.y(mark.track) + 22
        yield (
            f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-size="15" '
            f'text-anchor="middle">{sign}<title>{_text(_explain(mark))}</title></text>'
        )
        if mark.kind in _LABELLED and x >= labelled.get(mark.track, 0.0):
            start, room = _free(row, mark, marks)
            labelled[mark.track] = start
            height = y - 13 if _is_covered(mark, marks) else y - 1
            yield from _label(mark.text, start, room, height, colour)


def _free(row: _Row, mark: Mark, marks: list[Mark]) -> tuple[float, float]:
    """Return the start of the free space for a moment's label, and its width."""
    x = row.x(mark.at)
    starts = sorted(row.x(m.at) for m in marks if m.track == mark.track)
    for start in starts:  # behind signs close by
        if x < start <= x + _SIGN_WIDTH:
            x = start
    ahead = (start for start in starts if start > x)
    end = min(next(ahead, math.inf), _LEFT + _WIDTH)
    return x + 9, min(_MAX_LABEL, end - x - _SIGN_WIDTH)


def _is_covered(mark: Mark, marks: list[Mark]) -> bool:
    """Return whether a span of the same track covers a moment."""
    spans = (m for m in marks if m.track == mark.track and m.until is not None)
    return any(span.at < mark.at < (span.until or 0) - _MIN_OVERLAP for span in spans)


def _label(text: str, x: float, room: float, y: float, colour: str) -> Iterator[str]:
    """Draw as much of *text* as there is room for."""
    letters = int(room / _LETTER)
    if not text or letters < 4:
        return
    shown = text if len(text) <= letters else text[: letters - 1] + "…"
    yield f'<text x="{x:.1f}" y="{y}" fill="{colour}">{_text(shown)}</text>'


def _explain(mark: Mark) -> str:
    """Return the tooltip of a mark."""
    when = f"{mark.at:.3f} s"
    if mark.until is not None:
        when = f"{when} to {mark.until:.3f} s"
    audio = f", {mark.amount:.2f} s of audio" if mark.amount else ""
    text = f": {mark.text}" if mark.text else ""
    return f"{mark.track}, {mark.kind}, {when}{audio}{text}"


def _text(text: str) -> str:
    """Escape *text* for XML and remove characters that XML does not allow."""
    kept = (c for c in text if c in "\t\n" or " " <= c < "\ud800" or c > "\udfff")
    text = "".join(c for c in kept if c not in "\ufffe\uffff")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
