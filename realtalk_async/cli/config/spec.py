"""The processes that `realtalk-async run` starts, and the problems of a file."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from realtalk_async.cli.terminal.controlling import job_options
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import (
    GRACEFUL,
    ChildSpec,
    Command,
    RestartPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from realtalk_async.supervision.policy.restart import Strategy
    from realtalk_async.supervision.reports.containment import Mechanism


DEVICE_PATIENCE = 30.0
"""Seconds to wait for devices, as for `ProcessManager.start`."""

SHUTDOWN_TIMEOUT = 15.0
"""Seconds that the stop of all processes may take, as for `ProcessManager`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a file; ``str()`` gives place, key, problem and allowed values."""

    file: str
    line: int | None
    """Counted from 1; None if the problem belongs to no line."""
    key: str
    """Dotted, as in ``process.web.restart``; "" if the problem belongs to no key."""
    what: str
    """The problem, and the allowed values."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return (
            f"{place}: {self.key}: {self.what}" if self.key else f"{place}: {self.what}"
        )


class InvalidSpec(InvalidConfiguration):
    """A file cannot be run; the message has all of its problems, one in a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class ProcessSpec(ChildSpec):
    """One process of a file; its containment is that of `AppSpec` if None."""

    instance_of: str = ""
    """The name in the file, if this is one of several instances."""
    line: int | None = None
    """The line of the file that begins the process, counted from 1."""

    @property
    def tells_readiness(self) -> bool:
        """Whether it has a readiness probe, or is ready when it has finished."""
        return self.oneshot or any(one.purpose == "readiness" for one in self.probes)

    @property
    def shell(self) -> str:
        """The path of the shell that runs the command; "" if none does."""
        argv = self.command.argv
        is_shell = len(argv) == 3 and argv[1] == "-c" and argv[0].endswith("sh")
        return argv[0] if is_shell else ""

    @property
    def command_line(self) -> str:
        """The command as the file has it: without the shell that runs it."""
        return self.command.argv[2] if self.shell else str(self.command)


@dataclass(frozen=True, slots=True)
class AppSpec:
    """All processes of one run, each after the processes that it depends on."""

    file: str
    """The file's path; "" for a command of the command line."""
    processes: tuple[ProcessSpec, ...]
    strategy: Strategy = "one_for_one"
    check_interval: float = 1.0
    max_restarts: int | None = None
    """Restarts of all processes together that are allowed within the window."""
    window: float = 60.0
    """Seconds."""
    shutdown_timeout: float = SHUTDOWN_TIMEOUT
    """Seconds that the stop of all processes may take; then the rest is killed."""
    containment: Mechanism = "group"
    """How the descendants of the processes are found and ended."""
    notices: tuple[Problem, ...] = ()
    """What was left out of the files; it stops nothing."""
    first_port: int | None = None
    """The first ``PORT`` of a Procfile."""
    is_job: bool = False
    """Whether a single command is a job of our terminal, see `TerminalJob`."""

    @property
    def children(self) -> list[ChildSpec]:
        """The processes, each with the containment of all if it has none of its own."""
        return [
            replace(one, containment=one.containment or self.containment)
            for one in self.processes
        ]

    @property
    def needs_cgroup(self) -> bool:
        """Whether a process is to be contained by a cgroup."""
        each = (one.containment or self.containment for one in self.processes)
        return "cgroup" in each

    @property
    def is_single_command(self) -> bool:
        """Whether this is a command of the command line; its output is passed through."""
        return not self.file


def spec_of_command(
    argv: tuple[str, ...],
    restart: RestartPolicy,
    terminals: Iterable[str] | None = None,
) -> AppSpec:
    """
    Return the spec of a command of the command line.

    The command inherits the standard input and is critical: the run ends with it.

    Args:
        argv: The command.
        restart: When it is restarted.
        terminals: Our own streams that are terminals: a job of the terminal inherits them.
            None if there is no terminal.
    """
    is_job = terminals is not None
    command = Command(
        *argv,
        redirect=dict.fromkeys(("stdin", *(terminals or ()))),
        options=job_options() if is_job else None,
    )
    process = ProcessSpec(command.program_name, command, restart=restart, critical=True)
    return AppSpec("", (process,), is_job=is_job)


FORCES_COLOURS = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}
"""They make programs show colours although their output is captured (force-color.org)."""


def with_colours(
    spec: AppSpec, environment: Mapping[str, str], *, is_terminal: bool
) -> AppSpec:
    """
    Return a spec whose processes show colours, if a person looks who wants them.

    Args:
        spec: The processes; each with a variable of its own that decides about colours
            stays as it is.
        environment: Our own; if it decides about colours, all stay as they are.
        is_terminal: Whether a terminal shows the output.
    """
    decides = any(map(environment.get, ("NO_COLOR", *FORCES_COLOURS)))
    refuses = environment.get("CLICOLOR") == "0" or environment.get("TERM") == "dumb"
    if not is_terminal or decides or refuses:
        return spec
    return replace(spec, processes=tuple(map(_with_colours, spec.processes)))


def _with_colours(process: ProcessSpec) -> ProcessSpec:
    command = copy.copy(process.command)
    own = {"NO_COLOR", "CLICOLOR", *FORCES_COLOURS} & command.env.keys()
    if command.tty or own:
        return process
    command.env = {**command.env, **FORCES_COLOURS}
    return replace(process, command=command)


SETTINGS = (
    "strategy",
    "check_interval",
    "max_restarts",
    "window",
    "shutdown_timeout",
)
"""What a file says about all processes together: it is fixed while they run."""


def changed_settings(old: AppSpec, new: AppSpec) -> dict[str, str]:
    """Return a line for each setting of the manager that has changed, by its name."""
    what = "changed: it takes effect when run is started again"
    return {name: what for name in SETTINGS if getattr(old, name) != getattr(new, name)}


def start_order(needs: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """
    Return groups of names; the names of one group start together.

    Args:
        needs: The names that each name depends on; names that are not keys are ignored.

    Raises:
        CycleError: If names depend on each other.
    """
    sorter = TopologicalSorter(
        {name: [one for one in some if one in needs] for name, some in needs.items()}
    )
    sorter.prepare()
    place = {name: number for number, name in enumerate(needs)}
    groups: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        groups.append(ready)
        sorter.done(*ready)
    return groups


def in_start_order(
    processes: Iterable[ProcessSpec],
    file: str,
    line_of: Callable[[str, str], int | None],
) -> tuple[ProcessSpec, ...]:
    """
    Return the processes, each after the processes that it depends on.

    Args:
        processes: In any order.
        file: The file's path, for the problems.
        line_of: Returns the line of a key of the process of that name.

    Raises:
        InvalidSpec: If a process depends on an unknown process or, directly or not, on
            itself.
    """
    by_name = {process.name: process for process in processes}

    def problem(name: str, need: str, what: str) -> Problem:
        one = by_name[name]
        key = "depends_on" if need in one.depends_on else "binds_to"
        if need not in (*one.depends_on, *one.binds_to):
            key = "stdin"
        return Problem(file, line_of(name, key), f"process.{name}.{key}", what)

    known = ", ".join(map(repr, by_name))
    problems = [
        problem(process.name, need, f"no process is named {need!r}; there are {known}")
        for process in by_name.values()
        for need in process.needs
        if need not in by_name
    ]
    groups: list[list[str]] = []
    try:
        groups = start_order({one.name: one.needs for one in by_name.values()})
    except CycleError as exc:
        circle: list[str] = exc.args[1][::-1]
        what = f"these processes wait for each other: {' -> '.join(circle)}"
        problems.append(problem(circle[0], circle[1], what))
    if problems:
        raise InvalidSpec(problems)
    return tuple(by_name[name] for group in groups for name in group)


def select(spec: AppSpec, names: Iterable[str]) -> AppSpec:
    """
    Return a spec of some processes and all processes that they depend on.

    Args:
        spec: All processes.
        names: The wanted names; the name of a process with several instances
            (``worker`` for ``worker-1``) means all of them. All processes if empty.

    Raises:
        InvalidConfiguration: If no process has one of the names.
    """
    by_name = {process.name: process for process in spec.processes}
    left: list[str] = []
    for name in names:
        meant = [name] if name in by_name else instances_of(name, spec)
        if not meant:
            known = ", ".join(map(repr, by_name))
            raise InvalidConfiguration(
                f"{spec.file}: no process is named {name!r}; there are {known}"
            )
        left += meant
    if not left:
        return spec
    wanted: set[str] = set()
    while left:
        name = left.pop()
        if name not in wanted:
            wanted.add(name)
            left += by_name[name].needs
    kept = tuple(one for one in spec.processes if one.name in wanted)
    return replace(spec, processes=kept)


def with_instances(
    processes: Iterable[ProcessSpec], counts: Mapping[str, int | None]
) -> list[ProcessSpec]:
    """
    Return the processes, each as often as its number of instances says.

    The instances of ``worker`` are ``worker-1``, ``worker-2`` and so on; their variable
    ``INSTANCE`` is that number. Who depends on ``worker`` depends on all of them.

    Args:
        processes: As they stand in the file.
        counts: The number of instances by name; None for a process without instances.
    """
    numbered = {name: count for name, count in counts.items() if count is not None}

    def each(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(
            one
            for name in names
            for one in (
                [f"{name}-{n}" for n in range(1, numbered[name] + 1)]
                if name in numbered
                else [name]
            )
        )

    found: list[ProcessSpec] = []
    for one in processes:
        linked = replace(
            one, depends_on=each(one.depends_on), binds_to=each(one.binds_to)
        )
        if one.name not in numbered:
            found.append(linked)
            continue
        for number, name in enumerate(each([one.name]), 1):
            command = copy.copy(one.command)
            command.env = {**command.env, "INSTANCE": str(number)}
            found.append(
                replace(linked, name=name, command=command, instance_of=one.name)
            )
    return found


def instances_of(name: str, spec: AppSpec) -> list[str]:
    """Return the names of the instances of a process; none if it has no instances."""
    return [one.name for one in spec.processes if one.instance_of == name]


def describe_start_order(spec: AppSpec) -> list[str]:
    """Return lines with the order of the start: the processes of a group start together."""
    by_name = {process.name: process for process in spec.processes}
    width = max(map(len, by_name), default=0)
    groups = start_order({one.name: one.needs for one in spec.processes})
    lines: list[str] = []
    for number, group in enumerate(groups, 1):
        for index, name in enumerate(group):
            head = f"{number:>2} " if index == 0 else "   "
            lines.append(f"{head} {name:<{width}}  {_describe(by_name[name])}")
    return lines


def warnings(spec: AppSpec) -> list[str]:
    """Return a line for each process whose start or stop may not be what is expected."""
    found = list(map(str, spec.notices))
    for one in spec.processes:
        line = f":{one.line}" if one.line else ""
        place = f"{spec.file}{line}: process.{one.name}"
        dependants = ", ".join(
            other.name
            for other in spec.processes
            if one.name in (*other.depends_on, *other.binds_to)
        )
        if dependants and not one.tells_readiness:
            found.append(
                f"{place} has no readiness probe and is not oneshot: {dependants} will "
                f"start as soon as it runs"
            )
        gentle = sum(step.wait for step in one.ladder.steps[:-1])
        if gentle > spec.shutdown_timeout:
            found.append(
                f"{place}: its ladder takes {gentle:g} s before SIGKILL, but the "
                f"shutdown_timeout of {spec.shutdown_timeout:g} s ends it at Ctrl-C"
            )
    return found


def _describe(process: ProcessSpec) -> str:
    traits = [f"after {', '.join(process.needs)}"] if process.needs else []
    if process.binds_to:
        traits.append(f"bound to {', '.join(process.binds_to)}")
    traits.append(process.restart.mode)
    if process.oneshot:
        traits.append("oneshot")
    if process.critical:
        traits.append("critical")
    if process.devices:
        traits.append(f"devices {', '.join(process.devices)}")
    traits += [f"{probe.purpose} probe {probe.name}" for probe in process.probes]
    if process.command.limits:
        traits.append(f"limits {process.command.limits}")
    if process.containment is not None:
        traits.append(f"containment {process.containment}")
    if process.ladder != GRACEFUL:
        traits.append(f"stopped by {process.ladder!r}")
    return f"{process.command_line}  ({'; '.join(traits)})"
