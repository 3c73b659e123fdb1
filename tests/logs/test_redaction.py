"""Redaction of secrets in messages and JSON."""

import pytest

from realtalk_async.logs.redaction import Secrets
from realtalk_async.logs.serialize import read_json, show_json


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('{"api_key":"abc"}', '{"api_key":"[redacted]"}'),
        ('{"a":{"OPENAI_API_KEY":"x\\"y"},"n":1}', None),
        ('{"headers":{"Authorization":"Bearer ey.abc-12345"}}', None),
        ("Authorization: Bearer abc.def.ghi12345", "Authorization: Bearer [redacted]"),
        ("{'password': 'a\"b'}", "{'password': '[redacted]'}"),
        ("http://x/?api_key=abc&x=1", "http://x/?api_key=[redacted]&x=1"),
        ("key sk-proj-ABCDEFGHIJKLMNOP_1234 end", "key sk-[redacted] end"),
        ("ephemeral ek_68af296e8e408191a1120", "ephemeral ek_[redacted]"),
        ('{"x-api-key":"abc","n":1}', '{"x-api-key":"[redacted]","n":1}'),
        ('{"clientSecret":"abc"}', '{"clientSecret":"[redacted]"}'),
    ],
)
def test_a_text_that_looks_like_a_secret_is_redacted(text, redacted):
    shown = Secrets().redact(text)
    assert "[redacted]" in shown
    if redacted is not None:
        assert shown == redacted
    if text.startswith('{"'):
        assert read_json(shown) is not None


@pytest.mark.parametrize(
    "text",
    [
        "disk-full risk-free task-1",
        '{"max_tokens":4096,"total_token":12}',
        "the bearer of bad news",
        '{"keys":"a","monkey":"b","passing":"c","authors":"d"}',
        "n=3",
        "",
    ],
)
def test_a_text_that_resembles_a_secret_stays_as_it_is(text):
    assert Secrets().redact(text) == text


def test_texts_that_the_app_names_are_redacted_also_when_escaped_in_json():
    secrets = Secrets()
    secrets.add("hunter2", 'a"b', "")
    assert secrets.redact("it is hunter2!") == "it is [redacted]!"
    assert secrets.redact(show_json({"x": 'a"b'})) == '{"x":"[redacted]"}'
    assert secrets.redact("hunter3") == "hunter3"
