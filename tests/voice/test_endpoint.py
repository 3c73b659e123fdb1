"""The endpoint of a session: address, model and key."""

import pytest

from realtalk_async.exceptions import (
    InvalidConfiguration,
    MissingApiKey,
)
from realtalk_async.voice.endpoint import Endpoint, find_endpoint

LOCAL = "ws://127.0.0.1:8765/v1/realtime"


def test_the_real_service_gets_the_model_and_the_key_of_the_environment():
    """The beta header is not sent: the service has switched that API off."""
    endpoint = find_endpoint(None, None, "gpt-x", {"OPENAI_API_KEY": " sk-1 "})
    assert endpoint.url == "wss://api.openai.com/v1/realtime?model=gpt-x"
    assert endpoint.headers == {"Authorization": "Bearer sk-1"}
    assert not endpoint.local


def test_a_given_key_overrides_the_environment():
    endpoint = find_endpoint(None, "sk-2", "m", {"OPENAI_API_KEY": "sk-1"})
    assert endpoint.headers == {"Authorization": "Bearer sk-2"}


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": "  "}])
def test_the_error_of_a_missing_key_names_the_variable_and_the_offline_peer(environ):
    with pytest.raises(MissingApiKey) as caught:
        find_endpoint(None, None, "m", environ)
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "realtalk-async peer --port" in str(caught.value)
    assert "ws://127.0.0.1:" in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "[::1]:8765"])
def test_a_local_peer_needs_no_key_and_gets_none(host):
    """The key of the environment is for the service only."""
    url = f"ws://{host}/v1/realtime"
    endpoint = find_endpoint(url, None, "m", {"OPENAI_API_KEY": "sk-1"})
    assert endpoint == Endpoint(f"{url}?model=m", {}, local=True)


def test_the_key_of_the_environment_is_sent_to_the_service_only():
    """A host whose name only resembles the service's does not get it."""
    for host in ("example.org", "api.openai.com.example.org", "notopenai.com"):
        url = f"wss://{host}/"
        endpoint = find_endpoint(url, None, "m", {"OPENAI_API_KEY": "sk-1"})
        assert endpoint.headers == {}


@pytest.mark.parametrize("url", ["ws://10.0.0.5:1/v1", "ws://peer.local:8765/v1"])
def test_a_service_on_another_machine_needs_no_key(url):
    assert find_endpoint(url, None, "m", {}).headers == {}
    assert find_endpoint(url, "k", "m", {}).headers == {"Authorization": "Bearer k"}


@pytest.mark.parametrize(
    "key",
    ["sk-a\n", " sk-a ", "\tsk-a", "sk-a\u00a0", "Bearer sk-a", "bearer  sk-a\r\n"],
)
@pytest.mark.parametrize("source", ["argument", "environment"])
def test_blanks_around_a_key_are_left_out(key, source):
    given, environ = (
        (key, {}) if source == "argument" else (None, {"OPENAI_API_KEY": key})
    )
    endpoint = find_endpoint(None, given, "m", environ)
    assert endpoint.headers == {"Authorization": "Bearer sk-a"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("\u201csk-secret\u201d", "LEFT DOUBLE QUOTATION MARK"),
        ("sk-\u200bsecret", "ZERO WIDTH SPACE"),
        ("sk-secret\nsk-secret", "control character"),
        ("sk-secret\x00", "control character"),
        ("sk-\ud800secret", "control character"),
        ("\u0455k-secret", "CYRILLIC SMALL LETTER DZE"),
    ],
)
@pytest.mark.parametrize("source", ["api_key", "OPENAI_API_KEY"])
def test_a_key_that_no_header_can_carry_is_refused_by_its_character(key, name, source):
    given, environ = (key, {}) if source == "api_key" else (None, {source: key})
    with pytest.raises(InvalidConfiguration, match=name) as caught:
        find_endpoint(None, given, "m", environ)
    assert str(caught.value).startswith(source)
    assert "secret" not in str(caught.value)


def test_azure_has_its_own_header_variable_and_model():
    """The deployment in the address is unchanged."""
    url = "wss://res.openai.azure.com/openai/v1/realtime?model=mine"
    endpoint = find_endpoint(url, None, "m", {"AZURE_OPENAI_API_KEY": "az"})
    assert endpoint.url == url
    assert endpoint.headers == {"api-key": "az"}
    with pytest.raises(MissingApiKey, match="AZURE_OPENAI_API_KEY"):
        find_endpoint(url, None, "m", {"OPENAI_API_KEY": "sk-1"})


def test_other_parameters_of_the_query_are_kept():
    """Such as the faults of the offline peer."""
    endpoint = find_endpoint(f"{LOCAL}?fault=drop", None, "a b", {})
    assert endpoint.url == f"{LOCAL}?fault=drop&model=a+b"


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "peer", "127.0.0.1:80"])
def test_an_invalid_address_is_refused_with_an_example(url):
    with pytest.raises(InvalidConfiguration, match="ws://127"):
        find_endpoint(url, "key", "m", {})


def test_the_repr_of_an_endpoint_contains_no_key():
    assert "sk-1" not in repr(find_endpoint(None, "sk-1", "m", {}))
