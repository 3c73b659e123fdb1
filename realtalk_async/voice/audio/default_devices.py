"""
Follows the default microphone and speaker of a PulseAudio or PipeWire server.

A program keeps the device with which it began, so a headset that is plugged in would not be
heard. ``pactl info`` tells both defaults; it is asked every few seconds, where it is
installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from realtalk_async.voice.audio.player import Player
from realtalk_async.voice.audio.recorder import Recorder
from realtalk_async.voice.events import SoundProblem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from realtalk_async.voice.audio.hearing import Hearing

_PERIOD = 3.0  # seconds
_LONG_PERIOD = 15.0  # seconds; while there is no server
_TIMEOUT = 3.0  # seconds

_LINE = re.compile(r"^Default (Source|Sink): *(\S+)$", re.MULTILINE)
_MONITOR = re.compile(r"[^\s=]*\.monitor\b|@DEFAULT_MONITOR@")


class Defaults(NamedTuple):
    """The names of the default devices; empty where there is none."""

    source: str = ""
    sink: str = ""


def parse_info(text: str, environment: Mapping[str, str]) -> Defaults:
    """Return the defaults that programs use: PulseAudio's variables come first."""
    found = dict(_LINE.findall(text))
    return Defaults(
        environment.get("PULSE_SOURCE") or found.get("Source", ""),
        environment.get("PULSE_SINK") or found.get("Sink", ""),
    )


def check_command(command: object, hearing: Hearing) -> None:
    """Tell if a command records the monitor of an output."""
    words = cast("Sequence[str]", command)
    check_source(find_monitor(words) or "", hearing)


def make_follower(
    pactl: str | None, recorder: object, player: object, hearing: Hearing
) -> DeviceFollower | None:
    """Return the follower of a session; ``None`` if it uses no default device."""
    followed = recorder if isinstance(recorder, Recorder) else None
    played = player if isinstance(player, Player) else None
    followed = followed if followed and followed.is_default else None
    played = played if played and played.is_default else None
    if pactl is None or (followed is None and played is None):
        return None
    return DeviceFollower(pactl, followed, played, hearing)


def find_monitor(words: Sequence[str]) -> str | None:
    """Return the monitor of an output that a command names as its source, if any."""
    found = (_MONITOR.search(word) for word in words)
    return next((match[0] for match in found if match), None)


class Change(NamedTuple):
    """The new default devices; empty for a side that has not changed."""

    source: str
    sink: str


class DefaultsTracker:
    """Decides which side has another default device than before."""

    def __init__(self) -> None:
        self._known = Defaults()

    def update(self, found: Defaults) -> Change:
        """Return the change; a server that is gone, or has no device, changes nothing."""
        before = self._known
        self._known = Defaults(found.source or before.source, found.sink or before.sink)
        source = found.source if before.source and found.source != before.source else ""
        sink = found.sink if before.sink and found.sink != before.sink else ""
        return Change(source, sink)


class Follower(Protocol):
    """A recorder or a player that can begin anew with another device."""

    def follow(self, name: str) -> None:
        """Restart its program, which opens the default device *name*."""
        ...


class DeviceFollower:
    """
    Asks for the default devices, and lets recorder and player follow them.

    Args:
        pactl: The path of ``pactl``.
        recorder: The recorder of the default microphone; ``None`` for any other.
        player: Likewise.
        hearing: Is told of a microphone that is the monitor of an output.
    """

    def __init__(
        self,
        pactl: str,
        recorder: Follower | None,
        player: Follower | None,
        hearing: Hearing,
    ) -> None:
        self._pactl = pactl
        self._recorder = recorder
        self._player = player
        self._hearing = hearing
        self._tracker = DefaultsTracker()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            found = await read_defaults(self._pactl)
            if found is not None:
                self._apply(found)
            await asyncio.sleep(_LONG_PERIOD if found is None else _PERIOD)

    def _apply(self, found: Defaults) -> None:
        change = self._tracker.update(found)
        if self._recorder is not None:
            check_source(found.source, self._hearing)
            if change.source:
                self._recorder.follow(change.source)
        if self._player is not None and change.sink:
            self._player.follow(change.sink)


def check_source(name: str, hearing: Hearing) -> None:
    """Tell if a source is the monitor of an output."""
    if name.endswith((".monitor", "@DEFAULT_MONITOR@")):
        reason = f"it records an output: {name!r} is a monitor, not a microphone"
        hearing.tell(SoundProblem.MONITOR, reason)
    elif name:
        hearing.problems.pop(SoundProblem.MONITOR, None)


async def read_defaults(pactl: str) -> Defaults | None:
    """
    Return the default devices; ``None`` if there is no server.

    Cancellation: ``pactl`` is killed.
    """
    quiet = asyncio.subprocess.DEVNULL
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        process = await asyncio.create_subprocess_exec(
            *(pactl, "info"),
            stdin=quiet,
            stdout=asyncio.subprocess.PIPE,
            stderr=quiet,
            env=environment,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if process.returncode:
        return None
    return parse_info(output.decode(errors="replace"), os.environ)
