"""Metrics and health of an app for those who watch it, by one call."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio.to_thread

from realtalk_async.ops.collector import Watch
from realtalk_async.ops.http import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream


@contextlib.asynccontextmanager
async def serve_metrics(
    manager: ProcessManager,
    *,
    stream: Stream | None = None,
    host: str = "127.0.0.1",
    port: int = 9464,
    max_lag: float = 1.0,
) -> AsyncGenerator[Endpoint]:
    """
    Serve ``/metrics``, ``/healthz`` and ``/readyz`` for as long as the block runs.

    Whoever can reach the port can read them: names of processes, what they have counted,
    why they failed. Entered around the manager's block, ``async with
    serve_metrics(manager), manager:``, they are there while everything is being stopped.

    Args:
        manager: Whose processes are told of.
        stream: The voice session, if there is one.
        host: Where to listen; this machine alone, unless said.
        port: Where to listen; 0 takes a free one.
        max_lag: Seconds that the loop may be late before it counts as hanging. An answer
            takes no longer than that: give who asks a longer timeout.

    Yields:
        The endpoint: ``endpoint.url``, ``endpoint.port``.

    Raises:
        OSError: If nobody can listen there.
        ImportError: If prometheus_client is not installed: it comes with the extra
            ``metrics``.

    Cancellation: Nothing is left behind.
    """
    async with Watch(manager, stream, bound=max_lag) as watch:
        endpoint = Endpoint(watch, host, port)
        endpoint.start()
        try:
            yield endpoint
        finally:
            # A moment's work, and it must be done whoever is cancelled meanwhile.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(endpoint.close)
