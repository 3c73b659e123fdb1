"""
The websocket to the service: how to get in, and what its refusals mean.

An edge: it knows `websockets` and nothing of what the messages say. It does not dial
again by itself; the stream does, for it must tell the conversation again too.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from realtalk_async.exceptions import (
    AuthenticationRefused,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.voice.protocol.messages import FATAL_CODES

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
    from collections.abc import AsyncGenerator

    from websockets.asyncio.client import ClientConnection
    from websockets.http11 import Response

    from realtalk_async.voice.endpoint import Target

_LARGEST_MESSAGE = 16 * 1024 * 1024
_WORDS_OF_THE_BODY = 300


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
        f"{where} is not available (HTTP {status}: {said}); it may be later"
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
