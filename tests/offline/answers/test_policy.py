from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.offline.answers.policy import (
    STORY,
    Say,
    answer_text,
    choose_answer,
    sentences,
)
from realtalk_async.offline.answers.tools import ToolCall
from realtalk_async.offline.effects import Message, Question

NOW = datetime(2026, 11, 24, 10, 5, tzinfo=UTC)

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
        },
        "required": ["city", "days", "unit"],
    },
}


def asked(text: str, **fields: object) -> Question:
    return Question((Message("user", text),), **fields)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("what is seven plus five", "Seven plus five is twelve."),
        ("What is 10 / 4?", "Ten divided by four is two point five."),
        ("ten over three", "Ten divided by three is about three point three three."),
        ("ten divided by zero", "I cannot divide by zero."),
        ("what time is it", "It is ten oh five."),
        ("what is the day to day", "Today is Tuesday, November 24, 2026."),
        ("hello there", "Hello. How can I help you?"),
        ("good morning how are you", "Hello. I am very well, thank you. "),
        ("thank you", "You are welcome."),
        ("goodbye", "Goodbye."),
        ("and who are you", "I am the offline peer. "),
        ("say the sea is calm", "The sea is calm."),
        ("count to three", "One, two, three."),
        ("tell me a story", STORY),
        ("", "I did not hear anything."),
        ("i like green tea", "You said: I like green tea."),
        ("where is the cat", "You said: Where is the cat?"),
    ],
)
def test_each_rule_answers_its_kind_of_question(text, answer):
    assert answer_text(text, NOW).startswith(answer)


def test_the_full_hour_has_no_minutes():
    assert answer_text("what time is it", NOW.replace(minute=0)) == "It is ten o'clock."


@given(st.text())
def test_every_text_gets_an_answer(text: str):
    assert answer_text(text, NOW)


@given(st.text())
def test_splitting_into_sentences_keeps_every_word(text: str):
    assert " ".join(sentences(text)).split() == text.split()


def test_a_sentence_has_300_characters_at_most():
    """Synthesis of a long one would delay the interruption."""
    assert max(map(len, sentences("word " * 4000))) <= 300


def test_the_newest_user_message_is_answered():
    said = (
        Message("user", "hello"),
        Message("assistant", "Hello."),
        Message("user", "what is one plus one"),
        Message("system", "The light is on."),
    )
    assert choose_answer(Question(said), NOW) == Say("One plus one is two.")


def test_an_empty_conversation_gets_a_greeting():
    assert choose_answer(Question(()), NOW) == Say("Hello. How can I help you?")


def test_instructions_of_a_response_can_dictate_the_answer():
    question = asked("hello", instructions='Say exactly: "All is well."')
    assert choose_answer(question, NOW) == Say("All is well.")


def test_a_tool_named_in_the_question_is_called_with_values_from_it():
    text = "What is the weather in kelvin for 3 days in Cape Town?"
    call = choose_answer(asked(text, tools=(WEATHER,)), NOW)
    assert isinstance(call, ToolCall)
    assert call.name == "get_weather"
    arguments = json.loads(call.arguments)
    assert arguments == {"city": "Cape Town", "days": 3, "unit": "kelvin"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "number"}, 2.5),
        ({"type": "boolean"}, True),
        ({"type": "array"}, []),
        ({"type": "object"}, {}),
        ({}, "the lamp to 2.5"),
    ],
)
def test_each_parameter_gets_a_value_of_its_type(schema, value):
    tool = {
        "type": "function",
        "name": "set_lamp",
        "parameters": {"type": "object", "properties": {"level": schema}},
    }
    call = choose_answer(asked("the lamp to 2.5", tools=(tool,)), NOW)
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"level": value}


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", False),
        ("none", False),
        ("required", True),
        ({"type": "function", "name": "get_weather"}, True),
    ],
)
def test_the_tool_choice_is_respected(choice, called):
    answer = choose_answer(asked("hello", tools=(WEATHER,), tool_choice=choice), NOW)
    assert isinstance(answer, ToolCall) is called


def test_tool_choice_none_prevents_the_call_of_a_named_tool():
    question = asked("the weather", tools=(WEATHER,), tool_choice="none")
    assert isinstance(choose_answer(question, NOW), Say)


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('{"sky": "blue", "wind": 3}', "The answer is: sky blue, wind 3."),
        ("42", "The answer is: 42."),
        ("It rains.", "The answer is: It rains."),
    ],
)
def test_a_tools_output_is_spoken(output, answer):
    said = (Message("user", "the weather"), Message("tool", output))
    assert choose_answer(Question(said), NOW) == Say(answer)
