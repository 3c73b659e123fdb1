"""Which of two hearings to believe."""

from __future__ import annotations

import pytest

from realtalk_async.offline.speech.questions import (
    Hearing,
    agreement,
    is_question,
    prefer,
)


@pytest.mark.parametrize(
    ("general", "question", "preferred"),
    [
        # All of these were heard so, on the peer's own voice.
        (("what is to class for", -2.0), ("what is two plus four", -1.5), True),
        (("what is a plus eight", -1.9), ("what is eight plus eight", -1.6), True),
        (("what is the data bank", -2.3), ("what is the date today", -1.6), True),
        (("one two three four five", -1.1), ("one times three plus five", -1.2), False),
        (("the quick brown fox", -2.8), ("and three times five", -2.0), False),
        (("what is love", -1.7), ("what is five", -1.5), False),
        (("what is love", -1.7), ("", float("-inf")), False),
    ],
)
def test_sound_and_words_must_both_speak_for_the_question(general, question, preferred):
    """A likelier question that shares no words is not believed, nor the reverse."""
    chosen = prefer(Hearing(*general), Hearing(*question))
    assert chosen == (question if preferred else general)[0]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("what is two plus four", True),
        ("what time is it", True),
        ("what is thirty eight", False),
        ("what is two plus four times", False),
        ("one hundred plus two hundred", True),
        ("", False),
    ],
)
def test_half_a_question_is_none(text, whole):
    """The recogniser may have stopped in the middle."""
    assert is_question(text) is whole


def test_homophones_agree():
    """To a listener they are the same."""
    assert agreement("what is forty to plus for", "what is forty two plus four") == 1
