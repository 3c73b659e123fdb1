"""Which of several endpoints the next connection gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from realtalk_async import arguments
from realtalk_async.exceptions import AuthenticationRefused, ServiceRefused
from realtalk_async.voice.endpoint import check_address, find_endpoint, host_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.exceptions import StreamError
    from realtalk_async.voice.endpoint import Endpoint

REST = 60.0
"""Seconds for which an endpoint is not dialled after it could not be reached."""


_HIDDEN = "(not shown)"


class EndpointList:
    """
    The endpoints of one session, the preferred ones first.

    A new connection gets the first one that was neither refused nor rests. One that
    refuses the client (its key, the model, the configuration, or by a fatal error such as
    an exhausted quota) is left for good; one that cannot be reached, answers HTTP 408,
    425, 429 or 5xx, does not configure the session in time, or falls silent rests for
    `REST` seconds. A connection that worked and breaks is no reason to leave. All times
    are in monotonic seconds.

    Args:
        endpoints: At least one.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = list(endpoints)
        self._rests_until = [0.0] * len(self._endpoints)
        self._refused = [False] * len(self._endpoints)
        self.index = 0
        """The place of the endpoint that was chosen last."""

    @property
    def current(self) -> Endpoint:
        """The endpoint that was chosen last."""
        return self._endpoints[self.index]

    def choose(self, now: float) -> Endpoint:
        """Return the endpoint for the next connection; it is `current` from now on."""
        usable = [i for i, refused in enumerate(self._refused) if not refused]
        rested = [i for i in usable if self._rests_until[i] <= now]
        if rested:
            self.index = rested[0]
        elif usable:  # all rest: the one whose rest ends first
            self.index = min(usable, key=lambda i: self._rests_until[i])
        return self.current

    def failed(self, error: StreamError, now: float, *, worked: bool) -> bool:
        """
        Note the end of a connection of `current`, or that it could not be opened.

        Args:
            error: Why.
            now: The time.
            worked: Whether the service configured the session, and was not silent.

        Returns:
            Whether another endpoint is to be dialled at once.
        """
        if isinstance(error, (AuthenticationRefused, ServiceRefused)):
            if not self.has_other:
                return False  # the refusal of the last one ends the session
            self._refused[self.index] = True
            return True
        if worked:
            return False
        self._rests_until[self.index] = now + REST
        return any(
            not refused and rest <= now
            for refused, rest in zip(self._refused, self._rests_until, strict=True)
        )

    @property
    def has_other(self) -> bool:
        """Whether another endpoint is left if `current` refuses the client."""
        return not all(r or i == self.index for i, r in enumerate(self._refused))

    def forget_failures(self) -> None:
        """Dial all endpoints again, in their order."""
        self._rests_until = [0.0] * len(self._endpoints)
        self._refused = [False] * len(self._endpoints)


def check_urls(url: object) -> None:
    """
    Check one address, or several.

    Raises:
        InvalidConfiguration: If one is no websocket address, or there is none.
    """
    if url is None or isinstance(url, str):
        check_address(url)
        return
    allowed = "an address, or a list of addresses"
    is_list = isinstance(url, Sequence) and not isinstance(url, bytes)
    urls = cast("Sequence[object]", url) if is_list else ()
    if not urls:  # what was given is not shown: addresses may hold a key
        raise arguments.refused("url", allowed, _HIDDEN)
    for each in urls:
        arguments.words("url", each)
        check_address(cast("str", each))


def find_endpoints(
    url: str | Sequence[str] | None,
    api_key: str | None,
    model: str,
    environ: Mapping[str, str],
) -> EndpointList:
    """
    Return the endpoints of one session.

    Args:
        url: One address or several, see `find_endpoint`.
        api_key: The key, which is sent to the host of the first address only; the others
            get the key of the environment that is for them.
        model: The model, for addresses that name none.
        environ: The environment.

    Raises:
        MissingApiKey: If one of them needs a key, and there is none.
        InvalidConfiguration: If an address or the key is invalid.
    """
    urls = [url] if url is None or isinstance(url, str) else list(url)
    first = host_of(urls[0])
    return EndpointList(
        [
            find_endpoint(
                each, api_key if host_of(each) == first else None, model, environ
            )
            for each in urls
        ]
    )
