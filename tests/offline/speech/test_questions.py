from __future__ import annotations

import pytest

from realtalk_async.offline.speech.questions import (
    Hypothesis,
    agreement,
    choose,
    is_question,
)


@pytest.mark.parametrize(
    ("general", "question", "preferred"),
    [
        # All of these are results for the peer's own voice.
        (("what is to class for", -2.0), ("what is two plus four", -1.5), True),
        (("what is a plus eight", -1.9), ("what is eight plus eight", -1.6), True),
        (("what is the data bank", -2.3), ("what is the date today", -1.6), True),
        (("one two three four five", -1.1), ("one times three plus five", -1.2), False),
        (("the quick brown fox", -2.8), ("and three times five", -2.0), False),
        (("what is love", -1.7), ("what is five", -1.5), False),
        (("what is love", -1.7), ("", float("-inf")), False),
    ],
)
def test_a_question_is_chosen_if_it_is_likelier_and_agrees_with_the_general_text(
    general, question, preferred
):
    chosen = choose(Hypothesis(*general), Hypothesis(*question))
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
def test_a_part_of_a_question_is_not_a_question(text, whole):
    assert is_question(text) is whole


def test_homophones_agree():
    assert agreement("what is forty to plus for", "what is forty two plus four") == 1
