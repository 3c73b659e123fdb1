"""
The offline peer on a thread of its own, for code that is not async.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from anyio.from_thread import start_blocking_portal

from realtalk_async.exceptions import NotStarted
from realtalk_async.offline.server import Peer

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.from_thread import BlockingPortal

    from realtalk_async.offline.faults import Fault
    from realtalk_async.offline.server import Received


class PeerThread:
    """
    An offline peer as a context manager of plain code, such as a pytest fixture.

    ::

        @pytest.fixture(scope="session")
        def peer():
            with PeerThread() as peer:
                yield peer

    It has a loop of its own, so it may outlive those of the tests that use it, and
    none of its work is done in theirs. All methods may be called from any thread.

    Args:
        peer: One that was not entered yet; by default ``Peer()``.
    """

    def __init__(self, peer: Peer | None = None) -> None:
        self._peer = peer or Peer()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __repr__(self) -> str:
        return f"<PeerThread {self._peer!r}>"

    def __enter__(self) -> Self:
        """
        Start thread and peer; return when it accepts connections.

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
        """Close all connections with 1001, end the peer and its thread."""
        self._portal = None
        self._stack.close()

    @property
    def url(self) -> str:
        """
        Where to connect to.

        Raises:
            NotStarted: Outside the ``with`` block.
        """
        self._running()
        return self._peer.url

    @property
    def received(self) -> list[Received]:
        """What came so far, in the order of its arrival: a copy."""
        return list(self._peer.received)

    def fault(self, fault: str | Fault) -> None:
        """
        Arm a fault: it strikes once, on whichever connection its event comes first.

        Raises:
            InvalidConfiguration: If there is no such fault.
        """
        self._running().call(self._peer.fault, fault)

    def types(self, connection: int | None = None) -> list[str]:
        """Return the types of the received events, of one connection or of all."""
        return self._peer.types(connection)

    def wait_received(
        self, event_type: str, *, count: int = 1, timeout: float = 10.0
    ) -> Received:
        """
        Wait until the *count*-th event of that type has come. Blocks.

        Raises:
            TimeoutError: If it has not within *timeout* seconds.
        """

        async def wait() -> Received:
            wait_received = self._peer.wait_received
            return await wait_received(event_type, count=count, timeout=timeout)

        return self._running().call(wait)

    def _running(self) -> BlockingPortal:
        if self._portal is None:
            message = "the offline peer is not running: use `with PeerThread()`"
            raise NotStarted(message)
        return self._portal
