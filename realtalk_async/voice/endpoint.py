"""The address of the service, and the key for it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration, MissingApiKey
from realtalk_async.voice.credentials.api_key import ApiKey
from realtalk_async.voice.credentials.hiding import Secrets, shown_url

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "wss://api.openai.com/v1/realtime"
KEY_VARIABLE = "OPENAI_API_KEY"
AZURE_KEY_VARIABLE = "AZURE_OPENAI_API_KEY"

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of the service, and the headers with the key."""

    url: str = field(repr=False)
    """It may hold a password, or a key in its query: see `shown`."""
    headers: Mapping[str, str] = field(repr=False)
    """They hold the key: never shown, never logged."""
    local: bool
    """Whether it is on this machine: no proxy."""
    shown: str = field(init=False)
    """The address for messages, without what may be secret."""
    secrets: Secrets = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", shown_url(self.url).removesuffix("?…"))
        object.__setattr__(self, "secrets", Secrets(self.url, self.headers))

    @property
    def model(self) -> str:
        """The model that the address names."""
        return parse_qs(urlsplit(self.url).query).get("model", [""])[0]

    def __str__(self) -> str:
        return f"{self.shown} ({self.model})" if self.model else self.shown


def host_of(url: str | None) -> str:
    """Return host and port of an address, without user and password."""
    return urlsplit(url or SERVICE).netloc.rpartition("@")[2]


def find_endpoint(
    url: str | None, api_key: str | None, model: str, environ: Mapping[str, str]
) -> Endpoint:
    """
    Return the address of the service and the key for it.

    Args:
        url: ``None`` for OpenAI; else the ``ws://`` or ``wss://`` address of an offline
            peer, of Azure, or of another service. The model is added to it unless it
            names a model or a deployment already.
        api_key: The key; ``None`` takes the key of the environment, which is sent only
            to the service that it is for. Another service may need none.
        model: The model, or Azure's deployment.
        environ: The environment.

    Raises:
        MissingApiKey: If OpenAI or Azure is the service, and there is no key.
        InvalidConfiguration: If *url* is not a websocket address, or the key holds what
            no header can carry.
    """
    check_address(url)
    address = urlsplit(url or SERVICE)
    host = address.hostname or ""
    variable = _variable_of(host)
    of_environment = ApiKey(environ.get(variable, ""))
    del environ  # it holds all keys, and a traceback may show local variables
    key = clean_key("api_key", ApiKey(api_key or ""))
    if not key and variable:
        key = clean_key(variable, of_environment)
        if not key:
            raise _missing_key(host, variable)
    query = address.query
    if "model" not in parse_qs(query):
        query = "&".join(filter(None, (query, urlencode({"model": model}))))
    whole = urlunsplit(address._replace(query=query))
    return Endpoint(whole, _headers(host, key), host in _LOCAL_HOSTS)


def check_address(url: str | None) -> None:
    """
    Check the address of a service.

    Raises:
        InvalidConfiguration: If it is not a websocket address.
    """
    allowed = (
        "the address of a realtime service, which begins with ws:// or wss:// (such as "
        "ws://127.0.0.1:8765/v1/realtime)"
    )
    arguments.instance("url", url, str, allowed, optional=True)
    try:
        address = urlsplit(url or SERVICE)
        is_valid = address.scheme in ("ws", "wss") and address.hostname
        _ = address.port
    except ValueError:
        is_valid = False
    if not is_valid:
        raise arguments.refused("url", allowed, shown_url(url or SERVICE))


def check_key(key: object) -> None:
    """
    Check a key that the app gives, see `as_key`.

    Raises:
        InvalidConfiguration: If it is no text, or no header can carry it.
    """
    if key is not None and not isinstance(key, ApiKey):
        raise InvalidConfiguration(f"api_key must be text or None, not {key!r}")
    clean_key("api_key", key or ApiKey())


def clean_key(source: str, key: ApiKey) -> ApiKey:
    """
    Return a key without the blanks around it, and without a leading ``Bearer``.

    Args:
        source: The argument or variable that holds it.
        key: The key.

    Raises:
        InvalidConfiguration: If it holds a character that no header can carry. The
            message names the character and its place, not the key.
    """
    key = ApiKey(key.strip())
    if key[:7].lower() == "bearer ":
        key = ApiKey(key[7:].strip())
    for place, character in enumerate(key, start=1):
        if not " " <= character <= "~":
            name = unicodedata.name(character, "control character")
            raise InvalidConfiguration(
                f"{source} holds a character that no key has: U+{ord(character):04X} "
                f"({name}), character {place} of {len(key)}; copy the key again, "
                f"without quotes and line ends"
            )
    return key


def _variable_of(host: str) -> str:
    """Return the variable with the key of a service that needs one; else ""."""
    if _is_azure(host):
        return AZURE_KEY_VARIABLE
    is_openai = host == "openai.com" or host.endswith(".openai.com")
    return KEY_VARIABLE if is_openai else ""


def _is_azure(host: str) -> bool:
    return host.endswith(".azure.com")


def _headers(host: str, key: ApiKey) -> dict[str, str]:
    if not key:
        return {}
    if _is_azure(host):
        return {"api-key": key}
    return {"Authorization": ApiKey(f"Bearer {key}")}


def _missing_key(host: str, variable: str) -> MissingApiKey:
    return MissingApiKey(
        f"no API key for {host}: set the environment variable {variable} or give "
        f"api_key=…; or talk to the offline peer, which needs none: run "
        f"`realtalk-async peer --port 8765` and give "
        f"url='ws://127.0.0.1:8765/v1/realtime'"
    )
