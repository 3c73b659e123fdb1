"""
The tables and keys of a TOML file for `realtalk-async run`, as pydantic models.

Every type carries the words that an error message uses for the values it allows.
"""

import re
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from realtalk_async.cli.config.spec import DEVICE_PATIENCE, SHUTDOWN_TIMEOUT
from realtalk_async.cli.config.toml_lines import Path
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import (
    CLOSE_STDIN,
    GRACEFUL,
    TRANSIENT,
    Command,
    Ladder,
    Limits,
    Probe,
    RestartPolicy,
)
from realtalk_async.supervision.kernel.exit_status import signal_number
from realtalk_async.supervision.kernel.spawning.limits import MIN_MEMORY, MIN_OPEN_FILES
from realtalk_async.supervision.output.tap import ChildOutput
from realtalk_async.supervision.policy.probes import Purpose
from realtalk_async.supervision.policy.restart import Mode, Strategy
from realtalk_async.supervision.probing.builtin_probes import (
    exec_probe,
    http_probe,
    tcp_probe,
)
from realtalk_async.supervision.process import MAX_SIZE, check_oneshot
from realtalk_async.supervision.reports.containment import Mechanism

T = TypeVar("T")


class NotAllowed(ValueError):
    """A value is not allowed; the message names the allowed values."""


def must_be(allowed: str) -> WrapValidator:
    """Replace the error messages of a type by one that names the allowed values."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise NotAllowed(allowed) from None

    return WrapValidator(validate)


def _one_of(literal: object) -> WrapValidator:
    return must_be("one of " + ", ".join(map(repr, get_args(literal))))


# ---- values


Text = Annotated[
    str, StringConstraints(pattern=r"\S"), must_be("a string that is not empty")
]
Texts = Annotated[list[str], must_be("a list of strings")]
Flag = Annotated[bool, must_be("true or false")]
Number = Annotated[float, Field(ge=0), must_be("a number, 0 or more")]
Seconds = Annotated[float, Field(gt=0), must_be("a number of seconds greater than 0")]
Count = Annotated[int, Field(ge=0), must_be("a whole number, 0 or more")]
Times = Annotated[int, Field(ge=1), must_be("a whole number, 1 or more")]
MAX_INSTANCES = 1000
Instances = Annotated[
    int,
    Field(ge=1, le=MAX_INSTANCES),
    must_be(f"a whole number, 1 to {MAX_INSTANCES}"),
]
Bytes = Annotated[int, Field(ge=1), must_be("a number of bytes, 1 or more")]
Port = Annotated[int, Field(ge=1, le=65535), must_be("a port, 1 to 65535")]
NameOrId = Annotated[str | int, must_be("a name or a number")]
Statuses = Annotated[list[int], must_be("a list of exit statuses, such as [0, 143]")]


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Variable = Annotated[
    str, BeforeValidator(_number_as_text), must_be("a string or a number")
]


def _check_variables(variables: dict[str, str]) -> dict[str, str]:
    Command("true", env=variables)
    return variables


Variables = Annotated[dict[str, Variable], AfterValidator(_check_variables)]


def _run_text_by_shell(value: object) -> object:
    is_text = isinstance(value, str) and value.strip()
    return ["/bin/sh", "-c", value] if is_text else value


def _check_arguments(argv: list[str]) -> list[str]:
    Command(*argv)
    return argv


Arguments = Annotated[
    list[Annotated[str, BeforeValidator(_number_as_text)]],
    Field(min_length=1),
    BeforeValidator(_run_text_by_shell),
    must_be("a string, run by a shell, or a list: the program and its arguments"),
    AfterValidator(_check_arguments),
]


def _check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise NotAllowed(f"a regular expression ({exc})") from exc
    return text


Pattern = Annotated[Text, AfterValidator(_check_pattern)]


def _check_url(url: str) -> str:
    http_probe(url)
    return url


def _read_ladder(value: object) -> Ladder:
    if not isinstance(value, list):
        raise NotAllowed('a list of steps such as [["INT", 0.5], ["TERM", 2]]')
    return Ladder(*map(_read_step, cast("list[object]", value)))


def _read_step(value: object) -> tuple[int, float]:
    match value:
        case [str(name), int() | float() as seconds] if seconds >= 0:
            return _signal_number(name), seconds
        case _:
            raise NotAllowed(
                "a list of steps, each a signal and a number of seconds, 0 or more, "
                'such as ["TERM", 2]'
            )


def _signal_number(name: str) -> int:
    found = CLOSE_STDIN if name == "close stdin" else signal_number(name)
    if found is None:
        usual = "INT, TERM, HUP, QUIT, USR1, USR2, KILL or 'close stdin'"
        raise NotAllowed(f"steps with signals such as {usual}; there is no {name!r}")
    return found


def _check_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError(f"the name of a process is printable text, not {name!r}")
    return name


Name = Annotated[str, AfterValidator(_check_name)]


# ---- tables


class Table(BaseModel):
    """A table of the file; a key that is not a field of the model is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RestartTable(Table):
    """``[process.NAME.restart]``; a missing key has the value of `TRANSIENT`."""

    mode: Annotated[Mode, _one_of(Mode)] = TRANSIENT.mode
    max_failures: Number = TRANSIENT.max_failures
    decay: Seconds = TRANSIENT.decay
    first_delay: Number = TRANSIENT.first_delay
    max_delay: Number = TRANSIENT.max_delay
    jitter: Flag = TRANSIENT.jitter
    success_statuses: Statuses = list(TRANSIENT.success_statuses)
    fatal_statuses: Statuses = list(TRANSIENT.fatal_statuses)

    def policy(self) -> RestartPolicy:
        """Return the restart policy."""
        values = dict(self)
        for key in ("success_statuses", "fatal_statuses"):
            values[key] = frozenset(values[key])
        return RestartPolicy(**values)


def _read_mode(value: object) -> object:
    """Return the table that a mode alone, such as ``"permanent"``, stands for."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    modes = get_args(Mode)
    if value in modes:
        return {"mode": value}
    raise NotAllowed(f"one of {', '.join(map(repr, modes))}, or a table")


class LineProbe(Table):
    """``{ line = "REGULAR EXPRESSION" }``: a line of output shows readiness."""

    line: Pattern
    timeout: Seconds = 10.0

    def probe(self) -> Probe:
        """Return the probe."""
        return Probe.line(self.line, timeout=self.timeout)


class SilenceProbe(Table):
    """``{ silence = SECONDS }``: output at least that often shows liveness."""

    silence: Seconds
    stream: Annotated[
        Literal["stdout", "stderr"], _one_of(Literal["stdout", "stderr"])
    ] = "stdout"
    grace: Number = 3.0

    def probe(self) -> Probe:
        """Return the probe."""
        return Probe.silence(self.silence, self.stream, grace=self.grace)


class PeriodicProbe(Table):
    """The keys of all probes that check again and again."""

    purpose: Annotated[Purpose, _one_of(Purpose)] = "liveness"
    period: Seconds = 1.0
    timeout: Seconds = 1.0
    grace: Number = 0.0
    failure_threshold: Times = 1

    def options(self) -> dict[str, Any]:
        """Return the keys of the file; the probe has its own values for the others."""
        common = self.model_fields_set & PeriodicProbe.model_fields.keys()
        return {key: getattr(self, key) for key in common}


class TcpProbe(PeriodicProbe):
    """``{ tcp = PORT }``: a connection to a TCP port succeeds."""

    tcp: Port
    host: Text = "127.0.0.1"

    def probe(self) -> Probe:
        """Return the probe."""
        return tcp_probe(self.tcp, self.host, **self.options())


class HttpProbe(PeriodicProbe):
    """``{ http = "URL" }``: the response has a status of 200 to 399."""

    http: Annotated[Text, AfterValidator(_check_url)]

    def probe(self) -> Probe:
        """Return the probe."""
        return http_probe(self.http, **self.options())


class ExecProbe(PeriodicProbe):
    """``{ exec = COMMAND }``: the command exits with 0."""

    exec: Arguments

    def probe(self) -> Probe:
        """Return the probe."""
        return exec_probe(Command(*self.exec), **self.options())


AnyProbe = LineProbe | SilenceProbe | TcpProbe | HttpProbe | ExecProbe

PROBES: dict[str, type[AnyProbe]] = {
    "line": LineProbe,
    "silence": SilenceProbe,
    "tcp": TcpProbe,
    "http": HttpProbe,
    "exec": ExecProbe,
}
"""The model of a probe, by the key that only this probe has."""


def probe_model(value: object) -> type[AnyProbe]:
    """
    Return the model of a probe's table.

    Raises:
        ValueError: If the table has none, or several, of the keys of `PROBES`.
    """
    if not isinstance(value, dict):
        raise NotAllowed("a table")
    kinds = [model for key, model in PROBES.items() if key in value]
    if len(kinds) != 1:
        raise ValueError(f"a probe has exactly one of the keys {', '.join(PROBES)}")
    return kinds[0]


def _read_probe(value: object) -> Probe:
    return probe_model(value).model_validate(value).probe()


def _check_oneshot(oneshot: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
    """Check it with the keys before it; a key with a problem is absent."""
    if "restart" in info.data and "probes" in info.data:
        check_oneshot(oneshot, info.data["restart"].policy(), info.data["probes"])
    return oneshot


def _check_tty(tty: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
    if tty and info.data.get("stdin", True) is not True:
        raise NotAllowed('false beside this stdin: the terminal is the stdin ("open")')
    return tty


SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
"""
Bytes by the letter after a number, as systemd and docker count them; pydantic's ByteSize
takes M as a million.
"""


def _read_size(value: object) -> object:
    """Return the bytes of a number, or of a text such as ``512M`` (binary units)."""
    found = (
        re.fullmatch(r"(\d+)([KMGT]?)(?:I?B)?", value.upper())
        if isinstance(value, str)
        else None
    )
    return int(found[1]) * SIZES[found[2]] if found else value


Size = Annotated[
    int,
    Field(ge=MIN_MEMORY),
    BeforeValidator(_read_size),
    must_be('a number of bytes, 1 MiB or more, or a string such as "512M" or "2G"'),
]
OpenFiles = Annotated[
    int,
    Field(ge=MIN_OPEN_FILES),
    must_be(f"a whole number, {MIN_OPEN_FILES} or more"),
]


class LimitsTable(Table):
    """``[process.NAME.limits]``: the arguments of `Limits`."""

    memory: Size | None = None
    processes: Times | None = None
    cpu: Times | None = None
    open_files: OpenFiles | None = None

    def limits(self) -> Limits | None:
        """Return the limits; None if there are none."""
        return Limits(**dict(self)) or None


def _read_stdin(value: object) -> bool | ChildOutput:
    if value in {"open", "empty"}:
        return value == "open"
    if isinstance(value, str) and value.endswith((".stdout", ".stderr")):
        return ChildOutput.of("stdin", value)
    raise NotAllowed("'open', 'empty' or the output of a process such as 'web.stdout'")


Stdin = Annotated[bool | ChildOutput, PlainValidator(_read_stdin)]
"""``"open"``: it never ends, as that of a terminal; watchers end with their stdin."""


class ProcessTable(Table):
    """``[process.NAME]``."""

    command: Arguments
    instances: Instances | None = None
    cwd: Text = ""
    env: Variables = {}
    stdin: Stdin = True
    tty: Annotated[Flag, AfterValidator(_check_tty)] = False
    user: NameOrId | None = None
    group: NameOrId | None = None
    umask: Count | None = None
    limits: LimitsTable = LimitsTable()
    containment: Annotated[Mechanism, _one_of(Mechanism)] | None = None
    restart: Annotated[RestartTable, BeforeValidator(_read_mode)] = RestartTable()
    critical: Flag = False
    depends_on: Texts = []
    binds_to: Texts = []
    devices: Texts = []
    device_patience: Number = DEVICE_PATIENCE
    probes: list[Annotated[Probe, PlainValidator(_read_probe)]] = []
    ladder: Annotated[Ladder, PlainValidator(_read_ladder)] = GRACEFUL
    oneshot: Annotated[Flag, AfterValidator(_check_oneshot)] = False
    max_size: Bytes = MAX_SIZE


class File(Table):
    """The whole file."""

    strategy: Annotated[Strategy, _one_of(Strategy)] = "one_for_one"
    check_interval: Seconds = 1.0
    max_restarts: Count | None = None
    window: Seconds = 60.0
    shutdown_timeout: Number = SHUTDOWN_TIMEOUT
    containment: Annotated[Mechanism, _one_of(Mechanism)] = "group"
    env: Variables = {}
    process: dict[Name, ProcessTable] = {}


def table_model(path: Path, content: dict[str, Any]) -> type[Table]:
    """
    Return the model of the table at a path.

    Args:
        path: Leads to a table that `File` describes.
        content: The content of the file.
    """
    match path:
        case ():
            return File
        case ("process", _):
            return ProcessTable
        case ("process", _, "restart"):
            return RestartTable
        case ("process", _, "limits"):
            return LimitsTable
        case ("process", name, "probes", int(number)):
            return probe_model(content["process"][name]["probes"][number])
        case _:
            raise InvalidConfiguration(f"there is no table at {path}")
