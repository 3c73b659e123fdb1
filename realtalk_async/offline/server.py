"""
The offline peer: a websocket server that speaks the OpenAI Realtime protocol (GA).

It recognises speech, answers and speaks on this machine: no key, no sound card and no
internet are needed. It injects faults on demand (``--list-faults`` prints them).

Differences from the service:

- It has rules, no model: see `realtalk_async.offline.answers.policy`. Images, MCP tools,
  reasoning and prompts are accepted and have no effect.
- ``semantic_vad`` is a silence whose length depends on its eagerness.
- ``idle_timeout_ms`` is counted in received audio, not by a clock.
- An utterance lasts 2 minutes at most. With turn detection a longer one becomes two
  turns, without it ``input_audio_buffer_full`` asks for a commit.
- A message of more than 16 MiB gets an error; the service ends the connection.
- Only the newest 4 minutes of audio can be retrieved with their items.
- Audio that arrives many times faster than real time is read at the recogniser's speed.
"""

from __future__ import annotations

import asyncio
import http
import logging
import math
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

import anyio
import orjson
from websockets.asyncio.server import serve

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration, NotStarted, WaitExpired
from realtalk_async.offline.connection import Connection
from realtalk_async.offline.faults.injector import (
    ArmedFaults,
    FaultInjector,
    error_event,
)
from realtalk_async.offline.faults.kinds import CLOSE_CODES, NOW, Fault
from realtalk_async.offline.requests.parsing import LARGEST_FRAME, checked_event
from realtalk_async.offline.scripting.answerer import Answerer
from realtalk_async.offline.scripting.latency import Latency, check_latency
from realtalk_async.offline.scripting.received import Received, ReceivedEvents
from realtalk_async.offline.scripting.replies import check_reply
from realtalk_async.offline.session import Session
from realtalk_async.offline.speech.engine import SpeechEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request, Response

    from realtalk_async.offline.effects import JsonObject
    from realtalk_async.offline.scripting.latency import LatencyArgument
    from realtalk_async.offline.scripting.replies import AnswerFunction, Reply
    from realtalk_async.offline.scripting.script import Step
    from realtalk_async.offline.speech.engine import RecogniserName

PATH = "/v1/realtime"
"""The path of the URL; any path that ends in ``/realtime`` is accepted."""

_CLOSE_TIMEOUT = 1.0
_BETA_HEADER = "OpenAI-Beta"

_log = logging.getLogger(__name__)
_wire_log = logging.getLogger(f"{__name__}.websockets")
# At DEBUG, the library logs all headers, and so the clients' keys.
_wire_log.addFilter(lambda record: record.levelno > logging.DEBUG)


class Peer:
    """
    The offline peer, an async context manager.

    ::

        async with Peer() as peer:
            peer.fault("drop:5")
            await client_under_test(peer.url)
            assert peer.types().count("session.update") == 2

    A test may give the answers::

        script = [
            ("What is the weather in Paris?", ToolCall("get_weather", {"city": "Paris"})),
            (re.compile("sunny"), "It is sunny in Paris."),
            (None, Failure("server_error")),
        ]
        async with Peer(script=script) as peer:
            await client_under_test(peer.url)

    Args:
        port: The TCP port; 0 takes a free one.
        host: The address to listen on: by default only this machine can connect.
        pace: Seconds of audio sent per second of a response, 0 for no limit. The service
            sends much faster than real time as well.
        lifetime: Seconds until a session expires.
        record: Whether to keep the events of clients in `received`. They hold 64 kB for
            each second of audio: turn it off for a peer that runs for long.
        faults: Faults to inject on each connection, like the faults of a URL.
        answer: A function, async or not, that answers in place of the peer's rules. It
            gets the newest text, the user's or a tool's output, and with a second
            parameter the `Question` with the whole conversation. It returns words, a
            `ToolCall`, a `Failure`, a list of words and calls, or ``None`` for the
            peer's own answer. A function that is not async must return at once.
        script: The conversation that the test expects: pairs of the expected words (a
            text, compared without case and punctuation; a compiled pattern; a function;
            ``None`` for any words) and the answer as above, or a function that returns
            it. Each response takes the next step, on whichever connection. A response
            that expects other words, or comes after the last step, fails with the code
            ``script_mismatch``.
        latency: Seconds that each event needs to its client, or a pair ``(mean,
            jitter)``: from ``mean - jitter`` to ``mean + jitter``, without overtaking.
        seed: The seed of the jitter.
        recogniser: ``"sphinx"`` is fast and understands the peer's own voice,
            ``"whisper"`` understands humans and needs the extra ``human``.

    Raises:
        InvalidConfiguration: If there is no such recogniser or no such fault, or if
            another argument is invalid.

    At the end of its block it raises `ScriptNotFollowed` if the script was not followed to
    its end, or if a function of the test raised; another exception that ends the block gets
    a note. The query of a URL sets options for its connection: ``pace=1``, ``lifetime=2``, and
    ``fault=…`` any number of times.
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
        answer: AnswerFunction | None = None,
        script: Iterable[Step] | None = None,
        latency: LatencyArgument = 0.0,
        seed: int = 0,
        recogniser: RecogniserName = "sphinx",
    ) -> None:
        arguments.port("port", port, minimum=0)
        arguments.one_line("host", host)
        arguments.number("pace", pace, minimum=0)
        arguments.seconds("lifetime", lifetime)
        arguments.flag("record", record)
        self.received = ReceivedEvents()
        """Each event of each client, in the order of their arrival."""
        self.connections = 0
        """The number of connections so far."""
        self._port = port
        self._host = host
        self._pace = pace
        self._lifetime = lifetime
        self._record = record
        self._speech = SpeechEngine(recogniser)
        self._answerer = Answerer(answer, script)
        self._latency = check_latency(latency, seed)
        self._seed = seed
        self._faults = ArmedFaults()
        self._faults_of_each = _parse_faults(faults)
        self._open_connections: dict[Connection, int] = {}
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event_received = asyncio.Event()

    def __repr__(self) -> str:
        state = self.url if self._server else "not running"
        return f"<Peer {state}, {self.connections} connections>"

    @property
    def url(self) -> str:
        """
        The URL for clients.

        Raises:
            NotStarted: Outside the ``async with`` block.
        """
        if self._server is None:
            raise NotStarted("the offline peer is not running: use `async with Peer()`")
        return f"ws://{self._host}:{self._port}{PATH}"

    def fault(self, fault: str | Fault) -> None:
        """
        Inject a fault once, on the connection that triggers it first.

        A fault that ends in ``@now`` is injected at once, on all open connections.

        Raises:
            InvalidConfiguration: If there is no such fault, or no open connection for
                ``@now``.
        """
        _check_fault("fault", fault)
        fault = Fault.parse(fault) if isinstance(fault, str) else fault
        if fault.event != NOW:
            self._faults.arm(fault)
            return
        if not self._open_connections:
            message = f"{fault.kind}@{NOW} has no effect: no client is connected"
            raise InvalidConfiguration(message)
        for connection in self._open_connections:
            connection.apply(fault)

    def types(self, connection: int | None = None) -> list[str]:
        """
        Return the types of the received events, of one connection or of all.

        Raises:
            InvalidConfiguration: If *connection* is no number of a connection.
        """
        arguments.integer("connection", connection, minimum=1, optional=True)
        return [each.type for each in self.received.find(connection=connection)]

    async def wait_received(
        self,
        event_type: str,
        *,
        count: int = 1,
        timeout: float = 10.0,
        connection: int | None = None,
        where: Callable[[JsonObject], object] | None = None,
    ) -> Received:
        """
        Wait for the *count*-th such event, counted from the start of the peer.

        Args:
            event_type: Its type, such as ``response.create``.
            count: Which of them, from 1.
            timeout: Seconds to wait at most.
            connection: The number of its connection; any by default.
            where: Returns whether an event, a dict, is wanted.

        Raises:
            WaitExpired: If it has not arrived within *timeout* seconds (a
                `TimeoutError`).
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.one_line("event_type", event_type)
        arguments.integer("count", count, minimum=1)
        arguments.seconds("timeout", timeout, infinite=True)
        arguments.check_loop(self._loop, "this peer")
        with anyio.move_on_after(timeout):
            while True:
                found = self.received.find(
                    event_type, connection=connection, where=where
                )
                if len(found) >= count:
                    return found[count - 1]
                self._event_received.clear()
                await self._event_received.wait()
        raise WaitExpired(
            f"{count} {event_type} not received within {timeout:g} s; "
            f"received: {self.received.summary()}"
        )

    async def say(self, reply: Reply, *, connection: int | None = None) -> None:
        """
        Let the assistant speak without a request, on all open connections.

        It waits for the end of a response that is under way, and returns when the words
        are sent, or the user interrupted them, or the client disconnected.

        Args:
            reply: The words; also a `ToolCall`, a `Failure`, or a list of words and calls.
            connection: The number of a connection; all by default.

        Raises:
            InvalidConfiguration: If no such client is connected, or an argument is invalid.
        """
        check_reply("reply", reply)
        connections = self._open("say", connection)
        async with anyio.create_task_group() as tasks:
            for each in connections:
                tasks.start_soon(each.say, reply)

    async def send(
        self, event: Mapping[str, object], *, connection: int | None = None
    ) -> None:
        """
        Send any event to all clients; return when it is sent.

        Args:
            event: The event; it is sent as it is.
            connection: The number of a connection; all by default.

        Raises:
            InvalidConfiguration: If no such client is connected, or the event is no
                object that JSON can express.
        """
        data = checked_event(event)
        connections = self._open("send", connection)
        async with anyio.create_task_group() as tasks:
            for each in connections:
                tasks.start_soon(each.send, data)

    def _open(self, what: str, number: int | None) -> list[Connection]:
        """Return the open connections, or that of a number; there is one at least."""
        arguments.integer("connection", number, minimum=1, optional=True)
        arguments.check_loop(self._loop, "this peer")
        found = [
            each
            for each, own in self._open_connections.items()
            if number in (None, own)
        ]
        if not found:
            which = "no client is" if number is None else f"connection {number} is not"
            raise InvalidConfiguration(
                f"{what}() has no effect: {which} connected; wait for one by "
                f"`await peer.wait_received('session.update')`"
            )
        return found

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
        self._answerer.check(exc)

    async def aclose(self) -> None:
        """
        Close all connections with 1001 and stop. Idempotent; it takes up to about 2 s.

        Cancellation: It completes first, then cancellation goes on.
        """
        with anyio.CancelScope(shield=True):
            server, self._server = self._server, None
            if server is not None:
                server.close()
                await server.wait_closed()
            await self._speech.aclose()

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._speech.load()
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            process_request=self._admit,
            compression=None,
            max_size=LARGEST_FRAME,
            close_timeout=_CLOSE_TIMEOUT,
            logger=_wire_log,
            # While it does not read, a pong of the client waits behind its audio.
            ping_timeout=None,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Return the refusal of a handshake, or ``None`` to accept it."""
        address = urlsplit(request.path)
        key = request.headers.get("Authorization") or request.headers.get("api-key", "")
        if not address.path.endswith("/realtime"):
            return socket.respond(http.HTTPStatus.NOT_FOUND, f"try {PATH}\n")
        if "refused" in key:
            return socket.respond(http.HTTPStatus.UNAUTHORIZED, _INVALID_KEY)
        query = parse_qs(address.query)
        try:
            faults = ArmedFaults(self._connection_faults(query))
            _number(query, "pace", self._pace)
            _number(query, "lifetime", self._lifetime)
        except InvalidConfiguration as error:
            return socket.respond(http.HTTPStatus.BAD_REQUEST, f"{error}\n")
        status = faults.take_refusal() or self._faults.take_refusal()
        if status is None:
            return None
        return socket.respond(http.HTTPStatus(status), "refused by an injected fault\n")

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.connections += 1
        number = self.connections
        if _BETA_HEADER in socket.request.headers:
            await _refuse_beta(socket)
            return
        query = parse_qs(urlsplit(socket.request.path).query)
        lifetime = _number(query, "lifetime", self._lifetime)
        faults = ArmedFaults(self._connection_faults(query))
        connection = Connection(
            socket,
            _new_session(query, lifetime),
            self._speech,
            self._answerer,
            FaultInjector(faults, self._faults),
            latency=Latency(*self._latency, seed=self._seed + number),
            pace=_number(query, "pace", self._pace),
            lifetime=lifetime,
            on_event=lambda event: self._record_event(number, event),
        )
        _log.info("connection %d opened", number)
        self._open_connections[connection] = number
        try:
            await connection.run()
        finally:
            del self._open_connections[connection]
        _log.info("connection %d closed", number)

    def _connection_faults(self, query: Mapping[str, list[str]]) -> list[Fault]:
        return [*self._faults_of_each, *_parse_faults(query.get("fault", []))]

    def _record_event(self, connection: int, event: JsonObject) -> None:
        if self._record:
            self.received.append(Received(connection, time.monotonic(), event))
            self._event_received.set()


_INVALID_KEY = (
    '{"error": {"message": "Incorrect API key provided.", '
    '"type": "invalid_request_error", "param": null, "code": "invalid_api_key"}}'
)


def _check_fault(argument: str, value: object) -> None:
    allowed = "a Fault, or its text such as 'drop:5'"
    arguments.instance(argument, value, (str, Fault), allowed)


def _parse_faults(faults: Iterable[str | Fault]) -> list[Fault]:
    """
    Return faults to inject on each connection.

    Raises:
        InvalidConfiguration: If there is no such fault, or it ends in ``@now``.
    """
    given = arguments.several("faults", faults, _check_fault, "faults")
    parsed = [Fault.parse(each) if isinstance(each, str) else each for each in given]
    if any(fault.event == NOW for fault in parsed):
        raise InvalidConfiguration(f"@{NOW} is allowed only in calls of Peer.fault")
    return parsed


def _number(query: Mapping[str, list[str]], name: str, default: float) -> float:
    """
    Return a number from the query of a URL.

    Raises:
        InvalidConfiguration: If it is not a finite number of 0 or more.
    """
    text = query.get(name, [""])[0]
    try:
        number = float(text) if text else default
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InvalidConfiguration(f"{name}={text}: write a number, 0 or more")
    return number


def _new_session(query: Mapping[str, list[str]], lifetime: float) -> Session:
    new_id = _id_maker(secrets.token_hex(4))
    return Session(
        model=query.get("model", ["offline-peer"])[0],
        session_id=new_id("sess"),
        new_id=new_id,
        expires_at=int(time.time() + lifetime),
    )


def _id_maker(token: str) -> Callable[[str], str]:
    """Return a function that makes ids of a kind, the session's token and a number."""
    counts: Counter[str] = Counter()

    def new_id(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{token}{counts[kind]:06d}"

    return new_id


async def _refuse_beta(socket: ServerConnection) -> None:
    """Close the connection of a client of the beta API as the service does."""
    code = "beta_api_shape_disabled"
    message = "The Realtime beta API is no longer supported; use the GA API."
    await socket.send(orjson.dumps(error_event(code, message)), text=True)
    await socket.close(CLOSE_CODES[code], code)
