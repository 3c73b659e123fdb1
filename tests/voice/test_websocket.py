"""The websocket: handshake, messages, and the meaning of each refusal."""

import asyncio
import http
import socket
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from realtalk_async.exceptions import (
    AuthenticationRefused,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.voice.endpoint import Endpoint
from realtalk_async.voice.websocket import dial, translated_errors


@asynccontextmanager
async def server(handler, **options):
    """Serve *handler* on a free port; yield the endpoint."""
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        port = running.sockets[0].getsockname()[1]
        url = f"ws://127.0.0.1:{port}/v1/realtime?model=m"
        yield Endpoint(url, {"Authorization": "Bearer sk-secret"}, local=True)


def refusing(status, body=""):
    """Return a handler that refuses each handshake with *status*."""

    def refuse(connection, request):
        return connection.respond(http.HTTPStatus(status), body)

    return refuse


async def silent(connection):
    """Accept, and send nothing."""
    await connection.wait_closed()


# --- Dialling ---------------------------------------------------------------------


async def test_messages_are_text_frames_and_the_key_is_in_the_header():
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


async def test_a_message_of_ten_megabytes_is_received():
    async def flood(connection):
        await connection.send("x" * 10_000_000)

    async with (
        asyncio.timeout(120),
        server(flood) as endpoint,
        dial(endpoint) as connection,
    ):
        assert len(await connection.recv(decode=False)) == 10_000_000


async def refusal(process_request):
    """Return the error of a refused handshake."""
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
async def test_the_error_of_a_refused_key_contains_the_text_of_the_service(status):
    error = await refusal(refusing(status, '{"error": "bad\nkey"}'))
    assert isinstance(error, AuthenticationRefused)
    assert f"HTTP {status}" in str(error)
    assert "bad key" in str(error)


async def test_no_message_shows_the_key_that_a_service_quotes():
    error = await refusal(refusing(401, "Incorrect API key provided: sk-secret."))
    assert "provided: [redacted]." in str(error)


async def test_the_address_in_a_message_has_no_password():
    url = "ws://user:pass-word@127.0.0.1:1/?key=pass-word"
    with pytest.raises(ServiceUnreachable) as caught:
        async with dial(Endpoint(url, {}, local=True)):
            pass
    assert "ws://127.0.0.1:1/" in str(caught.value)
    assert "pass-word" not in str(caught.value)


async def test_a_service_that_needs_a_key_and_got_none_says_what_to_give():
    async with server(silent, process_request=refusing(401, "who?")) as endpoint:
        with pytest.raises(AuthenticationRefused, match=r"without a key.*api_key="):
            async with dial(Endpoint(endpoint.url, {}, local=True)):
                pass


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, "no such model", "http_404"),
        (429, "insufficient_quota: pay", "insufficient_quota"),
        (400, "billing_hard_limit_reached", "billing_hard_limit_reached"),
    ],
)
async def test_a_fatal_refusal_has_its_code(status, body, code):
    """The session does not dial again."""
    error = await refusal(refusing(status, body))
    assert isinstance(error, ServiceRefused)
    assert error.code == code


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_the_refusal_of_a_busy_service_is_not_fatal(status):
    error = await refusal(refusing(status))
    assert isinstance(error, ServiceUnreachable)
    assert str(status) in str(error)


async def test_the_error_of_a_closed_port_has_the_address_and_advice():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}/v1/realtime?model=m"
    with pytest.raises(ServiceUnreachable, match="is the peer running"):
        async with asyncio.timeout(120), dial(Endpoint(url, {}, local=True)):
            pass


async def test_a_handshake_without_an_answer_times_out():
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


async def test_the_error_of_another_protocol_says_so():
    """The server may be a mail server."""

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


async def closing_error(close):
    """Return the error of a closed connection, for receiving and sending."""

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
async def test_every_close_by_the_service_is_an_error(code):
    """1001 ends a session after an hour; also 1000 was not the client's close."""
    error = await closing_error(lambda connection: connection.close(code, "bye"))
    assert isinstance(error, ServiceUnreachable)
    assert f"{code}: bye" in str(error)


async def test_a_close_with_a_fatal_code_is_a_fatal_error():
    """The switched-off beta API sends such a code."""
    error = await closing_error(lambda c: c.close(4000, "beta_api_shape_disabled"))
    assert isinstance(error, ServiceRefused)
    assert error.code == "beta_api_shape_disabled"


async def test_the_error_of_a_connection_without_a_close_frame_says_so():
    async def tear(connection):
        connection.transport.abort()

    error = await closing_error(tear)
    assert isinstance(error, ServiceUnreachable)
    assert "broke" in str(error)
