"""
Hides the secrets of an endpoint in texts, messages and exceptions.

A server, a proxy or a library may quote what it was sent.
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from realtalk_async.voice.credentials.api_key import HIDDEN, ApiKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping

_SHORTEST = 4
"""Characters; hiding a shorter text would garble messages."""

_SHORTEST_IN_EVENTS = 8
"""Likewise in the events of the service, where a secret of mere letters is not hidden."""

_SECRET_PARAMETER = re.compile(
    r"key|token|secret|sig|pass|auth|cred|code|ticket", re.IGNORECASE
)
"""The parameters of a URL whose values are secret."""

_USER = re.compile(r"(?<=//)[^/?#\s]*@")
_SHOWN_USER = re.compile(r"^([a-zA-Z][\w+.-]*://)?[^/?#]*@")
_QUERY = re.compile(r"\?[^\s'\"]*")


def shown_url(url: str) -> str:
    """Return *url* for messages, without user, password, query and fragment."""
    return _QUERY.sub("?…", _SHOWN_USER.sub(r"\1", url)).partition("#")[0]


class Secrets:
    """
    The secrets of one endpoint.

    Args:
        url: Its address; password and parameters of the query such as api-key are secret.
        headers: Its headers, all of them secret.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        found = {
            *_in_url(url),
            *(each.removeprefix("Bearer ") for each in headers.values()),
        }
        spellings = {form for each in found for form in _spellings(each)}
        # The longest first: one secret may be a part of another.
        self._texts = [
            ApiKey(each) for each in sorted(spellings, key=len, reverse=True)
        ]
        self._encoded = [
            (each.encode(), HIDDEN.encode())
            for each in self._texts
            if len(each) >= _SHORTEST_IN_EVENTS and not each.isalpha()
        ]

    def __repr__(self) -> str:
        return f"<{len(self._texts)} secrets>"

    def hide(self, text: str) -> str:
        """Return *text* without the secrets, and without a user and password in URLs."""
        for secret in self._texts:
            text = text.replace(secret, HIDDEN)
        return _USER.sub(f"{HIDDEN}@", text)

    def hide_bytes(self, data: bytes) -> bytes:
        """Return a message without the secrets."""
        for secret, hidden in self._encoded:
            if secret in data:
                data = data.replace(secret, hidden)
        return data

    def hide_in(self, error: BaseException) -> None:
        """Hide the secrets in an exception, its causes and its contexts, in place."""
        for each in _chain(error):
            each.args = tuple(map(self._hidden, each.args))
            for name, value in list(vars(each).items()):
                if isinstance(value, str):
                    setattr(each, name, self.hide(value))

    def _hidden(self, value: object) -> object:
        if isinstance(value, str):
            return self.hide(value)
        shown = repr(value)
        return value if self.hide(shown) == shown else HIDDEN


class HidingLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that hides secrets: `websockets` logs all headers at DEBUG."""

    def __init__(self, logger: logging.Logger, secrets: Secrets) -> None:
        super().__init__(logger, {})
        self._secrets = secrets

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
        """Log a message without the secrets."""
        if not self.isEnabledFor(level):
            return
        text = str(msg) % args if args else str(msg)
        error = kwargs.get("exc_info")
        if isinstance(error, BaseException):
            self._secrets.hide_in(error)
        super().log(level, "%s", self._secrets.hide(text), **kwargs)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Return the message as it is."""
        return msg, kwargs


def _in_url(url: str) -> Iterator[str]:
    address = urlsplit(url)
    user, password = address.username or "", address.password or ""
    if password:
        yield password
        yield b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    elif user:
        yield user
    for name, value in parse_qsl(address.query):
        if _SECRET_PARAMETER.search(name):
            yield value


def _spellings(secret: str) -> Iterable[str]:
    """Return the secret as it stands in a URL, in a header and in JSON."""
    plain = unquote(secret)
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    in_url = quote(plain), quote(plain, safe=""), quote_plus(plain)
    in_json = escaped, escaped.replace("/", "\\/")
    forms = (secret, plain, *in_url, *in_json)
    return (each for each in forms if len(each) >= _SHORTEST)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or any(each is one for one in found):
            continue
        found.append(each)
        waiting += [each.__cause__, each.__context__]
    return found
