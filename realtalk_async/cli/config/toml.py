"""
Read a recipe from TOML: everything that the core can do with a process. Pure.

::

    [env]                                  # for all of them
    LANG = "C.UTF-8"

    [process.peer]
    command = ["realtalk-async", "peer", "--port", "8765"]  # a list is run as it is
    critical = true
    probes = [{ line = "peer ready" }]     # or silence, tcp, http, exec

    [process.app]
    command = "exec ./app --url $URL"      # a text is run by a shell
    depends_on = ["peer"]
    restart = { mode = "permanent", max_failures = 10 }
    ladder = [["INT", 0.5], ["TERM", 2]]
    devices = ["hw:0"]                     # no two have it at a time

Whatever is wrong is told with file, line, key and what is allowed, all of it at once.
"""

from __future__ import annotations

import contextlib
import difflib
import os.path
import re
import signal
import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from realtalk_async.cli.config.spec import (
    DEVICE_PATIENCE,
    BadRecipe,
    Mistake,
    Part,
    Recipe,
    in_order,
)
from realtalk_async.cli.config.toml_lines import Path, Places, shown
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import (
    CLOSE_STDIN,
    GRACEFUL,
    TRANSIENT,
    Command,
    Ladder,
    Probe,
    RestartPolicy,
)
from realtalk_async.supervision.policy.probes import Purpose
from realtalk_async.supervision.policy.restart import Mode, Strategy
from realtalk_async.supervision.probing.builtin_probes import (
    exec_probe,
    http_probe,
    tcp_probe,
)
from realtalk_async.supervision.process import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.supervision.kernel.pipes import StreamName

T = TypeVar("T")
D = TypeVar("D")
Reader = Callable[[object], T]


class Unfit(ValueError):
    """A value is not what it may be; the message says what it may be."""


# ---- what a value may be


def text(value: object) -> str:
    """Return a text that is not empty."""
    if isinstance(value, str) and value.strip():
        return value
    raise Unfit("a text that is not empty")


def flag(value: object) -> bool:
    """Return a truth value."""
    if isinstance(value, bool):
        return value
    raise Unfit("true or false")


def number(value: object) -> float:
    """Return a number that is 0 or more."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return value
    raise Unfit("a number, 0 or more")


def whole(value: object) -> int:
    """Return a whole number that is 0 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise Unfit("a whole number, 0 or more")


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        if all(isinstance(one, str) for one in items):
            return tuple(cast("list[str]", value))
    raise Unfit("a list of texts")


def statuses(value: object) -> frozenset[int]:
    """Return a list of exit statuses."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        if all(isinstance(one, int) and not isinstance(one, bool) for one in items):
            return frozenset(cast("list[int]", value))
    raise Unfit("a list of exit statuses, such as [0, 143]")


def name_or_id(value: object) -> str | int:
    """Return a user or a group."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise Unfit("a name or a number")


def one_of(*allowed: str) -> Reader[str]:
    """Return what reads one of a few words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        raise Unfit("one of " + ", ".join(map(repr, allowed)))

    return read


def ladder(value: object) -> Ladder:
    """Return a ladder from pairs of a signal's name and seconds."""
    if not isinstance(value, list):
        raise Unfit('a list of steps such as [["INT", 0.5], ["TERM", 2]]')
    try:
        return Ladder(*(_step(one) for one in cast("list[object]", value)))
    except InvalidConfiguration as exc:
        raise Unfit(str(exc)) from exc


def _step(value: object) -> tuple[int, float]:
    pair = cast("list[object]", value) if isinstance(value, list) else []
    if len(pair) != 2 or not isinstance(pair[0], str):
        raise Unfit('a list of steps, each a signal and seconds such as ["TERM", 2]')
    return _signal(pair[0]), number(pair[1])


def _signal(name: str) -> int:
    if name == "close stdin":
        return CLOSE_STDIN
    known = {one.name.removeprefix("SIG"): one for one in signal.Signals}
    found = known.get(name.upper().removeprefix("SIG"))
    if found is None:
        usual = "INT, TERM, HUP, QUIT, USR1, USR2, KILL or 'close stdin'"
        raise Unfit(f"steps with signals such as {usual}; there is no {name!r}")
    return found


# ---- tables


class Page:
    """The file as a whole: its mistakes, and where they are."""

    def __init__(self, content: str, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self._places = Places(content)

    def line_of(self, path: Path) -> int | None:
        """Return the line of a key."""
        return self._places.line_of(path)

    def note(self, path: Path, what: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(self.file, self.line_of(path), shown(path), what))


class Table:
    """
    One table of the file: gives its keys one by one, and tells of those nobody wants.

    Args:
        page: Where mistakes are noted.
        path: Where the table is.
        value: What stands there.
    """

    def __init__(self, page: Page, path: Path, value: object) -> None:
        self.page = page
        self.path = path
        self._left: dict[str, object] = {}
        self._known: list[str] = []
        if isinstance(value, dict):
            self._left = dict(cast("dict[str, object]", value))
        else:
            page.note(path, f"must be a table, not {_show(value)}")

    def take(self, key: str, read: Reader[T], default: D) -> T | D:
        """Return the value of a key, or the default if it is missing or unfit."""
        self._known.append(key)
        if key not in self._left:
            return default
        value = self._left.pop(key)
        try:
            return read(value)
        except Unfit as exc:
            self.page.note((*self.path, key), f"must be {exc}, not {_show(value)}")
            return default

    def table(self, key: str) -> Table:
        """Return the table at a key; an empty one if it is missing."""
        self._known.append(key)
        return Table(self.page, (*self.path, key), self._left.pop(key, {}))

    def tables(self, key: str) -> list[Table]:
        """Return the list of tables at a key."""
        self._known.append(key)
        value = self._left.pop(key, [])
        path = (*self.path, key)
        if not isinstance(value, list):
            self.page.note(path, f"must be a list of tables, not {_show(value)}")
            return []
        items = cast("list[object]", value)
        return [Table(self.page, (*path, n), one) for n, one in enumerate(items)]

    def named_tables(self, key: str) -> dict[str, Table]:
        """Return the tables in the table at a key, by name."""
        outer = self.table(key)
        names = list(outer._left)  # noqa: SLF001 - of our own kind
        return {name: outer.table(name) for name in names}

    def variables(self) -> dict[str, str]:
        """Return the table as environment variables."""
        names = list(self._left)
        return {name: self.take(name, _variable, "") for name in names}

    def has(self, key: str) -> bool:
        """Whether the key is there, and nobody has taken it yet."""
        return key in self._left

    def is_table(self, key: str) -> bool:
        """Whether a table stands at the key."""
        return isinstance(self._left.get(key), dict)

    def wrong(self, what: str, key: str | None = None) -> None:
        """Note a mistake in this table, or in one of its keys."""
        self.page.note(self.path if key is None else (*self.path, key), what)

    def close(self) -> None:
        """Tell of the keys that nobody has taken."""
        allowed = sorted({*self._known})
        for key in self._left:
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            self.wrong(f"no such key{hint} there are {', '.join(allowed)}", key)


def _variable(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unfit("a text or a number")


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    shortened = repr(value)
    return shortened if len(shortened) <= 60 else f"{shortened[:57]}..."


# ---- the recipe


def parse_toml(content: str, file: str, *, base: str = "") -> Recipe:
    """
    Return the recipe that a TOML text stands for.

    Args:
        content: What the file says.
        file: What it is called, for the mistakes.
        base: The folder that a relative ``cwd`` is in, and commands run in without one.

    Raises:
        BadRecipe: With every mistake in it.
    """
    try:
        data = tomllib.loads(content)
    except tomllib.TOMLDecodeError as exc:
        raise BadRecipe([_no_toml(exc, content, file)]) from exc
    page = Page(content, file)
    top = Table(page, (), data)
    strategy = top.take("strategy", one_of(*get_args(Strategy)), "one_for_one")
    interval = top.take("check_interval", number, 1.0)
    if interval == 0:
        top.wrong("must be more than 0 s", "check_interval")
    restarts = top.take("max_restarts", whole, None)
    window = top.take("window", _seconds, 60.0)
    env = top.table("env").variables()
    tables = top.named_tables("process")
    parts = [_part(name, table, env, base) for name, table in tables.items()]
    top.close()
    if not tables:
        top.wrong("there is no [process.NAME] in it")
    recipe = Recipe(file, (), cast("Strategy", strategy), interval, restarts, window)
    return _whole(page, parts, recipe)


def _whole(page: Page, parts: list[Part | None], recipe: Recipe) -> Recipe:
    """Put the parts in order, and refuse them all if there is a mistake anywhere."""
    if page.mistakes:
        raise BadRecipe(sorted(page.mistakes, key=lambda one: one.line or 0))
    good = [part for part in parts if part is not None]
    ordered = in_order(good, page.file, lambda name: page.line_of(_needs_of(name)))
    return replace(recipe, parts=ordered)


def _needs_of(name: str) -> Path:
    return ("process", name, "depends_on")


def _no_toml(exc: tomllib.TOMLDecodeError, content: str, file: str) -> Mistake:
    said = str(exc)
    place = re.search(r" \(at line (\d+), column \d+\)$", said)
    line = int(place[1]) if place else content.rstrip("\n").count("\n") + 1
    return Mistake(file, line, "", f"not TOML: {said}")


def _part(name: str, table: Table, env: dict[str, str], base: str) -> Part | None:
    """Return one process; None, with a mistake noted, if it has no command."""
    before = len(table.page.mistakes)
    command = _command(table, env, base)
    part = Part(
        name,
        command or Command("true"),
        restart=_restart(table),
        critical=table.take("critical", flag, None) or False,
        depends_on=table.take("depends_on", texts, ()),
        devices=table.take("devices", texts, ()),
        device_patience=table.take("device_patience", number, DEVICE_PATIENCE),
        probes=tuple(_probes(table)),
        ladder=table.take("ladder", ladder, GRACEFUL),
        max_size=table.take("max_size", _size, MAX_SIZE),
        line=table.page.line_of(table.path),
    )
    table.close()
    if not name.strip() or not name.isprintable():
        table.wrong(f"a name is printable text, not {name!r}")
    return part if len(table.page.mistakes) == before else None


def _size(value: object) -> int:
    if isinstance(value, int) and (size := whole(value)) > 0:
        return size
    raise Unfit("a number of bytes, 1 or more")


def _command(table: Table, env: dict[str, str], base: str) -> Command | None:
    if not table.has("command"):
        table.wrong("command is missing: a text for a shell, or a list of texts")
    argv = table.take("command", _argv, ("true",))
    cwd = os.path.join(base, table.take("cwd", text, "")) or None
    own = table.table("env")
    env = env | own.variables()
    wishes = {
        "user": table.take("user", name_or_id, None),
        "group": table.take("group", name_or_id, None),
        "umask": table.take("umask", whole, None),
    }
    options = {key: value for key, value in wishes.items() if value is not None}
    try:
        return Command(*argv, env=env, cwd=cwd, options=options)
    except InvalidConfiguration as exc:
        table.wrong(str(exc), "command")
        return None


def _argv(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", value)
    with contextlib.suppress(Unfit):
        argv = texts(value)
        if argv and argv[0]:
            return argv
    raise Unfit("a text for a shell, or a list of texts: program and arguments")


def _restart(table: Table) -> RestartPolicy:
    """Return the policy: a word for its mode, or a table of all that it has."""
    modes = one_of(*get_args(Mode))
    if not table.is_table("restart"):
        mode = table.take("restart", modes, TRANSIENT.mode)
        return RestartPolicy(cast("Mode", mode))
    inner = table.table("restart")
    found = {
        key: value
        for key, read in _POLICY.items()
        if (value := inner.take(key, read, None)) is not None
    }
    inner.close()
    try:
        return replace(TRANSIENT, **cast("dict[str, Any]", found))
    except InvalidConfiguration as exc:
        inner.wrong(str(exc))
        return TRANSIENT


_POLICY: dict[str, Reader[object]] = {
    "mode": one_of(*get_args(Mode)),
    "max_failures": number,
    "decay": number,
    "first_delay": number,
    "max_delay": number,
    "jitter": flag,
    "success_statuses": statuses,
    "fatal_statuses": statuses,
}


def _probes(table: Table) -> Iterator[Probe]:
    for inner in table.tables("probes"):
        kinds = [kind for kind in _PROBES if inner.has(kind)]
        if len(kinds) == 1:
            probe = _PROBES[kinds[0]](inner)
            inner.close()
        else:
            inner.wrong(f"a probe has exactly one of the keys {', '.join(_PROBES)}")
            probe = None
        if probe is not None:
            yield probe


def _line(table: Table) -> Probe | None:
    pattern = table.take("line", _pattern, None)
    timeout = table.take("timeout", _seconds, 10.0)
    return None if pattern is None else Probe.line(pattern, timeout=timeout)


def _silence(table: Table) -> Probe | None:
    seconds = table.take("silence", _seconds, None)
    stream = table.take("stream", one_of("stdout", "stderr"), "stdout")
    grace = table.take("grace", number, 3.0)
    if seconds is None:
        return None
    return Probe.silence(seconds, cast("StreamName", stream), grace=grace)


def _tcp(table: Table) -> Probe | None:
    port = table.take("tcp", _port, None)
    host = table.take("host", text, "127.0.0.1")
    rest = _repeated(table)
    return None if port is None else tcp_probe(port, host, **rest)


def _http(table: Table) -> Probe | None:
    url, rest = table.take("http", text, None), _repeated(table)
    try:
        return None if url is None else http_probe(url, **rest)
    except InvalidConfiguration as exc:
        table.wrong(str(exc), "http")
        return None


def _exec(table: Table) -> Probe | None:
    argv, rest = table.take("exec", _argv, None), _repeated(table)
    return None if argv is None else exec_probe(Command(*argv), **rest)


def _repeated(table: Table) -> dict[str, Any]:
    """Return what is said of a probe that asks again and again."""
    readers: dict[str, Reader[object]] = {
        "purpose": one_of(*get_args(Purpose)),
        "period": _seconds,
        "timeout": _seconds,
        "grace": number,
        "failure_threshold": _times,
    }
    found = {key: table.take(key, read, None) for key, read in readers.items()}
    return {key: value for key, value in found.items() if value is not None}


_PROBES: dict[str, Callable[[Table], Probe | None]] = {
    "line": _line,
    "silence": _silence,
    "tcp": _tcp,
    "http": _http,
    "exec": _exec,
}


def _port(value: object) -> int:
    if isinstance(value, int) and 0 < (port := whole(value)) < 65536:
        return port
    raise Unfit("a port, 1 to 65535")


def _times(value: object) -> int:
    if isinstance(value, int) and (times := whole(value)) > 0:
        return times
    raise Unfit("a number of times, 1 or more")


def _pattern(value: object) -> str:
    pattern = text(value)
    try:
        re.compile(pattern)
    except re.error as exc:
        raise Unfit(f"a regular expression ({exc})") from exc
    return pattern


def _seconds(value: object) -> float:
    if (seconds := number(value)) == 0:
        raise Unfit("seconds, more than 0")
    return seconds
