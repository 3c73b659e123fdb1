"""Opens the websocket to the service, and translates its errors."""

from __future__ import annotations

import logging
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from realtalk_async.exceptions import (
    AuthenticationRefused,
    ServiceRefused,
    ServiceUnreachable,
)
from realtalk_async.voice.credentials.hiding import HidingLogger, shown_url
from realtalk_async.voice.protocol.messages import FATAL_CODES

try:
    from websockets.asyncio.client import connect
    from websockets.datastructures import Headers
    from websockets.exceptions import (
        ConnectionClosed,
        InvalidHandshake,
        InvalidStatus,
        WebSocketException,
    )
    from websockets.frames import Close
    from websockets.http11 import Response
except ImportError as error:  # pragma: no cover - the extra is always there in tests
    raise ImportError(
        "a voice session needs websockets: pip install 'realtalk-async[voice]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from websockets.asyncio.client import ClientConnection

    from realtalk_async.voice.credentials.hiding import Secrets
    from realtalk_async.voice.endpoint import Endpoint

_LARGEST_MESSAGE = 16 * 1024 * 1024
_BODY_SHOWN = 300


@asynccontextmanager
async def dial(
    endpoint: Endpoint, *, open_timeout: float = 10.0
) -> AsyncGenerator[ClientConnection, None]:
    """
    Open a websocket; close it at the end of the block, within a second.

    Raises:
        AuthenticationRefused: If the service refuses the key.
        ServiceRefused: If the service refuses the client for another lasting reason.
        ServiceUnreachable: If it cannot be reached; a later try may work.
    """
    where, secrets = endpoint.shown, endpoint.secrets
    try:
        socket = await _Connect(
            endpoint.url,
            additional_headers=endpoint.headers,
            # Audio does not compress, and deflate costs more CPU than all else.
            compression=None,
            max_size=_LARGEST_MESSAGE,
            open_timeout=open_timeout,
            close_timeout=1.0,
            ping_interval=10,
            ping_timeout=10,
            proxy=None if endpoint.local else True,
            logger=HidingLogger(logging.getLogger("websockets.client"), secrets),
        )
    except InvalidStatus as error:
        _hide_in_response(error, secrets)
        secrets.hide_in(error)
        raise _refused(endpoint, error.response) from error
    except TimeoutError as error:
        raise ServiceUnreachable(
            f"no answer from {where} within {open_timeout:g} s; "
            f"check the network, a firewall, the address"
        ) from error
    except (OSError, InvalidHandshake, WebSocketException) as error:
        secrets.hide_in(error)
        raise _unreachable(where, error) from error
    async with socket:
        yield socket


@contextmanager
def translated_errors(endpoint: Endpoint) -> Generator[None, None, None]:
    """
    Translate the end of a websocket that the block uses.

    Raises:
        ServiceRefused: If the service closed it for a lasting reason.
        ServiceUnreachable: If it broke, or was closed for any other reason.
    """
    try:
        yield
    except ConnectionClosed as error:
        _hide_in_close(error, endpoint.secrets)
        endpoint.secrets.hide_in(error)
        raise _closed(endpoint, error) from error


class _Connect(connect):
    """Dials; follows no redirect to another server, which would get the key."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the new address, or the error."""
        found = super().process_redirect(exc)
        if isinstance(found, str) and _origin(found) != _origin(self.uri):
            return exc
        return found


def _origin(url: str) -> tuple[str, str]:
    address = urlsplit(url)
    return address.scheme, address.netloc.rpartition("@")[2].lower()


def _hide_in_response(error: InvalidStatus, secrets: Secrets) -> None:
    response = error.response
    body = secrets.hide_bytes(bytes(response.body or b""))
    kept = ((name, secrets.hide(value)) for name, value in response.headers.raw_items())
    reason = secrets.hide(response.reason_phrase)
    error.response = Response(response.status_code, reason, Headers(kept), body)


def _hide_in_close(error: ConnectionClosed, secrets: Secrets) -> None:
    for name in ("rcvd", "sent"):
        close = getattr(error, name)
        if close is not None:
            setattr(error, name, Close(close.code, secrets.hide(close.reason)))


def _unreachable(where: str, error: Exception) -> ServiceUnreachable:
    if isinstance(error, ssl.SSLError):
        advice = "its certificate is not trusted here: check the clock and the proxy"
    elif isinstance(error, ConnectionRefusedError):
        advice = "no server listens there: is the peer running, is the port right?"
    elif isinstance(error, OSError):
        advice = "check the network and the address"
    else:
        advice = "it does not speak the websocket protocol: check the address"
    said = str(error) or type(error).__name__
    return ServiceUnreachable(f"cannot reach {where}: {said}; {advice}")


def _refused(
    endpoint: Endpoint, response: Response
) -> AuthenticationRefused | ServiceRefused | ServiceUnreachable:
    """Translate an answer other than "switching protocols"."""
    where, status = endpoint.shown, response.status_code
    said = bytes(response.body or b"").decode(errors="replace").strip()
    said = " ".join(endpoint.secrets.hide(said).split())[:_BODY_SHOWN]
    said = said or response.reason_phrase
    code = _fatal_code_in(said)
    if status in (401, 403) or code == "invalid_api_key":
        if not endpoint.headers:
            return AuthenticationRefused(
                f"{where} refused a client without a key (HTTP {status}: {said}); "
                f"give api_key=…"
            )
        return AuthenticationRefused(
            f"{where} refused the key (HTTP {status}: {said}); "
            f"check that it is right, active and allowed to use this model"
        )
    if 300 <= status < 400:
        target = shown_url(response.headers.get("Location", "nowhere"))
        advice = f"it redirects to {target}; if that is right, give it as url"
        return ServiceRefused("redirected", f"{where}: HTTP {status}: {advice}")
    if code or (400 <= status < 500 and status not in (408, 425, 429)):
        return ServiceRefused(code or f"http_{status}", f"{where}: {said}")
    return ServiceUnreachable(
        f"{where} is not available (HTTP {status}: {said}); it may be later"
    )


def _closed(
    endpoint: Endpoint, error: ConnectionClosed
) -> ServiceRefused | ServiceUnreachable:
    """
    Translate the end of an open connection.

    `websockets` calls the codes 1000 and 1001 clean. Here they are errors: only the
    client may end the session, and the service sends 1001 after an hour.
    """
    where, close = endpoint.shown, error.rcvd
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
