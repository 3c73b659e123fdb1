"""
The offline peer in a thread of its own, for synchronous code.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

from anyio.from_thread import start_blocking_portal

from realtalk_async import arguments
from realtalk_async.exceptions import NotStarted
from realtalk_async.offline.scripting.received import ReceivedEvents
from realtalk_async.offline.server import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from anyio.from_thread import BlockingPortal

    from realtalk_async.offline.effects import JsonObject
    from realtalk_async.offline.faults import Fault
    from realtalk_async.offline.scripting.received import Received
    from realtalk_async.offline.scripting.replies import Reply


class PeerThread:
    """
    An offline peer for synchronous code such as a pytest fixture, a context manager.

    ::

        @pytest.fixture(scope="session")
        def peer():
            with PeerThread() as peer:
                yield peer

    It runs in an event loop of its own, apart from the loops of the tests, and can
    outlive them. All methods may be called from any thread.

    Args:
        peer: A peer that has not been entered yet; by default ``Peer()``.

    Raises:
        InvalidConfiguration: If *peer* is no `Peer`.
    """

    def __init__(self, peer: Peer | None = None) -> None:
        arguments.instance("peer", peer, Peer, "a Peer", optional=True)
        self._peer = peer or Peer()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __repr__(self) -> str:
        return f"<PeerThread {self._peer!r}>"

    def __enter__(self) -> Self:
        """
        Start the thread and the peer; return when it accepts connections.

        Raises:
            OSError: If the port is taken.
            ImportError: If an extra is not installed.
        """
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._peer))
            self._stack, self._portal = stack.pop_all(), portal
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """
        Close all connections with 1001; stop the peer and its thread.

        Raises:
            ScriptNotFollowed: See `Peer`.
        """
        self._portal = None
        self._stack.__exit__(exc_type, exc, traceback)

    @property
    def url(self) -> str:
        """
        The URL for clients.

        Raises:
            NotStarted: Outside the ``with`` block.
        """
        self._running()
        return self._peer.url

    @property
    def received(self) -> ReceivedEvents:
        """A copy of the events received so far, in the order of their arrival."""
        return ReceivedEvents(self._peer.received)

    def fault(self, fault: str | Fault) -> None:
        """
        Inject a fault, see `Peer.fault`.

        Raises:
            InvalidConfiguration: If there is no such fault.
        """
        self._running().call(self._peer.fault, fault)

    def types(self, connection: int | None = None) -> list[str]:
        """Return the types of the received events, of one connection or of all."""
        return self._peer.types(connection)

    def wait_received(
        self,
        event_type: str,
        *,
        count: int = 1,
        timeout: float = 10.0,
        connection: int | None = None,
        where: Callable[[JsonObject], object] | None = None,
    ) -> Received:
        """
        Wait for the *count*-th such event, see `Peer.wait_received`. Blocks.

        Raises:
            WaitExpired: If it has not arrived within *timeout* seconds.
            InvalidConfiguration: If an argument is invalid.
        """
        wait = partial(self._peer.wait_received, event_type, count=count)
        return self._running().call(
            partial(wait, timeout=timeout, connection=connection, where=where)
        )

    def say(self, reply: Reply, *, connection: int | None = None) -> None:
        """
        Let the assistant speak without a request, see `Peer.say`. Blocks.

        Raises:
            InvalidConfiguration: If no such client is connected, or an argument is invalid.
        """
        self._running().call(partial(self._peer.say, reply, connection=connection))

    def send(
        self, event: Mapping[str, object], *, connection: int | None = None
    ) -> None:
        """
        Send any event to all clients, see `Peer.send`. Blocks.

        Raises:
            InvalidConfiguration: If no such client is connected, or the event is invalid.
        """
        self._running().call(partial(self._peer.send, event, connection=connection))

    def _running(self) -> BlockingPortal:
        if self._portal is None:
            message = "the offline peer is not running: use `with PeerThread()`"
            raise NotStarted(message)
        return self._portal
