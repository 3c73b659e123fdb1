"""
Redaction of secrets in the text of a log line; without I/O.

Redacted are API keys, bearer tokens, the values of keys with telling names, and texts
that the app names.
"""

from __future__ import annotations

import json
import re

REDACTED = "[redacted]"
"""The text in place of a secret."""

_NAMES = [
    "api_key",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "client_secret",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "authorization",
    "proxy_authorization",
    "credential",
    "credentials",
    "cookie",
    "set_cookie",
    "x_api_key",
    "openai_api_key",
]
SECRET_NAMES = frozenset(
    spelling
    for name in _NAMES
    for words in [name.split("_")]
    for spelling in (
        name,
        name.upper(),
        name.replace("_", "-"),
        "-".join(word.capitalize() for word in words),
        words[0] + "".join(word.capitalize() for word in words[1:]),
    )
)
"""Keys whose values are secret, in the usual spellings."""

_NAME = r"[\w-]*(?:" + "|".join(name.replace("_", "[-_]?") for name in _NAMES) + ")"
_PARTS_OF_NAMES = (
    "key",
    "secret",
    "passw",
    "passphrase",
    "token",
    "authoriz",
    "cred",
    "cookie",
)
_NAMED_SECRET = re.compile(
    # {"api_key":"…"} and {'api_key': '…'}: the quoted value of a secret's name, also
    # within a string of JSON: {\"api_key\":\"…\"}
    rf"""((\\?["']){_NAME}\2\s*:\s*)(\\?["'])(?:(?!\3)(?:[^\\]|\\.))*\3"""
    # api_key=…, as in an address
    rf"""|(\b{_NAME}=)[^\s&"']+""",
    re.IGNORECASE,
)
_KNOWN_SECRET = re.compile(
    # a bearer token; OpenAI's keys and its ephemeral keys
    r"\b(bearer\s+|[se]k[-_])[\w.~+/=-]{12,}",
    re.IGNORECASE,
)


class Secrets:
    """The texts to redact, and the redaction of a line."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: tuple[str, ...] = ()
        """Texts to redact wherever they occur, each as it is in a message and in JSON."""

    def add(self, *values: str) -> None:
        """Redact these texts from now on; empty texts are ignored."""
        forms = {form for value in values if value for form in _forms(value)}
        self.values = tuple(sorted({*self.values, *forms}, key=len, reverse=True))

    def redact(self, text: str) -> str:
        """Return *text*, a message or JSON, with its secrets redacted."""
        for value in self.values:
            text = text.replace(value, REDACTED)
        lower = text.lower()
        for word in _PARTS_OF_NAMES:
            if word in lower:
                text = _NAMED_SECRET.sub(_redact, text)
                break
        if "bearer" in lower or "k-" in lower or "k_" in lower:
            text = _KNOWN_SECRET.sub(rf"\1{REDACTED}", text)
        return text


def _forms(value: str) -> tuple[str, str]:
    return value, json.dumps(value, ensure_ascii=False)[1:-1]


def _redact(match: re.Match[str]) -> str:
    named, _, quote, assigned = match.groups()
    return f"{named}{quote}{REDACTED}{quote}" if named else assigned + REDACTED
