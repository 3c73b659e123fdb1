"""
Read and check the TOML file of `realtalk-async run`; `toml_schema` has its keys.

::

    shutdown_timeout = 20                  # seconds for the stop of all; then SIGKILL

    [env]                                  # for all processes
    LANG = "C.UTF-8"

    [process.peer]
    command = ["realtalk-async", "peer", "--port", "8765"]  # program and arguments
    critical = true
    probes = [{ line = "peer ready" }]     # or silence, tcp, http, exec

    [process.fetch]
    command = ["./fetch-models"]
    oneshot = true                         # ready when it has exited with success

    [process.worker]
    command = ["./work"]
    instances = 3                          # worker-1, worker-2, worker-3

    [process.app]
    command = "exec ./app --url $URL"      # a string is run by a shell
    depends_on = ["peer"]                  # or binds_to: it restarts with it, too
    restart = { mode = "permanent", max_failures = 10 }
    ladder = [["INT", 0.5], ["TERM", 2]]
    devices = ["hw:0"]                     # no two processes have it at a time
    stdin = "peer.stdout"                  # or "open", the default, or "empty"
    limits = { memory = "512M", cpu = 60 } # also processes, open_files
    containment = "cgroup"                 # also for all processes, at the top
"""

from __future__ import annotations

import difflib
import os.path
import re
import tomllib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from realtalk_async.cli.config import toml_schema
from realtalk_async.cli.config.spec import (
    AppSpec,
    InvalidSpec,
    Problem,
    ProcessSpec,
    in_start_order,
    with_instances,
)
from realtalk_async.cli.config.toml_lines import Path, TomlLines, dotted
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import Command
from realtalk_async.supervision.lifecycle.options import check_containment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from realtalk_async.supervision.reports.containment import Mechanism


def parse_toml(text: str, file: str, *, base: str = "") -> AppSpec:
    """
    Return the spec that a TOML text describes.

    Args:
        text: The content of the file.
        file: The file's path, for the problems.
        base: The folder of relative ``cwd`` and of commands without ``cwd``.

    Raises:
        InvalidSpec: With all problems of the text.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidSpec([_syntax_problem(exc, text, file)]) from exc
    lines = TomlLines(text)
    try:
        model = toml_schema.File.model_validate(content)
    except ValidationError as exc:
        problems = [_problem(one, content, file, lines) for one in exc.errors()]
        raise InvalidSpec(sorted(problems, key=lambda one: one.line or 0)) from exc
    if not model.process:
        raise InvalidSpec([Problem(file, None, "", "there is no [process.NAME] in it")])
    written = [
        _process(name, table, model.env, base, lines.line_of(("process", name)))
        for name, table in model.process.items()
    ]
    counts = {name: table.instances for name, table in model.process.items()}
    processes = with_instances(written, counts)
    if clashes := _name_clashes(processes, file):
        raise InvalidSpec(clashes)
    if refused := list(
        _containment_problems(processes, model.containment, file, lines)
    ):
        raise InvalidSpec(refused)
    return AppSpec(
        file,
        in_start_order(
            processes, file, lambda name, key: lines.line_of(("process", name, key))
        ),
        model.strategy,
        model.check_interval,
        model.max_restarts,
        model.window,
        model.shutdown_timeout,
        model.containment,
    )


def _name_clashes(processes: list[ProcessSpec], file: str) -> list[Problem]:
    """Return a problem for each instance whose name another process has."""
    names = [one.name for one in processes]
    return [
        Problem(
            file,
            one.line,
            f"process.{one.instance_of}.instances",
            f"one of the instances is {one.name!r}, as another process: rename one",
        )
        for one in processes
        if one.instance_of and names.count(one.name) > 1
    ]


def _containment_problems(
    processes: list[ProcessSpec], default: Mechanism, file: str, lines: TomlLines
) -> Iterator[Problem]:
    """Yield a problem for each process that cannot be contained as the file says."""
    for one in processes:
        try:
            check_containment(one.containment or default, one.command, has_manager=True)
        except InvalidConfiguration as exc:
            name = one.instance_of or one.name
            path = ("process", name, *(["containment"] if one.containment else []))
            yield Problem(file, lines.line_of(path), dotted(path), str(exc))


def _process(
    name: str,
    table: toml_schema.ProcessTable,
    env: dict[str, str],
    base: str,
    line: int | None,
) -> ProcessSpec:
    options = {"user": table.user, "group": table.group, "umask": table.umask}
    command = Command(
        *table.command,
        env=env | table.env,
        cwd=os.path.join(base, table.cwd) or None,
        stdin=table.stdin,
        tty=table.tty,
        options={key: value for key, value in options.items() if value is not None},
        limits=table.limits.limits(),
    )
    return ProcessSpec(
        name,
        command,
        restart=table.restart.policy(),
        critical=table.critical,
        depends_on=tuple(table.depends_on),
        binds_to=tuple(table.binds_to),
        devices=tuple(table.devices),
        device_patience=table.device_patience,
        oneshot=table.oneshot,
        probes=tuple(table.probes),
        ladder=table.ladder,
        max_size=table.max_size,
        containment=table.containment,
        line=line,
    )


# ---- problems


def _syntax_problem(exc: tomllib.TOMLDecodeError, text: str, file: str) -> Problem:
    message = str(exc)
    place = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(place[1]) if place else text.rstrip("\n").count("\n") + 1
    return Problem(file, line, "", f"not TOML: {message}")


def _problem(
    error: ErrorDetails, content: dict[str, Any], file: str, lines: TomlLines
) -> Problem:
    """Return the problem that an error of pydantic stands for."""
    # pydantic marks an error of a key of a dict by one more element.
    path = tuple(one for one in error["loc"] if one != "[key]")
    match error["type"]:
        case "missing":
            path, key = path[:-1], path[-1]
            what = f"the key {key!r} is missing"
        case "extra_forbidden":
            what = _unknown_key(path, content)
        case "model_type" | "dict_type":
            what = _must_be("a table", error["input"])
        case "list_type":
            what = _must_be("a list of tables", error["input"])
        case _:
            what = _invalid_value(error)
    return Problem(file, lines.line_of(path), dotted(path), what)


def _unknown_key(path: Path, content: dict[str, Any]) -> str:
    *outer, key = path
    allowed = sorted(toml_schema.table_model(tuple(outer), content).model_fields)
    close = difflib.get_close_matches(str(key), allowed, 1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return f"no such key;{hint} the keys are {', '.join(allowed)}"


def _invalid_value(error: ErrorDetails) -> str:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, toml_schema.NotAllowed):
        return _must_be(str(cause), error["input"])
    return str(cause or error["msg"])


def _must_be(allowed: str, value: object) -> str:
    return f"must be {allowed}, not {_short(value)}"


def _short(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
