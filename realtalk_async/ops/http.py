"""
The pages: ``/metrics``, ``/healthz``, ``/readyz``. An edge: WSGI, and a thread to serve it.

They are served by threads of their own, off the loop: a loop that hangs is told of by a
503 with the reason, at once, and its figures can still be scraped. Only code that does not
even let go of the interpreter keeps them silent: then it is the time-out that tells.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import TYPE_CHECKING, ClassVar, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from realtalk_async.ops.collector import Watch

MOST_VISITORS = 16
"""Requests at a time; who comes beyond that is sent away."""

PATIENCE = 5.0
"""Seconds that a visitor may take to ask, and to take the answer."""

Request = socket.socket | tuple[bytes, socket.socket]
"""What `socketserver` calls one."""

Kind = Literal["liveness", "readiness"]
PAGES: dict[str, Kind] = {"/healthz": "liveness", "/readyz": "readiness"}


def application(watch: Watch) -> WSGIApplication:
    """
    Return the pages as a WSGI application, to be mounted in a server of your own.

    Call it from a thread other than that of the app's loop.

    Raises:
        ImportError: If prometheus_client is not installed: it comes with the extra
            ``metrics``.
    """
    try:
        from realtalk_async.ops.prometheus import pages_of
    except ImportError as exc:
        raise ImportError(
            "/metrics needs prometheus_client: pip install 'realtalk-async[metrics]'"
        ) from exc
    metrics = pages_of(watch)

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", "/"))
        if path == "/metrics":
            return metrics(environ, start_response)
        if path in PAGES:
            verdict = watch.verdict(PAGES[path])
            status = "200 OK" if verdict.good else "503 Service Unavailable"
            return _json(start_response, status, verdict.to_dict())
        pages = ["/metrics", *PAGES]
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
    """A thread for each visitor, so that a slow one keeps nobody waiting."""

    daemon_threads = True  # a visitor that dawdles must not hold up the app's end
    request_queue_size = MOST_VISITORS

    def __init__(
        self, address: tuple[str, int], handler: Callable[..., WSGIRequestHandler]
    ) -> None:
        self._places = threading.BoundedSemaphore(MOST_VISITORS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not WSGIServer's, which asks the name service for our name, and may wait for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]
        self.setup_environ()

    def verify_request(self, request: object, client_address: object) -> bool:
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Request, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Do nothing about a visitor who has gone before the answer."""


class _Handler(WSGIRequestHandler):
    timeout: ClassVar[float | None] = PATIENCE

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Write nothing to stderr."""


class Endpoint:
    """
    The pages at a port of their own.

    Args:
        watch: Who looks at the app.
        host: Where to listen.
        port: 0 takes a free one.

    Raises:
        OSError: If nobody can listen there.
        ImportError: If prometheus_client is not installed.
    """

    def __init__(self, watch: Watch, host: str, port: int) -> None:
        self._server = make_server(
            host, port, application(watch), server_class=_Server, handler_class=_Handler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(0.05,),
            name="realtalk-async endpoint",
            daemon=True,
        )
        self.host = host
        self.port: int = self._server.server_port
        """Where it listens."""

    @property
    def url(self) -> str:
        """Its address: ``http://127.0.0.1:9464``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more; blocks for 0.1 s at most, so call it from a thread."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
