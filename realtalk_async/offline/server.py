"""
A realtime service on this machine: it hears, answers and speaks without a network.

It speaks the OpenAI Realtime protocol (GA) on a websocket, so whatever talks to the
service talks to it: no key, no sound card and no internet are needed, and faults come
on demand (see `realtalk_async.offline.faults`).

Where it is not as the service is:

- Audio is 24 kHz PCM; G.711 is refused with ``invalid_value``.
- It has policies, no model: see `realtalk_async.offline.answers.policy`. Images, MCP tools,
  reasoning and prompts are accepted and have no effect.
- ``semantic_vad`` is a silence whose length goes by its eagerness.
- ``idle_timeout_ms`` is counted in audio that came in, not by a clock.
- An utterance lasts 2 minutes at most. With turn detection a longer one becomes two
  turns, without it ``input_audio_buffer_full`` asks for a commit.
- Only the newest 4 minutes of audio can be retrieved with their items.
- Who speaks many times faster than real time is read no faster than it is heard.
"""

from __future__ import annotations

import asyncio
import http
import logging
import math
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

import anyio
import orjson
from websockets.asyncio.server import serve

from realtalk_async.exceptions import InvalidConfiguration, NotStarted
from realtalk_async.offline.connection import Link
from realtalk_async.offline.faults import (
    FATAL,
    NOW,
    Fault,
    Faults,
    Wire,
    error_event,
)
from realtalk_async.offline.session import Turns
from realtalk_async.offline.speech.recogniser import Speech

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request, Response

    from realtalk_async.offline.effects import JsonObject
    from realtalk_async.offline.speech.recogniser import Recogniser

PATH = "/v1/realtime"
"""Where it is served; any path that ends in ``/realtime`` will do."""

_MAX_MESSAGE = 16 * 2**20
_CLOSE_TIMEOUT = 1.0
_BETA_HEADER = "OpenAI-Beta"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """An event that a client sent."""

    connection: int
    """Which connection it came on, from 1."""
    at: float
    """When, by `time.monotonic`."""
    event: JsonObject = field(repr=False)

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.event.get("type"))


class Peer:
    """
    The offline peer, an async context manager.

    ::

        async with Peer() as peer:
            peer.fault("drop:5")
            await client_under_test(peer.url)
            assert peer.types().count("session.update") == 2

    Args:
        port: The TCP port; 0 takes a free one.
        host: The address to listen on: by default only this machine can connect.
        pace: Seconds of an answer's audio sent per second, 0 for no limit. The service
            is far ahead of the listener as well.
        lifetime: Seconds until a session expires, as the service's do.
        record: Whether to keep what clients send in `received`. It keeps audio too,
            64 kB a second of it: turn it off for a peer that runs for long.
        faults: Faults that strike on each connection, as those of a URL do.
        recogniser: What it hears with: ``"sphinx"`` is fast and made for its own voice,
            ``"whisper"`` understands humans and needs the extra ``human``.

    Raises:
        InvalidConfiguration: If there is no such recogniser, or no such fault.

    A URL may say otherwise for its connection: ``pace=1``, ``lifetime=2``, and
    ``fault=…`` as often as wanted.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        pace: float = 20.0,
        lifetime: float = 3600.0,
        record: bool = True,
        faults: Iterable[str | Fault] = (),
        recogniser: Recogniser = "sphinx",
    ) -> None:
        self.received: list[Received] = []
        """Each event of each client, in the order of their arrival."""
        self.connections = 0
        """How many clients have connected so far."""
        self._port = port
        self._host = host
        self._pace = pace
        self._lifetime = lifetime
        self._record = record
        self._speech = Speech(recogniser)
        self._faults = Faults()
        self._each = _read(faults)
        self._links: set[Link] = set()
        self._server: Server | None = None
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        state = self.url if self._server else "not running"
        return f"<Peer {state}, {self.connections} connections>"

    @property
    def url(self) -> str:
        """
        Where to connect to.

        Raises:
            NotStarted: Outside the ``async with`` block.
        """
        if self._server is None:
            raise NotStarted("the offline peer is not running: use `async with Peer()`")
        return f"ws://{self._host}:{self._port}{PATH}"

    def fault(self, fault: str | Fault) -> None:
        """
        Arm a fault: it strikes once, on whichever connection its event comes first.

        One that ends in ``@now`` strikes at once instead, on all open connections.

        Raises:
            InvalidConfiguration: If there is no such fault, or nobody to strike now.
        """
        fault = Fault.parse(fault) if isinstance(fault, str) else fault
        if fault.event != NOW:
            self._faults.arm(fault)
            return
        if not self._links:
            message = f"{fault.kind}@{NOW} strikes nobody: no client is connected"
            raise InvalidConfiguration(message)
        for link in self._links:
            link.strike(fault)

    def types(self, connection: int | None = None) -> list[str]:
        """Return the types of the received events, of one connection or of all."""
        return [r.type for r in self.received if connection in (None, r.connection)]

    async def wait_received(
        self, event_type: str, *, count: int = 1, timeout: float = 10.0
    ) -> Received:
        """
        Wait until the *count*-th event of that type has come, counted from the start.

        Raises:
            TimeoutError: If it has not within *timeout* seconds.
        """
        with anyio.fail_after(timeout):
            while True:
                found = [r for r in self.received if r.type == event_type]
                if len(found) >= count:
                    return found[count - 1]
                self._news.clear()
                await self._news.wait()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Close all connections with 1001 and end. Idempotent, done within about 2 s.

        Cancellation: It is carried through all the same.
        """
        with anyio.CancelScope(shield=True):
            server, self._server = self._server, None
            if server is not None:
                server.close()
                await server.wait_closed()
            await self._speech.aclose()

    async def _start(self) -> None:
        await self._speech.load()
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            process_request=self._admit,
            compression=None,
            max_size=_MAX_MESSAGE,
            close_timeout=_CLOSE_TIMEOUT,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake that the service would refuse, or let it pass."""
        address = urlsplit(request.path)
        key = request.headers.get("Authorization") or request.headers.get("api-key", "")
        if not address.path.endswith("/realtime"):
            return socket.respond(http.HTTPStatus.NOT_FOUND, f"try {PATH}\n")
        if "refused" in key:
            return socket.respond(http.HTTPStatus.UNAUTHORIZED, _INVALID_KEY)
        query = parse_qs(address.query)
        try:
            mine = Faults([*self._each, *_faults(query)])
            _number(query, "pace", self._pace)
            _number(query, "lifetime", self._lifetime)
        except InvalidConfiguration as error:
            return socket.respond(http.HTTPStatus.BAD_REQUEST, f"{error}\n")
        status = mine.take_refusal() or self._faults.take_refusal()
        if status is None:
            return None
        return socket.respond(http.HTTPStatus(status), "refused, as was asked for\n")

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.connections += 1
        connection = self.connections
        if _BETA_HEADER in socket.request.headers:
            await _refuse_beta(socket)
            return
        query = parse_qs(urlsplit(socket.request.path).query)
        lifetime = _number(query, "lifetime", self._lifetime)
        link = Link(
            socket,
            _new_turns(query, lifetime),
            self._speech,
            Wire(Faults([*self._each, *_faults(query)]), self._faults),
            pace=_number(query, "pace", self._pace),
            lifetime=lifetime,
            on_event=lambda event: self._note(connection, event),
        )
        _log.info("connection %d: open", connection)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
        _log.info("connection %d: over", connection)

    def _note(self, connection: int, event: JsonObject) -> None:
        if self._record:
            self.received.append(Received(connection, time.monotonic(), event))
            self._news.set()


_INVALID_KEY = (
    '{"error": {"message": "Incorrect API key provided.", '
    '"type": "invalid_request_error", "param": null, "code": "invalid_api_key"}}'
)


def _faults(query: Mapping[str, list[str]]) -> list[Fault]:
    return _read(query.get("fault", []))


def _read(faults: Iterable[str | Fault]) -> list[Fault]:
    """
    Return faults that are to strike on each connection.

    Raises:
        InvalidConfiguration: If there is no such fault, or one would strike now.
    """
    read = [Fault.parse(each) if isinstance(each, str) else each for each in faults]
    if any(fault.event == NOW for fault in read):
        raise InvalidConfiguration(f"@{NOW} is for Peer.fault, while clients are there")
    return read


def _number(query: Mapping[str, list[str]], name: str, default: float) -> float:
    """
    Return a number of the URL.

    Raises:
        InvalidConfiguration: If it is none, or negative, or not finite.
    """
    text = query.get(name, [""])[0]
    try:
        number = float(text) if text else default
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InvalidConfiguration(f"{name}={text}: write a number, 0 or more")
    return number


def _new_turns(query: Mapping[str, list[str]], lifetime: float) -> Turns:
    """Make the state of a session; here, once, the dice are cast."""
    new_id = _ids(secrets.token_hex(4))
    return Turns(
        model=query.get("model", ["offline-peer"])[0],
        session_id=new_id("sess"),
        new_id=new_id,
        expires_at=int(time.time() + lifetime),
    )


def _ids(token: str) -> Callable[[str], str]:
    """Return a maker of ids: a kind, the session's token, a number."""
    counts: Counter[str] = Counter()

    def new_id(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{token}{counts[kind]:06d}"

    return new_id


async def _refuse_beta(socket: ServerConnection) -> None:
    """Tell a client of the API before GA what the service tells it."""
    code = "beta_api_shape_disabled"
    message = "The Realtime beta API is no longer supported; use the GA API."
    await socket.send(orjson.dumps(error_event(code, message)), text=True)
    await socket.close(FATAL[code], code)
