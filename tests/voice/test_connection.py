"""The websocket: where it goes, and what each refusal means. Real sockets."""

import asyncio
import http
import socket
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from realtalk_async.exceptions import (
    AuthenticationRefused,
    InvalidConfiguration,
    MissingApiKey,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.voice.endpoint import Endpoint, find_endpoint
from realtalk_async.voice.websocket import dial, translated_errors

LOCAL = "ws://127.0.0.1:8765/v1/realtime"


@asynccontextmanager
async def server(handler, **options):
    """Serve *handler* on a free port; yield the endpoint."""
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        port = running.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}/v1/realtime?model=m"
        yield Endpoint(url, {"Authorization": "Bearer sk-secret"}, local=True)


def answering(status, body=""):
    """Return what refuses each handshake with *status*."""

    def refuse(connection, request):
        return connection.respond(http.HTTPStatus(status), body)

    return refuse


async def silent(connection):
    """Say nothing."""
    await connection.wait_closed()


# --- Where to dial ----------------------------------------------------------------


def test_the_real_service_gets_the_model_and_the_key_of_the_environment():
    """And no beta header: that API is switched off."""
    endpoint = find_endpoint(None, None, "gpt-x", {"OPENAI_API_KEY": " sk-1 "})
    assert endpoint.url == "wss://api.openai.com/v1/realtime?model=gpt-x"
    assert endpoint.headers == {"Authorization": "Bearer sk-1"}
    assert not endpoint.local


def test_a_key_that_is_given_wins():
    """Over the environment."""
    endpoint = find_endpoint(None, "sk-2", "m", {"OPENAI_API_KEY": "sk-1"})
    assert endpoint.headers == {"Authorization": "Bearer sk-2"}


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": "  "}])
def test_a_missing_key_is_said_with_the_variable_and_the_offline_peer(environ):
    """Before anything is started."""
    with pytest.raises(MissingApiKey) as caught:
        find_endpoint(None, None, "m", environ)
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "realtalk-async peer --port" in str(caught.value)
    assert "ws://127.0.0.1:" in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "[::1]:8765"])
def test_a_local_peer_needs_no_key_and_is_not_sent_one(host):
    """The key of the environment is for the service alone."""
    url = f"ws://{host}/v1/realtime"
    endpoint = find_endpoint(url, None, "m", {"OPENAI_API_KEY": "sk-1"})
    assert endpoint == Endpoint(f"{url}?model=m", {}, local=True)


def test_the_key_of_the_environment_never_goes_to_a_stranger():
    """Nor to a name that only looks like the service's."""
    for host in ("example.org", "api.openai.com.example.org", "notopenai.com"):
        with pytest.raises(MissingApiKey):
            find_endpoint(f"wss://{host}/", None, "m", {"OPENAI_API_KEY": "sk-1"})


def test_azure_has_its_own_header_variable_and_model():
    """The deployment in the address stays."""
    url = "wss://res.openai.azure.com/openai/v1/realtime?model=mine"
    endpoint = find_endpoint(url, None, "m", {"AZURE_OPENAI_API_KEY": "az"})
    assert endpoint.url == url
    assert endpoint.headers == {"api-key": "az"}
    with pytest.raises(MissingApiKey, match="AZURE_OPENAI_API_KEY"):
        find_endpoint(url, None, "m", {"OPENAI_API_KEY": "sk-1"})


def test_other_words_of_the_query_stay():
    """As the faults of the offline peer."""
    endpoint = find_endpoint(f"{LOCAL}?fault=drop", None, "a b", {})
    assert endpoint.url == f"{LOCAL}?fault=drop&model=a+b"


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "peer", "127.0.0.1:80"])
def test_what_is_no_address_is_refused(url):
    """With an example of one."""
    with pytest.raises(InvalidConfiguration, match="ws://127"):
        find_endpoint(url, "key", "m", {})


def test_the_key_is_never_shown():
    """Not in what is printed or logged of the endpoint."""
    assert "sk-1" not in repr(find_endpoint(None, "sk-1", "m", {}))


# --- Dialling ---------------------------------------------------------------------


async def test_messages_go_both_ways_as_text_with_the_key_in_the_header():
    """Bytes in, bytes out; on the wire they are text frames."""
    seen = []

    async def echo(connection):
        seen.append(connection.request.headers["Authorization"])
        seen.append(connection.request.headers.get("OpenAI-Beta"))
        async for message in connection:
            seen.append(message)
            await connection.send(message)

    async with (
        asyncio.timeout(120),
        server(echo) as endpoint,
        dial(endpoint) as connection,
    ):
        await connection.send('{"text": "ü"}'.encode(), text=True)
        assert await connection.recv(decode=False) == '{"text": "ü"}'.encode()
    assert seen == ["Bearer sk-secret", None, '{"text": "ü"}']


async def test_a_message_of_ten_megabytes_comes_through():
    """A long response in one piece."""

    async def flood(connection):
        await connection.send("x" * 10_000_000)

    async with (
        asyncio.timeout(120),
        server(flood) as endpoint,
        dial(endpoint) as connection,
    ):
        assert len(await connection.recv(decode=False)) == 10_000_000


async def refusal(process_request):
    """Return the error that a refused handshake becomes."""
    async with (
        asyncio.timeout(120),
        server(silent, process_request=process_request) as endpoint,
    ):
        with pytest.raises(Exception) as caught:
            async with dial(endpoint):
                pass
    assert "sk-secret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_said_as_such(status):
    """With the service's own words."""
    error = await refusal(answering(status, '{"error": "bad\nkey"}'))
    assert isinstance(error, AuthenticationRefused)
    assert f"HTTP {status}" in str(error)
    assert "bad key" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, "no such model", "http_404"),
        (429, "insufficient_quota: pay", "insufficient_quota"),
        (400, "billing_hard_limit_reached", "billing_hard_limit_reached"),
    ],
)
async def test_a_refusal_for_good_carries_its_code(status, body, code):
    """It is not tried again."""
    error = await refusal(answering(status, body))
    assert isinstance(error, ServiceRefused)
    assert error.code == code


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_service_that_is_busy_may_be_tried_again(status):
    """Another time it may let us in."""
    error = await refusal(answering(status))
    assert isinstance(error, ServiceUnreachable)
    assert str(status) in str(error)


async def test_nobody_listening_is_said_as_such():
    """With the address and what to look at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}/v1/realtime?model=m"
    with pytest.raises(ServiceUnreachable, match="is the peer running"):
        async with asyncio.timeout(120), dial(Endpoint(url, {}, local=True)):
            pass


async def test_a_server_that_accepts_and_says_nothing_is_given_up():
    """Within the time allowed."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}/"
        with pytest.raises(ServiceUnreachable, match=r"within 0\.2 s"):
            async with (
                asyncio.timeout(120),
                dial(Endpoint(url, {}, local=True), open_timeout=0.2),
            ):
                pass


async def test_a_server_that_speaks_something_else_is_said_as_such():
    """A mail server, perhaps."""

    async def greet(reader, writer):
        writer.write(b"220 mail.example.org\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(120):
        running = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with running:
            port = running.sockets[0].getsockname()[1]
            with pytest.raises(ServiceUnreachable):
                async with dial(Endpoint(f"ws://127.0.0.1:{port}/", {}, local=True)):
                    pass


# --- The end of a connection ------------------------------------------------------


async def end_of(close):
    """Return the error that the end of a connection becomes, in both directions."""

    async def handler(connection):
        await close(connection)

    async with (
        asyncio.timeout(120),
        server(handler) as endpoint,
        dial(endpoint) as connection,
    ):
        with pytest.raises(Exception) as received, translated_errors(endpoint):
            await connection.recv(decode=False)
        with pytest.raises(type(received.value)), translated_errors(endpoint):
            await connection.send(b"{}", text=True)
    return received.value


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3999])
async def test_no_end_but_ours_is_clean(code):
    """1001 is how a session ends after an hour; 1000 is not our doing either."""
    error = await end_of(lambda connection: connection.close(code, "bye"))
    assert isinstance(error, ServiceUnreachable)
    assert f"{code}: bye" in str(error)


async def test_a_close_with_a_fatal_code_is_for_good():
    """As the beta API's switch-off says it."""
    error = await end_of(lambda c: c.close(4000, "beta_api_shape_disabled"))
    assert isinstance(error, ServiceRefused)
    assert error.code == "beta_api_shape_disabled"


async def test_a_connection_that_is_torn_is_said_as_such():
    """No close frame came."""

    async def tear(connection):
        connection.transport.abort()

    error = await end_of(tear)
    assert isinstance(error, ServiceUnreachable)
    assert "broke" in str(error)
