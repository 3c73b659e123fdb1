"""Decides here, and not at the service, whether the user's speech interrupts a response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from realtalk_async import arguments
from realtalk_async.voice.events import SpeechIgnored
from realtalk_async.voice.protocol.hearing.frames import (
    FRAME_SECONDS,
    LOWEST_DBFS,
    Framer,
    to_dbfs,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtalk_async.voice.events import InterruptionPending

Decide: TypeAlias = "Callable[[InterruptionPending], bool | Awaitable[bool]]"


@dataclass(frozen=True, slots=True)
class InterruptWhen:
    """
    When speech during a response interrupts it; other speech is not answered.

    With it, the service neither interrupts a response nor starts one by itself: the
    session does both, after its own decision.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    speech_ms: float = 0
    """The least milliseconds of speech, from when the service noticed it."""
    level_dbfs: float = LOWEST_DBFS
    """The least level of the speech; a voice near the microphone has -35 to -15."""
    decide: Decide | None = None
    """
    Decides about speech that is long and loud enough: a function, async or not, that gets
    the `InterruptionPending` and returns whether the speech interrupts.
    """
    timeout: float = 0.5
    """Seconds that the function may take; after them the speech interrupts."""

    def __post_init__(self) -> None:
        arguments.number("speech_ms", self.speech_ms, of="milliseconds", minimum=0)
        arguments.number("level_dbfs", self.level_dbfs, minimum=-200, maximum=0)
        if self.decide is not None:
            arguments.function("decide", self.decide)
        arguments.number("timeout", self.timeout, of="seconds", more_than=0)


def as_interrupt_when(value: InterruptWhen | Decide | None) -> InterruptWhen | None:
    """
    Return the value itself, or what a function of the app stands for.

    Raises:
        InvalidConfiguration: If it is neither, nor None.
    """
    if value is None or isinstance(value, InterruptWhen):
        return value
    allowed = "InterruptWhen(…), a function"
    arguments.like("interrupt_when", value, allowed, "__call__", optional=True)
    return InterruptWhen(decide=value)


class BargeIn:
    """
    The decisions about the turns of the user.

    Args:
        when: When speech interrupts; ``None`` to leave that to the service.
    """

    def __init__(self, when: InterruptWhen | None) -> None:
        self.when = when
        self._framer = Framer()
        self._is_open = False  # speech during a response, not yet long and loud enough
        self._asked = False  # the function of the app decides
        self._counts = False
        """Whether the turn is answered."""
        self._committed = False
        self._frames = 0
        self._power = 0.0

    def speech_started(self, *, during_response: bool) -> None:
        """Note that the service noticed speech."""
        self._framer = Framer()
        self._is_open, self._counts = during_response, not during_response
        self._asked = self._committed = False
        self._frames, self._power = 0, 0.0

    def add(self, pcm: bytes) -> bool:
        """Add audio of the microphone; return whether the speech is to interrupt now."""
        if self.when is None or not self._is_open:
            return False
        for frame in self._framer.push(pcm):
            if frame.dbfs >= self.when.level_dbfs:
                self._frames += 1
                self._power += frame.mean_square
        if not self._frames or self.speech_ms < self.when.speech_ms:
            return False
        self._is_open, self._asked = False, True
        return True

    @property
    def speech_ms(self) -> float:
        """How much of the speech was loud enough."""
        return self._frames * FRAME_SECONDS * 1000

    @property
    def dbfs(self) -> float:
        """The mean level of that speech."""
        return to_dbfs(self._power / max(1, self._frames))

    def speech_stopped(self) -> bool:
        """Return whether the speech was too short or too quiet to interrupt."""
        was_open, self._is_open = self._is_open, False
        return was_open

    def committed(self) -> bool:
        """Note that the service took the turn; return whether it is answered now."""
        self._committed = True
        return self._counts

    def decided(self, *, interrupts: bool) -> bool:
        """Note the decision; return whether a turn that is complete is answered now."""
        was_asked, self._asked = self._asked, False
        if was_asked:
            self._counts = interrupts
        return was_asked and interrupts and self._committed

    def ignored(self, reason: str) -> SpeechIgnored:
        """Return the event for speech that does not interrupt."""
        return SpeechIgnored(self.speech_ms, self.dbfs, reason)

    @property
    def is_asked(self) -> bool:
        """Whether a decision is awaited."""
        return self._asked
