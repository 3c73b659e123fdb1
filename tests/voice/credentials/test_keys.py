"""A key appears nowhere, whatever fails: each failure is made, and everything is searched."""

from __future__ import annotations

import asyncio
import http
import logging
import os
import traceback
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson
import pytest
from websockets.asyncio.server import serve

import realtalk_async
from realtalk_async import InvalidConfiguration, ProcessManager, Stream
from realtalk_async.exceptions import (
    AuthenticationRefused,
    RealtalkError,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.offline import Peer
from realtalk_async.voice.credentials.api_key import ApiKey, as_key
from realtalk_async.voice.credentials.hiding import Secrets, shown_url
from realtalk_async.voice.endpoint import find_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

KEY = 'sk-proj-Zx/9+7"q\\w-Secret'
FORMS = (KEY, quote(KEY), quote(KEY, safe=""), orjson.dumps(KEY).decode()[1:-1])
PACKAGE = str(Path(realtalk_async.__file__).parent)


def assert_no_key(what: str, text: str) -> None:
    """Fail if *text* has the key, in any of its spellings."""
    for form in FORMS:
        assert form not in text, (
            f"{what} has the key: …{text[: text.index(form)][-200:]}"
        )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception with its causes and contexts."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        yield from chain(error.__context__)


def assert_no_key_in(error: BaseException) -> None:
    """Search an exception, its chain, and the local variables of our frames."""
    for each in chain(error):
        for what, shown in (("str", str(each)), ("repr", repr(each))):
            assert_no_key(f"{what} of {type(each)}", shown)
        assert_no_key(f"args of {type(each)}", repr(each.args))
        assert_no_key(f"fields of {type(each)}", repr(vars(each)))
        told = traceback.TracebackException.from_exception(each, capture_locals=True)
        for frame in told.stack:
            if frame.filename.startswith(PACKAGE):
                shown = repr(frame.locals)
                assert_no_key(f"the variables of {frame.name}", shown)
    assert_no_key("traceback", "".join(traceback.format_exception(error)))


@pytest.fixture
def searched(tmp_path, logger, caplog):
    """Return a function that runs a session and searches everything that it leaves."""
    caplog.set_level(logging.DEBUG)

    async def run(url: str, **options: object) -> BaseException | None:
        silent = {"microphone": None, "speaker": None}
        stream = Stream(
            **{"logger": logger, "url": url, "api_key": KEY, **silent, **options}
        )
        seen: list[str] = []
        stream.subscribe(
            lambda event: seen.append(f"{event!r} {event} {event.to_dict()}")
        )
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(60), stream:
                await stream.send_text("hello", trigger_response=True)
        except RealtalkError as error:
            failure = error
            assert_no_key_in(error)
        assert_no_key("an event", "".join(seen))
        assert_no_key("the stream", repr(stream))
        assert_no_key("the event log", repr([e.to_dict() for e in stream.eventlog]))
        assert_no_key("the metrics", repr(stream.metrics()))
        assert_no_key("the summary", str(stream.summary()) + repr(stream.summary()))
        assert_no_key("the log", (tmp_path / "app.log").read_text())
        ours = [r.getMessage() for r in caplog.records if r.name != "websockets.server"]
        assert_no_key("the package logging", "\n".join(ours))
        return failure

    return run


def quoting(status: int, **headers: str) -> Callable[..., Response]:
    """Refuse each handshake with a body and headers that quote the key."""

    def refuse(connection: ServerConnection, _request: Request) -> Response:
        body = orjson.dumps({"error": {"message": f"not right: {KEY}"}}).decode()
        answer = connection.respond(http.HTTPStatus(status), body)
        answer.headers.update({"X-Quoted": KEY.replace('"', ""), **headers})
        answer.headers["X-Key"] = KEY
        return answer

    return refuse


@asynccontextmanager
async def server(
    handler: Callable[..., object] | None = None, **options: object
) -> AsyncIterator[str]:
    """Serve on a free port; yield the URL."""

    async def close(connection: ServerConnection) -> None:
        await connection.close(1008, f"bad key {KEY}")

    async with serve(handler or close, "127.0.0.1", 0, **options) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/v1/realtime"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_no_key_in_a_refusal_that_quotes_it(searched, status):
    async with server(process_request=quoting(status)) as url:
        error = await searched(url)
    assert "[redacted]" in str(error)
    refused = AuthenticationRefused if status in (401, 403) else RealtalkError
    assert isinstance(error, refused)


async def test_no_key_in_a_close_frame_that_quotes_it(searched):
    async with server() as url:
        error = await searched(url)
    assert "bad key [redacted]" in str(error)


async def test_no_key_goes_to_another_server_by_a_redirect(searched):
    seen: list[object] = []

    async def other(connection: ServerConnection) -> None:
        seen.append(connection.request)

    async with server(other) as target:
        where = f"{target}?api-key={quote(KEY)}"
        async with server(process_request=quoting(307, Location=where)) as url:
            error = await searched(url)
    assert isinstance(error, ServiceRefused)
    assert f"redirects to {target}" in str(error)
    assert seen == []


async def test_no_key_in_events_that_quote_it(searched, tmp_path):
    async with Peer() as peer:

        async def quote_the_key() -> None:
            await peer.wait_received("response.create", timeout=60)
            error = {"type": "x", "code": "odd", "message": KEY, "param": KEY}
            await peer.send({"type": "error", "event_id": "e", "error": error})
            await peer.send({"type": "odd.event", "event_id": KEY, KEY: [KEY]})

        task = asyncio.create_task(quote_the_key())
        assert await searched(peer.url) is None
        await task
    log = (tmp_path / "app.log").read_text()
    assert "odd" in log
    assert "[redacted]" in log


async def test_no_key_in_failures_of_the_network(searched):
    refused = "ws://127.0.0.1:1/v1/realtime"
    unknown = "wss://no-such-host.invalid/v1/realtime"
    for url in (refused, unknown):
        error = await searched(f"{url}?api-key={quote(KEY, safe='')}")
        assert isinstance(error, ServiceUnreachable)
        user = url.replace("//", f"//{quote(KEY, safe='')}@")
        assert isinstance(await searched(user), ServiceUnreachable)
        both = url.replace("//", f"//me:{quote(KEY, safe='')}@")
        assert isinstance(await searched(both, api_key=None), ServiceUnreachable)


async def test_no_key_in_a_failure_of_tls(searched):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no TLS here: " + KEY.encode())
        writer.close()

    plain = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    async with plain:
        error = await searched(f"wss://127.0.0.1:{port}/realtime?key={quote(KEY)}")
    assert isinstance(error, ServiceUnreachable)
    assert "SSL" in str(error)


@pytest.mark.parametrize(
    "proxy", ["http://me:{}@127.0.0.1:1", "nonsense://me:{}@x", "http://{}@127.0.0.1:1"]
)
async def test_no_key_of_a_proxy_in_a_failure(searched, monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy.format(quote(KEY, safe="")))
    monkeypatch.delenv("no_proxy", raising=False)
    error = await searched("wss://no-such-host.invalid/v1/realtime")
    assert isinstance(error, ServiceUnreachable)


@pytest.mark.parametrize(
    "url",
    ["https://me:{}@host/", "wss://host:port/?api-key={}", "me:{}@host", "wss:?k={}"],
)
def test_no_key_in_the_error_of_an_invalid_url(url):
    with pytest.raises(InvalidConfiguration) as caught:
        Stream(url=url.format(quote(KEY, safe="")))
    assert_no_key("message", str(caught.value))


@pytest.mark.parametrize("key", [f"{KEY}\u200b", f"{KEY}\nx", KEY.encode(), [KEY], 5])
def test_no_key_in_the_error_of_an_invalid_key(key):
    with pytest.raises(InvalidConfiguration, match="api_key") as caught:
        Stream(api_key=key)
    assert_no_key_in(caught.value)


def test_no_key_of_the_environment_in_the_error_of_a_missing_one(monkeypatch):
    environ = {"OPENAI_API_KEY": KEY, **os.environ}
    with pytest.raises(RealtalkError) as caught:
        find_endpoint("wss://x.openai.azure.com/openai/v1/realtime", None, "m", environ)
    assert_no_key_in(caught.value)


def test_no_key_in_the_repr_of_an_endpoint():
    for url in (f"wss://h/?sig={quote(KEY)}", f"wss://me:{quote(KEY, safe='')}@h/a"):
        endpoint = find_endpoint(url, KEY, "m", {})
        assert_no_key("endpoint", repr(endpoint) + repr(endpoint.headers))
        assert endpoint.url.startswith(url)
    assert repr(as_key(KEY)) == "'[redacted]'"
    assert f"{as_key(KEY)}" == KEY


def test_secrets_are_hidden_in_all_their_spellings():
    secrets = Secrets("wss://h/?model=gpt-realtime-2.1", {"api-key": ApiKey(KEY)})
    for form in FORMS:
        assert secrets.hide(f"<{form}>") == "<[redacted]>"
        assert secrets.hide_bytes(f"<{form}>".encode()) == b"<[redacted]>"
    assert secrets.hide("gpt-realtime-2.1") == "gpt-realtime-2.1"


def test_words_that_happen_to_be_a_password_stay_in_events():
    secrets = Secrets("wss://user:assistant@h/?token=completed", {})
    event = b'{"role": "assistant", "status": "completed"}'
    assert secrets.hide_bytes(event) == event
    assert secrets.hide("wss://user:assistant@h/") == "wss://[redacted]@h/"


def test_a_shown_url_has_neither_user_nor_query():
    assert shown_url("wss://a:b@h:1/p?x=1#f") == "wss://h:1/p?…"


async def test_no_key_in_environment_and_command_line_of_our_programs(
    monkeypatch, tmp_path, logger
):
    """A command of the app gets the whole environment: it may speak with a service."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    environments: dict[str, bytes] = {}
    async with (
        asyncio.timeout(60),
        Peer() as peer,
        ProcessManager(logger) as manager,
        Stream(
            process_manager=manager,
            url=peer.url,
            api_key=KEY,
            microphone=["cat", "/dev/zero"],
            speaker=tmp_path / "speaker.wav",
        ),
    ):
        for name in ("recorder", "player"):
            folder = Path(f"/proc/{manager.processes[name].pid}")
            environments[name] = (folder / "environ").read_bytes()
            assert_no_key("command line", (folder / "cmdline").read_text())
    assert KEY.encode() in environments["recorder"]
    assert b"PATH=" in environments["player"]
    assert_no_key("the player's environment", environments["player"].decode())
