"""The address of the service, and the key for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from realtalk_async import arguments
from realtalk_async.exceptions import MissingApiKey

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "wss://api.openai.com/v1/realtime"
KEY_VARIABLE = "OPENAI_API_KEY"
AZURE_KEY_VARIABLE = "AZURE_OPENAI_API_KEY"

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of the service, and the headers with the key."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """They hold the key: never shown, never logged."""
    local: bool
    """Whether it is on this machine: no proxy, no key needed."""


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
            to the service that it is for.
        model: The model, or Azure's deployment.
        environ: The environment.

    Raises:
        MissingApiKey: If the service needs a key and there is none.
        InvalidConfiguration: If *url* is not a websocket address.
    """
    check_address(url)
    address = urlsplit(url or SERVICE)
    host = address.hostname or ""
    local = host in _LOCAL_HOSTS
    key = api_key or _key_from(environ, host)
    if not key and not local:
        raise _missing_key(host)
    query = address.query
    if "model" not in parse_qs(query):
        query = "&".join(filter(None, (query, urlencode({"model": model}))))
    whole = urlunsplit(address._replace(query=query))
    return Endpoint(whole, _headers(host, key), local)


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
        raise arguments.refused("url", allowed, url)


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
