"""The other side of the window: find apps, ask them. An edge, without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from realtalk_async.control import protocol
from realtalk_async.control.sockets import ControlUnavailable, connect, doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from realtalk_async.control.protocol import JsonObject, Question


def ask(path: Path, question: Question) -> Iterator[object]:
    """
    Yield the parts of an app's answer.

    Raises:
        ControlUnavailable: If the app is not there, or says no.
    """
    try:
        with connect(path) as one, one.makefile("rb") as answer:
            one.sendall(question.encode())
            while isinstance(
                told := protocol.understand(answer.readline(protocol.MOST_TOLD)),
                protocol.Item,
            ):
                yield told.value
    except OSError as exc:
        raise ControlUnavailable(f"no app answers at {path}: {exc}") from exc
    if isinstance(told, protocol.Failed):
        raise ControlUnavailable(told.why)


def overviews(app: str | None = None) -> dict[Path, JsonObject]:
    """
    Return what runs on this machine: the answer to ``ps`` of each app, by its socket.

    Args:
        app: Only the app with this pid or socket.
    """
    found: dict[Path, JsonObject] = {}
    for path in _choose(app):
        for part in ask(path, protocol.Question("ps")):
            found[path] = cast("JsonObject", part)
    return found


def _choose(app: str | None) -> list[Path]:
    if app is None:
        return doors()
    if not app.isdecimal():
        from pathlib import Path

        return [Path(app)]
    chosen = [one for one in doors() if one.stem.split("-")[0] == app]
    if not chosen:
        raise ControlUnavailable(f"no app with pid {app} can be looked into")
    return chosen


def app_of(name: str | None, app: str | None) -> Path:
    """
    Return the socket of the one app that can be meant.

    Args:
        name: It has a process of this name.
        app: It has this pid or socket.

    Raises:
        ControlUnavailable: If there is none, or more than one.
    """
    found = overviews(app)
    if not found:
        raise ControlUnavailable(
            "no app of yours can be looked into: it has to run under 'realtalk-async "
            "run', or open a window by 'async with control(manager)'"
        )
    having = {p: one for p, one in found.items() if name is None or name in names(one)}
    if len(having) == 1:
        return next(iter(having))
    if not having:
        known = ", ".join(
            sorted({one for each in found.values() for one in names(each)})
        )
        raise ControlUnavailable(f"no process is named {name!r}; there are {known}")
    apps = "; ".join(f"{one['pid']} ({one['command']})" for one in having.values())
    raise ControlUnavailable(f"say which app by --app PID: {apps}")


def names(overview: JsonObject) -> list[str]:
    """Return the names of an app's processes."""
    return [str(one["name"]) for one in processes(overview)]


def processes(overview: JsonObject) -> list[JsonObject]:
    """Return the statuses of an app's processes."""
    return cast("list[JsonObject]", overview["processes"])
