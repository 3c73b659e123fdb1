"""Find running apps and send them requests."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

from realtalk_async import arguments
from realtalk_async.control.protocol import (
    MAX_RESPONSE_LINE,
    End,
    Failure,
    Item,
    JsonObject,
    Request,
    decode_line,
)
from realtalk_async.control.sockets import (
    ANSWER_TIMEOUT,
    RETRY_DELAY,
    AppDoesNotAnswer,
    ControlUnavailable,
    connect,
    connect_nowait,
    find_sockets,
)
from realtalk_async.exceptions import InvalidConfiguration, RealtalkError

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import AsyncGenerator, Generator, Iterable, Iterator

MAX_SILENCE = 60.0
"""Seconds between two questions whether an app still answers, at most."""
MAX_RECEIVED = 256 * 1024
"""Bytes of one read."""
MAX_THREADS = 32
"""Apps that are asked at the same time."""


def find_apps(app: str | int | None = None) -> list[ControlClient]:
    """
    Return a client for each running app of this user.

    Args:
        app: Only the app with this pid, or with the control socket at this path.

    Raises:
        ControlUnavailable: If no app has that pid.
        InvalidConfiguration: If *app* is neither a pid nor a path.
    """
    _check_app(app)
    app = str(app) if isinstance(app, int) else app
    if app is None:
        return [ControlClient(path) for path in find_sockets()]
    if not app.isdecimal():
        return [ControlClient(Path(app))]
    found = find_sockets(int(app))
    if not found:
        raise ControlUnavailable(f"no running app has the pid {app}")
    return [ControlClient(path) for path in found]


def find_app(
    process: str | None = None, *, app: str | int | None = None
) -> ControlClient:
    """
    Return a client for the only app that fits.

    Args:
        process: The app has a process or a task of this name.
        app: The app has this pid or control socket.

    Raises:
        ControlUnavailable: If no app fits, or more than one.
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.text("process", process, optional=True)
    clients = find_apps(app)
    answers = get_statuses(clients)
    silent = [one for one in answers.values() if isinstance(one, ControlUnavailable)]
    if silent and (app is not None or len(silent) == len(answers)):
        raise silent[0]
    statuses = {client: one for client, one in answers.items() if isinstance(one, dict)}
    if not statuses:
        raise ControlUnavailable(
            "no running app was found: an app is found if it runs under 'realtalk-async "
            "run' or enters 'async with serve_control(manager)'"
        )
    names = {client: process_names(status) for client, status in statuses.items()}
    fitting = [one for one in names if process is None or process in names[one]]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        known = ", ".join(sorted({name for some in names.values() for name in some}))
        also = "".join(f"; {one}" for one in silent)
        raise ControlUnavailable(
            f"no process is named {process!r}; there are {known}{also}"
        )
    apps = "; ".join(
        f"{statuses[one]['pid']} ({statuses[one]['command']})" for one in fitting
    )
    raise ControlUnavailable(f"several apps fit, choose one by its pid: {apps}")


def get_statuses(
    clients: Iterable[ControlClient],
) -> dict[ControlClient, JsonObject | ControlUnavailable]:
    """Return the status of each app, or why there is none; all are asked at once."""
    clients = list(clients)
    if not clients:
        return {}
    with ThreadPoolExecutor(min(len(clients), MAX_THREADS)) as threads:
        return dict(zip(clients, threads.map(_status_or_error, clients), strict=True))


def _status_or_error(client: ControlClient) -> JsonObject | ControlUnavailable:
    try:
        return client.get_status()
    except ControlUnavailable as exc:
        return exc


def _check_app(app: object) -> None:
    is_pid = isinstance(app, int) and not isinstance(app, bool) and app > 0
    if not (is_pid or app is None or (isinstance(app, str) and app)):
        raise arguments.refused("app", "a pid, the path of a socket or None", app)


def process_names(status: JsonObject) -> list[str]:
    """Return the names of the processes and tasks in the status of an app."""
    return [str(one["name"]) for one in processes_of(status)]


def processes_of(status: JsonObject) -> list[JsonObject]:
    """Return the statuses of the processes and tasks in the status of an app."""
    return cast("list[JsonObject]", status["processes"])


def _error_of(failure: Failure) -> RealtalkError:
    if failure.is_invalid:
        return InvalidConfiguration(failure.error)
    return ControlUnavailable(failure.error)


class ControlClient:
    """
    Sends requests to one app.

    All methods but `send_async` block until the app has responded. All of them raise
    `ControlUnavailable` if the app does not run any more, does not answer (a hung app is
    noticed after two to four seconds), or refuses, and `InvalidConfiguration` if an
    argument is invalid.

    Args:
        path: The app's control socket.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        arguments.path("path", path)
        self.path = Path(path)

    def get_status(self) -> JsonObject:
        """
        Return the state of the app and of its processes.

        Returns:
            ``pid``, ``command``, ``cwd``, ``status``, ``log``, ``degraded``, and
            ``processes``, a list of `ProcessStatus` as JSON objects.
        """
        return self._get(Request("ps"))

    def tail(self, name: str, *, n: int = 10, follow: bool = False) -> Iterator[object]:
        """Yield the newest lines of a process; then, if followed, the new lines."""
        return self.send(Request("tail", name=name, n=n, follow=follow))

    def get_logs(
        self,
        *,
        n: int = 10,
        level: str | None = None,
        component: str | None = None,
        pattern: str | None = None,
        follow: bool = False,
    ) -> Iterator[object]:
        """Yield the newest log entries; then, if followed, the new entries."""
        return self.send(
            Request(
                "logs",
                n=n,
                level=level,
                component=component,
                pattern=pattern,
                follow=follow,
            )
        )

    def get_history(self, name: str | None = None) -> list[object]:
        """Return all incarnations of a process, or of each process."""
        return list(self.send(Request("history", name=name)))

    def explain(self, name: str) -> JsonObject:
        """Return why a process is in its state; ``text`` is for people."""
        return self._get(Request("explain", name=name))

    def restart(self, name: str) -> JsonObject:
        """Stop a process, if it runs, start it again, and return its status."""
        return self._get(Request("restart", name=name))

    def reload(self) -> dict[str, str]:
        """
        Have the app read its file again and apply the difference.

        Returns:
            What has happened to each process, by its name.

        Raises:
            InvalidConfiguration: If there is a mistake in the file; nothing has changed.
        """
        items = cast("list[JsonObject]", list(self.send(Request("reload"))))
        return {str(one["name"]): str(one["what"]) for one in items}

    def stop(self, name: str) -> JsonObject:
        """Stop a process without a restart, and return its status."""
        return self._get(Request("stop", name=name))

    def _get(self, request: Request) -> JsonObject:
        (item,) = self.send(request)
        return cast("JsonObject", item)

    def send(self, request: Request) -> Generator[object]:
        """Send any request, and yield the items of the response."""
        arguments.instance("request", request, Request, "a Request")
        return self._exchange(request)

    def _exchange(self, request: Request) -> Generator[object]:
        try:
            with connect(self.path) as connection:
                connection.sendall(request.encode())
                responses = self._responses(connection, request)
                while isinstance(line := next(responses), Item):
                    yield line.value
        except TimeoutError as exc:
            raise AppDoesNotAnswer(self.path) from exc
        except OSError as exc:
            raise ControlUnavailable(f"no app answers at {self.path}: {exc}") from exc
        if isinstance(line, Failure):
            raise _error_of(line)

    def _responses(
        self, connection: socket.socket, request: Request
    ) -> Generator[Item | Failure | End]:
        """Yield each line of the response; after a silence, ask whether the app answers."""
        data, silence = bytearray(), ANSWER_TIMEOUT
        while True:
            try:
                received = connection.recv(MAX_RECEIVED)
            except TimeoutError:
                silence = self._next_silence(request, silence)
                connection.settimeout(silence)
                _ = self.get_status()
                continue
            *lines, rest = (data + received).split(b"\n")
            yield from map(decode_line, map(bytes, lines))
            data = rest
            if not received or len(data) > MAX_RESPONSE_LINE:
                yield decode_line(bytes(data))
                return

    def _next_silence(self, request: Request, silence: float) -> float:
        """
        Return the seconds until the app is asked again whether it answers.

        Raises:
            AppDoesNotAnswer: If this request was that question.
        """
        if request.method == "ps":
            raise AppDoesNotAnswer(self.path)
        return min(silence * 2, MAX_SILENCE)

    def send_async(self, request: Request) -> AsyncGenerator[object]:
        """
        Send any request without blocking the event loop, and yield the items.

        Cancellation: The connection is closed, and the app stops its response.
        """
        arguments.instance("request", request, Request, "a Request")
        return self._exchange_async(request)

    async def _exchange_async(self, request: Request) -> AsyncGenerator[object]:
        try:
            connection = await self._connect_async()
            reader, writer = await asyncio.open_unix_connection(
                sock=connection, limit=MAX_RESPONSE_LINE
            )
        except OSError as exc:
            raise ControlUnavailable(f"no app answers at {self.path}: {exc}") from exc
        try:
            writer.write(request.encode())
            while isinstance(line := await self._read_line(reader, request), Item):
                yield line.value
        finally:
            writer.close()
        if isinstance(line, Failure):
            raise _error_of(line)

    async def _connect_async(self) -> socket.socket:
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while True:
            try:
                return connect_nowait(self.path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AppDoesNotAnswer(self.path) from None
            await asyncio.sleep(RETRY_DELAY)

    async def _read_line(
        self, reader: asyncio.StreamReader, request: Request
    ) -> Item | Failure | End:
        """Return the next line; after a silence, ask whether the app answers."""
        silence = ANSWER_TIMEOUT
        while True:
            try:
                async with asyncio.timeout(silence):
                    return decode_line(await reader.readuntil(b"\n"))
            except TimeoutError:
                silence = self._next_silence(request, silence)
                async for _ in self.send_async(Request("ps")):
                    pass
            except (asyncio.IncompleteReadError, OSError):
                return Failure("the app has ended")
