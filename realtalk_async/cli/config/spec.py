"""
What `realtalk-async run` is to run: a set of parts, and the mistakes in it. Pure.

A recipe comes from a Procfile (`procfile`), from TOML (`toml`), or is one command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import (
    GRACEFUL,
    TRANSIENT,
    Command,
    Ladder,
    Probe,
    RestartPolicy,
)
from realtalk_async.supervision.process import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from realtalk_async.supervision.policy.restart import Strategy


DEVICE_PATIENCE = 30.0
"""Seconds to wait for devices, as for `ProcessManager.start`."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something in a file that cannot be meant; ``str()`` says where, what and what else."""

    file: str
    line: int | None
    """Counted from 1; None if it belongs to no line."""
    key: str
    """Dotted, as in ``process.web.restart``; "" if it belongs to no key."""
    what: str
    """What is wrong, and what is allowed."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return (
            f"{place}: {self.key}: {self.what}" if self.key else f"{place}: {self.what}"
        )


class BadRecipe(InvalidConfiguration):
    """A file cannot be run as it stands; the message has all of its mistakes."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: tuple[Mistake, ...] = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a recipe, with all that the manager is to know of it."""

    name: str
    command: Command
    restart: RestartPolicy = TRANSIENT
    critical: bool = False
    depends_on: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_patience: float = DEVICE_PATIENCE
    probes: tuple[Probe, ...] = ()
    ladder: Ladder = GRACEFUL
    max_size: int = MAX_SIZE
    line: int | None = None
    """Where it is written, counted from 1."""

    @property
    def shown(self) -> str:
        """Its command as it was written: what a shell is given, without the shell."""
        argv = self.command.argv
        return argv[2] if argv[:2] == ("/bin/sh", "-c") else str(self.command)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that is to run, in an order in which it can be started."""

    file: str
    """Where it is written; "" for a command given by hand."""
    parts: tuple[Part, ...]
    strategy: Strategy = "one_for_one"
    check_interval: float = 1.0
    max_restarts: int | None = None
    """So many restarts of all together are allowed within the window."""
    window: float = 60.0
    """Seconds."""

    @property
    def is_bare(self) -> bool:
        """Whether it is one command given by hand: its output is passed on as it is."""
        return not self.file


def of_command(argv: tuple[str, ...], restart: RestartPolicy) -> Recipe:
    """
    Return the recipe for one command given by hand.

    It has our standard input, and without it we have nothing to do.
    """
    command = Command(*argv, redirect={"stdin": None})
    part = Part(command.program_name, command, restart=restart, critical=True)
    return Recipe("", (part,))


@dataclass(slots=True)
class Waves:
    """Who can start together, wave after wave; what is in a circle stays out."""

    waves: list[list[str]] = field(default_factory=list[list[str]])
    circle: list[str] = field(default_factory=list[str])
    """Names that depend on each other, or on such; in the order of the file."""


def waves_of(needs: Mapping[str, Iterable[str]]) -> Waves:
    """
    Return who can start when.

    Args:
        needs: What each name depends on; names that are not keys are passed over.
    """
    left = {name: {one for one in some if one in needs} for name, some in needs.items()}
    found = Waves()
    while ready := [name for name, some in left.items() if not some]:
        found.waves.append(ready)
        for name in ready:
            del left[name]
        for some in left.values():
            some.difference_update(ready)
    found.circle = list(left)
    return found


def in_order(
    parts: Iterable[Part], file: str, line_of: Callable[[str], int | None]
) -> tuple[Part, ...]:
    """
    Return the parts in an order in which each comes after what it depends on.

    Args:
        parts: In any order.
        file: What the file is called, for the mistakes.
        line_of: Tells where it is written what the part of that name depends on.

    Raises:
        BadRecipe: If one depends on what is not there, or on itself by way of others.
    """
    by_name = {part.name: part for part in parts}

    def mistake(name: str, what: str) -> Mistake:
        return Mistake(file, line_of(name), f"process.{name}.depends_on", what)

    mistakes = [
        mistake(part.name, _unknown(need, by_name))
        for part in by_name.values()
        for need in part.depends_on
        if need not in by_name
    ]
    found = waves_of({name: part.depends_on for name, part in by_name.items()})
    if found.circle:
        who = ", ".join(found.circle)
        what = f"these wait for each other, so none could ever start: {who}"
        mistakes.append(mistake(found.circle[0], what))
    if mistakes:
        raise BadRecipe(mistakes)
    return tuple(by_name[name] for wave in found.waves for name in wave)


def _unknown(need: str, known: Iterable[str]) -> str:
    return f"no process is named {need!r}; there are {', '.join(map(repr, known))}"


def draw(recipe: Recipe) -> list[str]:
    """Return the order of the start as lines: a wave starts when what it needs runs."""
    names = [part.name for part in recipe.parts]
    width = max(map(len, names), default=0)
    waves = waves_of({part.name: part.depends_on for part in recipe.parts}).waves
    by_name = {part.name: part for part in recipe.parts}
    lines: list[str] = []
    for number, wave in enumerate(waves, 1):
        for index, name in enumerate(wave):
            head = f"{number:>2} " if index == 0 else "   "
            lines.append(f"{head} {name:<{width}}  {_traits(by_name[name])}")
    return lines


def _traits(part: Part) -> str:
    """Return in words what is special about a part."""
    traits = [f"after {', '.join(part.depends_on)}"] if part.depends_on else []
    traits.append(part.restart.mode)
    if part.critical:
        traits.append("critical")
    if part.devices:
        traits.append(f"alone with {', '.join(part.devices)}")
    traits += [f"{probe.purpose}: {probe.name}" for probe in part.probes]
    if part.ladder != GRACEFUL:
        traits.append(f"ended by {part.ladder!r}")
    return f"{part.shown}  ({'; '.join(traits)})"
