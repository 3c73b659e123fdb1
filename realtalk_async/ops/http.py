"""
The HTTP endpoint: ``/metrics``, ``/healthz``, ``/readyz``.

Threads of their own serve it, not the event loop: while the loop hangs, a health check gets
a 503 with the reason at once, and a scrape gets the newest metrics. Only code that never
releases the interpreter lock silences the endpoint; then the client's timeout tells.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, ClassVar, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import anyio
import orjson

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.ops.collector import Collector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream

MAX_CLIENTS = 16
"""Clients served at a time; the connections of further clients are closed."""

CLIENT_TIMEOUT = 5.0
"""Seconds that a client may take to send its request and to read the answer."""

Request = socket.socket | tuple[bytes, socket.socket]
"""What `socketserver` passes for a request."""

HEALTH_CHECKS: dict[str, Literal["liveness", "readiness"]] = {
    "/healthz": "liveness",
    "/readyz": "readiness",
}


def application(collector: Collector) -> WSGIApplication:
    """
    Return the endpoint as a WSGI application, to mount in a server of your own.

    Call the application from a thread other than that of the app's event loop.

    Args:
        collector: The collector of the app.

    Raises:
        ImportError: If prometheus_client is not installed: it comes with the extra
            ``metrics``.
        InvalidConfiguration: If *collector* is no `Collector`.
    """
    arguments.instance("collector", collector, Collector, "a Collector")
    try:
        from realtalk_async.ops.prometheus import metrics_application
    except ImportError as exc:
        raise ImportError(
            "/metrics needs prometheus_client: pip install 'realtalk-async[metrics]'"
        ) from exc
    metrics = metrics_application(collector)

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", "/"))
        if path == "/metrics":
            return metrics(environ, start_response)
        if path in HEALTH_CHECKS:
            report = collector.check(HEALTH_CHECKS[path])
            status = "200 OK" if report.ok else "503 Service Unavailable"
            return _json(start_response, status, report.to_dict())
        pages = ["/metrics", *HEALTH_CHECKS]
        return _json(start_response, "404 Not Found", {"pages": pages})

    return answer


def _json(
    start_response: StartResponse, status: str, body: dict[str, object]
) -> list[bytes]:
    data = orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    start_response(
        status,
        [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("Content-Length", str(len(data))),
        ],
    )
    return [data]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serves each client in a thread, so that a slow client does not delay others."""

    daemon_threads = True  # a slow client must not delay the exit of the app
    request_queue_size = MAX_CLIENTS

    def __init__(
        self, address: tuple[str, int], handler: Callable[..., WSGIRequestHandler]
    ) -> None:
        self._free_slots = threading.BoundedSemaphore(MAX_CLIENTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # WSGIServer would look up the host name, and wait for the name service.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]
        self.setup_environ()

    def verify_request(self, request: object, client_address: object) -> bool:
        return self._free_slots.acquire(blocking=False)

    def process_request(self, request: Request, client_address: object) -> None:
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started that would free the slot
            self._free_slots.release()
            raise

    def process_request_thread(self, request: Request, client_address: object) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - as in the base class
            self.handle_error(request, client_address)
        finally:
            # Before the connection ends: a client that has read to the end of its answer
            # may connect again at once and must find its slot free.
            self._free_slots.release()
            self.shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that disconnects before it has read the answer."""


class _Handler(WSGIRequestHandler):
    timeout: ClassVar[float | None] = CLIENT_TIMEOUT

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base class names it so
        """Write nothing to stderr."""


class Endpoint:
    """
    An HTTP server for the endpoint.

    Args:
        collector: The collector of the app.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.

    Raises:
        OSError: If the address cannot be listened on.
        ImportError: If prometheus_client is not installed.
    """

    def __init__(self, collector: Collector, host: str, port: int) -> None:
        self._server = make_server(
            host,
            port,
            application(collector),
            server_class=_Server,
            handler_class=_Handler,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="realtalk-async endpoint",
            daemon=True,
        )
        self.host = host
        self.port: int = self._server.server_port
        """The port that it listens on."""

    @property
    def url(self) -> str:
        """The base URL: ``http://127.0.0.1:9464``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Start to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop to serve; blocks for up to 0.1 s, so call it from a thread."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


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

    Every client that reaches the port can read process names, counters and failure
    reasons. Enter this block around the manager's, ``async with serve_metrics(manager),
    manager:``, to serve during the shutdown as well.

    Args:
        manager: The manager of the processes to report on.
        stream: The voice session, if there is one.
        host: The address to listen on; by default only this machine can connect.
        port: The port to listen on; 0 takes a free one.
        max_lag: Seconds that the event loop may be late before it counts as hanging. A
            health check takes no longer than that: give its client a longer timeout.

    Yields:
        The endpoint: ``endpoint.url``, ``endpoint.port``.

    Raises:
        OSError: If the address cannot be listened on.
        ImportError: If prometheus_client is not installed: it comes with the extra
            ``metrics``.
        InvalidConfiguration: If an argument is invalid.

    Cancellation: The server thread and the port are closed.
    """
    arguments.one_line("host", host)
    arguments.port("port", port, minimum=0)
    async with Collector(manager, stream, max_lag=max_lag) as collector:
        endpoint = Endpoint(collector, host, port)
        endpoint.start()
        try:
            yield endpoint
        finally:
            # This is short, and has to be done if the task is cancelled meanwhile.
            with anyio.CancelScope(shield=True):
                await call_in_thread(endpoint.close, "realtalk-async closes a port")
