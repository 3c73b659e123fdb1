"""Decide, without I/O, what leads from one list of child specs to another one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, cast

from realtalk_async.supervision.policy.probes import Probe
from realtalk_async.supervision.specs.child_spec import ChildSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LINKS = {"depends_on", "binds_to"}

UNCHANGED = "unchanged"
NOT_STARTED = "not started"

COMMAND_PARTS = {
    "argv": "command", "env": "environment", "cwd": "cwd", "stdin": "stdin",
    "stdout": "stdout", "redirect": "redirect", "options": "options", "limits": "limits",
}  # fmt: skip
"""The attributes of a `Command` with their names for people."""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What leads from the old specs to the new ones; each name is in one of the fields.

    ``str()`` has a line for each process, and shows no value of a spec.
    """

    stopped: tuple[str, ...] = ()
    """The names that are gone."""
    started: tuple[str, ...] = ()
    """The names that are new, or waited for one that starts now."""
    restarted: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """The names that have changed, each with what has changed."""
    relinked: tuple[str, ...] = ()
    """The names that depend on other processes than before: they run on."""
    bound: tuple[str, ...] = ()
    """The names that have not changed, but restart with one that they are bound to."""
    same: tuple[str, ...] = ()
    """The names that have not changed: they never notice."""
    failed: Mapping[str, Exception] = field(default_factory=dict[str, Exception])
    """Why a process could not be started, by its name; the others run."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return not (self.stopped or self.started or self.restarted or self.relinked)

    @property
    def ending(self) -> tuple[str, ...]:
        """The names that end before anything starts."""
        return (*self.stopped, *self.restarted)

    @property
    def beginning(self) -> tuple[str, ...]:
        """The names that start when all others have ended."""
        return (*self.restarted, *self.started)

    def lines(self) -> dict[str, str]:
        """Return what happens to each process, by its name."""
        found = dict.fromkeys(self.stopped, "stopped")
        found |= {
            name: f"restarted: {', '.join(what)} changed"
            for name, what in self.restarted.items()
        }
        found |= dict.fromkeys(self.started, "started")
        what = "runs on: it depends on other processes from now on"
        found |= dict.fromkeys(self.relinked, what)
        what = "restarted: it is bound to a process that changed"
        found |= dict.fromkeys(self.bound, what)
        found |= dict.fromkeys(self.same, UNCHANGED)
        return found | {n: f"{NOT_STARTED}: {why}" for n, why in self.failed.items()}

    def __str__(self) -> str:
        return "\n".join(f"{name}: {what}" for name, what in self.lines().items())


def compare(
    old: Mapping[str, ChildSpec],
    new: Mapping[str, ChildSpec],
    waiting: Collection[str] = (),
) -> Difference:
    """
    Return the difference between two lists of specs, by name.

    Args:
        old: What was applied last.
        new: What is to be applied.
        waiting: The names that do not run because they wait for a dependency, or because
            one has failed: they start again if one of their dependencies does.
    """
    changed = {
        name: what
        for name, spec in new.items()
        if name in old and (what := changes(old[name], spec))
    }
    # A process that waited for nothing at its start cannot learn to wait while it runs.
    relinked = {n for n, what in changed.items() if {*what} <= LINKS and old[n].needs}
    restarted = {n: what for n, what in changed.items() if n not in relinked}
    fresh = {name for name in new if name not in old}
    begun = _with_dependants({*restarted, *fresh}, new, waiting)
    bound = _bound_to(set(restarted), new) - begun - relinked
    return Difference(
        stopped=tuple(name for name in old if name not in new),
        started=tuple(n for n in new if n in begun and n not in restarted),
        restarted=restarted,
        relinked=tuple(n for n in new if n in relinked and n not in begun),
        bound=tuple(n for n in new if n in bound),
        same=tuple(n for n in new if n not in begun | relinked | bound),
    )


def changes(old: ChildSpec, new: ChildSpec) -> tuple[str, ...]:
    """Return what differs between two specs of a name, in words; nothing if it is equal."""
    found = [
        word
        for part, word in COMMAND_PARTS.items()
        if getattr(old.command, part) != getattr(new.command, part)
    ]
    rest = [name for name in ChildSpec.__dataclass_fields__ if name != "command"]
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in rest)
    return (*found, *(name for name, *pair in pairs if not is_equal(*pair)))


def is_equal(one: object, other: object) -> bool:
    """
    Return whether two values of a spec are equal.

    A probe consists of functions. Two functions are equal if the same code made them from
    equal values, as two calls of ``Probe.line("ready")`` do.
    """
    if one is other:
        return True
    if isinstance(one, Probe) and isinstance(other, Probe):
        names = {each.name for each in fields(Probe)}
        if one.make_check and other.make_check:
            names.remove("check")  # it is the first one that `make_check` has made
        return all(is_equal(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return one.__code__ == other.__code__ and is_equal(_values(one), _values(other))
    if isinstance(one, partial) and isinstance(other, partial):
        ours, theirs = cast("partial[object]", one), cast("partial[object]", other)
        return is_equal(_parts(ours), _parts(theirs))
    if isinstance(one, tuple) and isinstance(other, tuple):
        values = cast("tuple[object, ...]", one), cast("tuple[object, ...]", other)
        return len(values[0]) == len(values[1]) and all(map(is_equal, *values))
    return bool(one == other)


def _values(function: FunctionType) -> tuple[object, ...]:
    """Return the values that a function takes from where it was made."""
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    keywords = function.__kwdefaults__ or {}
    return cells, function.__defaults__ or (), tuple(sorted(keywords.items()))


def _parts(made: partial[object]) -> tuple[object, ...]:
    return made.func, made.args, tuple(sorted(made.keywords.items()))


def _with_dependants(
    names: set[str], specs: Mapping[str, ChildSpec], waiting: Collection[str]
) -> set[str]:
    """Return *names*, and those of *waiting* that depend on one of them, at any distance."""
    found, before = set(names), set[str]()
    while found != before:
        before = set(found)
        found |= {
            n for n in waiting if n in specs and not found.isdisjoint(specs[n].needs)
        }
    return found


def _bound_to(names: set[str], specs: Mapping[str, ChildSpec]) -> set[str]:
    """Return the names that are bound to one of *names*, at any distance."""
    found, before = set(names), set[str]()
    while found != before:
        before = set(found)
        found |= {n for n, s in specs.items() if not found.isdisjoint(s.binds_to)}
    return found - names
