from __future__ import annotations

import re

import pytest

from realtalk_async import InvalidConfiguration
from realtalk_async.offline import Failure, ToolCall
from realtalk_async.offline.scripting.replies import InvalidReply
from realtalk_async.offline.scripting.script import Script


def test_a_text_is_compared_without_case_and_punctuation():
    script = Script([("What's  the time?", "Noon."), ("no", "Yes.")])
    assert script.take("what's the time") == "Noon."
    with pytest.raises(InvalidReply, match=r"step 2 .* 'no', but got 'no, thanks'"):
        script.take("no, thanks")
    assert script.take("No!") == "Yes."


def test_a_step_may_be_a_pattern_a_function_or_any_words():
    call = ToolCall("f", {"a": 1})
    script = Script(
        [(re.compile("sun"), "Sunny."), (str.isdigit, call), (None, "End.")]
    )
    assert script.take("a sunny day") == "Sunny."
    assert script.take("42") == call
    assert script.take("") == "End."
    assert script.missing() == ""


def test_a_script_tells_what_is_missing():
    script = Script([(re.compile("a|b"), "One."), (None, "Two.")])
    assert "0 of 2 steps" in script.missing()
    assert "step 1 expects the pattern 'a|b'" in script.missing()
    script.take("a")
    assert "step 2 expects any words" in script.missing()


def test_a_script_that_is_over_refuses_more_words():
    script = Script([("hello", "Hello.")])
    script.take("hello")
    with pytest.raises(InvalidReply, match=r"script is over .*got 'bye'"):
        script.take("bye")
    with pytest.raises(InvalidReply, match="it has no step"):
        Script([]).take("bye")


def test_a_function_of_a_step_that_raises_is_named():
    def strict(text: str) -> bool:
        raise ValueError(text)

    with pytest.raises(InvalidReply, match=r"strict\(\) accepts raised ValueError"):
        Script([(strict, "x")]).take("hello")


@pytest.mark.parametrize(
    "step", ["hello", ("hello",), ("a", "b", "c"), (5, "a"), ("a", 5), ("a", [5]), None]
)
def test_a_step_that_is_no_pair_is_refused(step):
    with pytest.raises(InvalidConfiguration, match=r"script\[0\] must be a pair"):
        Script([step])


def test_the_arguments_of_a_call_are_a_dict_or_any_text():
    assert ToolCall("f", {"city": "Paris"}).text == '{"city": "Paris"}'
    assert ToolCall("f").text == "{}"
    assert ToolCall("f", "{broken").text == "{broken"
    for wrong in (5, {"a": object()}, None):
        with pytest.raises(InvalidConfiguration, match="arguments must be"):
            ToolCall("f", wrong)
    with pytest.raises(InvalidConfiguration, match="code must be"):
        Failure("")
