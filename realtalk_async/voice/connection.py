"""
The websocket to the service: where it is, how to get in, what its refusals mean.

An edge: it knows `websockets` and nothing of what the messages say. It does not dial
again by itself; the stream does, for it must tell the conversation again too.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from realtalk_async.exceptions import (
    AuthenticationRefused,
    InvalidConfiguration,
    MissingApiKey,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.voice.protocol import FATAL_CODES

try:
    from websockets.asyncio.client import connect
    from websockets.exceptions import (
        ConnectionClosed,
        InvalidHandshake,
        InvalidStatus,
        WebSocketException,
    )
except ImportError as error:  # pragma: no cover - the extra is always there in tests
    raise ImportError(
        "a voice session needs websockets: pip install 'realtalk-async[voice]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from websockets.asyncio.client import ClientConnection
    from websockets.http11 import Response

SERVICE = "wss://api.openai.com/v1/realtime"
KEY_VARIABLE = "OPENAI_API_KEY"
AZURE_KEY_VARIABLE = "AZURE_OPENAI_API_KEY"

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_LARGEST_MESSAGE = 16 * 1024 * 1024
_WORDS_OF_THE_BODY = 300


@dataclass(frozen=True, slots=True)
class Target:
    """Where to dial, and how to be let in."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """They hold the key: never shown, never logged."""
    local: bool
    """On this very machine: no proxy, no key needed."""


def find_target(
    url: str | None, api_key: str | None, model: str, environ: Mapping[str, str]
) -> Target:
    """
    Work out where to dial, before anything is started.

    Args:
        url: ``None`` for the real service; else a ``ws://`` or ``wss://`` address,
            such as that of an offline peer, or of Azure. The model is added to it
            unless it names a model or a deployment already.
        api_key: The key; ``None`` to take the one of the environment. The one of the
            environment is never sent to anybody but the service that it is for.
        model: The model, or Azure's deployment.
        environ: The environment.

    Raises:
        MissingApiKey: If the service needs a key and there is none.
        InvalidConfiguration: If the address is none.
    """
    address = urlsplit(url or SERVICE)
    host = address.hostname or ""
    if address.scheme not in ("ws", "wss") or not host:
        raise InvalidConfiguration(
            f"not the address of a realtime service: {url!r}; "
            f"it begins with ws:// or wss://, as ws://127.0.0.1:8765/v1/realtime does"
        )
    local = host in _LOCAL_HOSTS
    key = api_key or _key_from(environ, host)
    if not key and not local:
        raise _missing_key(host)
    query = address.query
    if "model" not in parse_qs(query):
        query = "&".join(filter(None, (query, urlencode({"model": model}))))
    whole = urlunsplit(address._replace(query=query))
    return Target(whole, _headers(host, key), local)


def _key_from(environ: Mapping[str, str], host: str) -> str:
    if _is_azure(host):
        return environ.get(AZURE_KEY_VARIABLE, "").strip()
    if host == "openai.com" or host.endswith(".openai.com"):
        return environ.get(KEY_VARIABLE, "").strip()
    return ""


def _is_azure(host: str) -> bool:
    return host.endswith(".azure.com")


def _headers(host: str, key: str) -> dict[str, str]:
    if not key:
        return {}
    return {"api-key": key} if _is_azure(host) else {"Authorization": f"Bearer {key}"}


def _missing_key(host: str) -> MissingApiKey:
    variable = AZURE_KEY_VARIABLE if _is_azure(host) else KEY_VARIABLE
    return MissingApiKey(
        f"no API key for {host}: set the environment variable {variable} or give "
        f"api_key=…; or talk to the offline peer, which needs none: run "
        f"`realtalk-async peer --port 8765` and give "
        f"url='ws://127.0.0.1:8765/v1/realtime'"
    )


class Connection:
    """An open websocket. Made by `dial`."""

    def __init__(self, socket: ClientConnection, where: str) -> None:
        self._socket = socket
        self._where = where

    async def send(self, message: bytes) -> None:
        """
        Send one JSON text.

        Raises:
            ServiceUnreachable: If the connection is gone.
            ServiceRefused: If it was closed for a reason that cannot be mended.

        Cancellation: The message may or may not have been sent.
        """
        try:
            await self._socket.send(message, text=True)
        except ConnectionClosed as error:
            raise _closed(self._where, error) from error

    async def receive(self) -> bytes:
        """
        Wait for one message, and return it as it came.

        Raises:
            ServiceUnreachable: If the connection is gone.
            ServiceRefused: If it was closed for a reason that cannot be mended.

        Cancellation: Safe; no message is lost.
        """
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise _closed(self._where, error) from error


@asynccontextmanager
async def dial(
    target: Target, *, open_timeout: float = 10.0
) -> AsyncGenerator[Connection, None]:
    """
    Open the connection; close it at the end of the block, within a second.

    Raises:
        AuthenticationRefused: If the service refuses the key.
        ServiceRefused: If it refuses us for another reason that cannot be mended.
        ServiceUnreachable: If it cannot be reached; another time it may.
    """
    where = urlunsplit(urlsplit(target.url)._replace(query=""))
    try:
        socket = await connect(
            target.url,
            additional_headers=target.headers,
            # Audio does not compress, and deflate costs more CPU than all else.
            compression=None,
            max_size=_LARGEST_MESSAGE,
            open_timeout=open_timeout,
            close_timeout=1.0,
            ping_interval=10,
            ping_timeout=10,
            proxy=None if target.local else True,
        )
    except InvalidStatus as error:
        raise _refused(where, error.response) from error
    except TimeoutError as error:
        raise ServiceUnreachable(
            f"no answer from {where} within {open_timeout:g} s; "
            f"check the network, a firewall, the address"
        ) from error
    except (OSError, InvalidHandshake, WebSocketException) as error:
        raise _unreachable(where, error) from error
    async with socket:
        yield Connection(socket, where)


def _unreachable(where: str, error: Exception) -> ServiceUnreachable:
    if isinstance(error, ssl.SSLError):
        advice = "its certificate is not trusted here: check the clock and the proxy"
    elif isinstance(error, ConnectionRefusedError):
        advice = "nobody listens there: is the peer running, is the port right?"
    elif isinstance(error, OSError):
        advice = "check the network and the address"
    else:
        advice = "it does not speak the websocket protocol: check the address"
    said = str(error) or type(error).__name__
    return ServiceUnreachable(f"cannot reach {where}: {said}; {advice}")


def _refused(
    where: str, response: Response
) -> AuthenticationRefused | ServiceRefused | ServiceUnreachable:
    """Translate an answer other than "switching protocols"."""
    status = response.status_code
    said = bytes(response.body or b"").decode(errors="replace").strip()
    said = " ".join(said.split())[:_WORDS_OF_THE_BODY] or response.reason_phrase
    code = _fatal_code_in(said)
    if status in (401, 403) or code == "invalid_api_key":
        return AuthenticationRefused(
            f"{where} refused the key (HTTP {status}: {said}); "
            f"check that it is right, active and allowed to use this model"
        )
    if code or (400 <= status < 500 and status not in (408, 425, 429)):
        return ServiceRefused(code or f"http_{status}", f"{where}: {said}")
    return ServiceUnreachable(
        f"{where} is not available (HTTP {status}: {said}); it is tried again"
    )


def _closed(where: str, error: ConnectionClosed) -> ServiceRefused | ServiceUnreachable:
    """
    Translate the end of a connection that was open.

    `websockets` calls 1000 and 1001 clean. Here they are not: only we may end the
    session, and 1001 is how the service ends one after an hour.
    """
    close = error.rcvd
    if close is None:
        return ServiceUnreachable(f"the connection to {where} broke: {_cause(error)}")
    reason = close.reason or "no reason given"
    code = _fatal_code_in(reason)
    if code:
        return ServiceRefused(code, f"{where} closed with {close.code}: {reason}")
    return ServiceUnreachable(f"{where} closed the connection: {close.code}: {reason}")


def _cause(error: ConnectionClosed) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__


def _fatal_code_in(text: str) -> str:
    return next((code for code in sorted(FATAL_CODES) if code in text), "")
