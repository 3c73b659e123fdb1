"""Notices responses that follow each other without the user."""

from __future__ import annotations

import re
from collections import deque
from difflib import SequenceMatcher

from realtalk_async.voice.events import SelfTalk
from realtalk_async.voice.protocol.history.tables import forget_oldest

_WORD = re.compile(r"\w+")
_LEAST_WORDS = 3  # of an echo: a user may repeat two words
_ALIKE = 0.8  # share of the words that an echo has in common with a response
_RESPONSES = 4  # last responses of which an echo may be
_MOST_WORDS = 300  # of a response that are compared


class SelfTalkWatch:
    """
    Counts the responses since the last word of the user.

    Speech counts as the user's until its transcript turns out to be the echo of a
    response.

    Args:
        limit: The number of responses in a row after which it is told.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._echoes = 0
        self._told = False
        self._before: dict[str, tuple[int, int]] = {}  # counts before speech, by item
        self._said: deque[list[str]] = deque(maxlen=_RESPONSES)

    def user_acted(self) -> None:
        """Note a text, a request or push-to-talk."""
        self._count = self._echoes = 0
        self._told = False
        self._before.clear()

    def speech_started(self, item_id: str) -> None:
        """Note speech, of the user as it seems."""
        self._before[item_id] = self._count, self._echoes
        forget_oldest(self._before)
        self._count = self._echoes = 0

    def response_ended(self, text: str) -> SelfTalk | None:
        """Note a response; return what is to be told."""
        self._count += 1
        self._said.append(_words(text)[-_MOST_WORDS:])
        return self._tell()

    def transcribed(self, item_id: str, text: str) -> SelfTalk | None:
        """Note the transcript of speech; return what is to be told."""
        count, echoes = self._before.pop(item_id, (0, 0))
        if not self._is_echo(_words(text)):
            self._told = self._told and not text
            return None
        self._count += count
        self._echoes += echoes + 1
        return self._tell()

    def _tell(self) -> SelfTalk | None:
        if self._told or self._count < self._limit:
            return None
        self._told = True
        return SelfTalk(self._count, min(self._echoes, self._count))

    def _is_echo(self, words: list[str]) -> bool:
        if len(words) < _LEAST_WORDS:
            return False
        words = words[:_MOST_WORDS]
        return any(
            _in_common(words, said) >= _ALIKE * len(words) for said in self._said
        )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _in_common(words: list[str], said: list[str]) -> int:
    """Return how many of the words stand in *said* in the same order."""
    blocks = SequenceMatcher(None, words, said, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)
