"""The names of the supervised processes and tasks, with all former holders of a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.events import MANAGER
from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessStillRunning,
    UnknownProcess,
)
from realtalk_async.supervision.lifecycle.supervisor_port import log_first_counted
from realtalk_async.supervision.process import ManagedProcess
from realtalk_async.supervision.reports.kept_history import (
    NONE_EARLIER,
    Earlier,
    History,
)
from realtalk_async.supervision.reports.report import ErrorHistory, ProcessHistory
from realtalk_async.supervision.task import SupervisedTask

if TYPE_CHECKING:
    from realtalk_async.logs import Logger

ProcessOrTask = ManagedProcess | SupervisedTask


class Registry(Mapping[str, ProcessOrTask]):
    """
    The processes and tasks of a manager by name, in the order of their start.

    Args:
        logger: Where the reuse of a name and an unknown name are logged.
        history: How much of the past is kept.
        is_needed: Returns whether a name must be kept: another child needs it.
        on_forget: Called with each name that is forgotten.
    """

    def __init__(
        self,
        logger: Logger,
        history: History,
        *,
        is_needed: Callable[[str], bool],
        on_forget: Callable[[str], object],
    ) -> None:
        self.kept = history
        self._logger = logger
        self._is_needed = is_needed
        self._on_forget = on_forget
        self._present: dict[str, ProcessOrTask] = {}
        self._past: dict[str, list[ProcessOrTask]] = {}
        self._earlier: dict[str, Earlier] = {}
        """The incarnations of former holders that are no longer kept, by name."""
        self._settled: dict[str, None] = {}
        """The names that have settled, in that order; some may have started again."""
        self._needed: set[str] = set()
        """Dead names that others need: they are kept, and do not count."""
        self._forgotten_names = 0
        self._forgotten = NONE_EARLIER

    def __getitem__(self, name: str) -> ProcessOrTask:
        return self._present[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._present)

    def __len__(self) -> int:
        return len(self._present)

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        """The processes; a copy."""
        present = self._present.items()
        return {n: one for n, one in present if isinstance(one, ManagedProcess)}

    @property
    def tasks(self) -> dict[str, SupervisedTask]:
        """The tasks; a copy."""
        present = self._present.items()
        return {n: one for n, one in present if isinstance(one, SupervisedTask)}

    @property
    def all_ever(self) -> list[ProcessOrTask]:
        """All processes and tasks, with those whose names were reused."""
        past = [one for some in self._past.values() for one in some]
        return [*past, *self._present.values()]

    # ---- names

    def find(self, name: str) -> ProcessOrTask:
        """
        Return the process or task of this name.

        Raises:
            UnknownProcess: If there is none; this is logged as well.
            InvalidConfiguration: If *name* is no text.
        """
        arguments.text("name", name)
        try:
            return self._present[name]
        except KeyError:
            known = {"known": list(self._present)}
            self._logger.warning(MANAGER, f"Unknown process {name!r}", known)
            raise UnknownProcess(name, self._present) from None

    def find_process(self, name: str) -> ManagedProcess:
        """
        Return the process of this name.

        Raises:
            UnknownProcess: If there is none.
            InvalidConfiguration: If a task has this name.
        """
        found = self.find(name)
        if not isinstance(found, ManagedProcess):
            raise InvalidConfiguration(f"{name!r} is a task, not a process")
        return found

    def check_free(self, name: str) -> None:
        """
        Raise an error unless this name can be used.

        Raises:
            ProcessStillRunning: If its process runs, or will be restarted automatically.
            InvalidConfiguration: If *name* is no name.
        """
        arguments.one_line("name", name)
        present = self._present.get(name)
        if present is not None and not _is_free(present):
            pid = present.pid if isinstance(present, ManagedProcess) else None
            raise ProcessStillRunning(name, pid)

    def free_name(self, wanted: str) -> str:
        """Return *wanted*, with a number appended if that name is in use."""
        number, name = 1, wanted
        while name in self._present and not _is_free(self._present[name]):
            number += 1
            name = f"{wanted}-{number}"
        return name

    def add(self, child: ProcessOrTask) -> None:
        """Register a process or task; keep the history of a former holder of its name."""
        name = child.name
        before = self._present.pop(name, None)
        if before is not None:
            self._logger.warning(
                name,
                "A new process reuses the name of a dead one, whose history is kept",
                {"before": before.get_status().reason},
            )
            self._past.setdefault(name, []).append(before)
            self._forget_holders(name)
        self._settled.pop(name, None)
        self._needed.discard(name)
        self._present[name] = child

    # ---- what is kept

    def note_settled(self, name: str) -> None:
        """Note that *name* is dead; forget older dead names beyond those to keep."""
        self._settled.pop(name, None)
        self._needed.discard(name)
        if name in self._present:
            self._settled[name] = None
            self._forget_names()

    def _forget_holders(self, name: str) -> None:
        """Count the oldest former holders of a name beyond the incarnations to keep."""
        past, most = self._past[name], self.kept.incarnations
        if most is None:
            return
        if len(past) >= most and name not in self._earlier:
            log_first_counted(self._logger, name, self.kept)
        while len(past) >= most:
            counted = past.pop(0).count_incarnations()
            self._earlier[name] = self._earlier.get(name, NONE_EARLIER) + counted

    def _forget_names(self) -> None:
        most = self.kept.names
        if most is None or len(self._settled) <= most:
            return
        if free := [name for name in self._needed if not self._is_needed(name)]:
            self._needed.difference_update(free)
            self._settled = {**dict.fromkeys(free), **self._settled}
        while len(self._settled) > most:
            name = next(iter(self._settled))
            del self._settled[name]
            if name not in self._present or not _is_free(self._present[name]):
                continue
            if self._is_needed(name):
                self._needed.add(name)
            else:
                self._forget_name(name)

    def _forget_name(self, name: str) -> None:
        if not self._forgotten_names:
            self._logger.info(
                MANAGER,
                f"Only the newest {self.kept.names} names of dead processes and tasks "
                f"are kept from now on: older ones are counted; see History",
            )
        self._forgotten_names += 1
        self._forgotten += self._earlier.pop(name, NONE_EARLIER)
        for one in (*self._past.pop(name, ()), self._present.pop(name)):
            self._forgotten += one.count_incarnations()
        self._on_forget(name)

    # ---- histories

    def last_incarnation_of(self, name: str) -> int:
        """Return the number of the last incarnation under this name; 0 if there is none."""
        before = [*self._past.get(name, ()), self._present.get(name)]
        return max((one.incarnation for one in before if one is not None), default=0)

    def history(self, name: str) -> ProcessHistory:
        """
        Return the history of this name, with that of its former holders.

        Raises:
            UnknownProcess: If there is no process or task of this name.
        """
        present = self.find(name)
        parts = [past.get_history() for past in self._past.get(name, ())]
        parts.append(present.get_history())
        earlier = self._earlier.get(name, NONE_EARLIER)
        return ProcessHistory(
            parts[-1].status,
            tuple(record for part in parts for record in part.incarnations),
            tuple(one for part in parts for one in part.attempts),
            tuple(one for part in parts for one in part.errors),
            sum((part.earlier for part in parts), earlier),
        )

    def histories(self) -> ErrorHistory:
        """Return the histories of all names."""
        histories = {name: self.history(name) for name in self._present}
        return ErrorHistory(histories, self._forgotten_names, self._forgotten)


def _is_free(one: ProcessOrTask) -> bool:
    """Return whether its name can be reused: it is dead and will not be restarted."""
    return one.is_settled and one.get_status().status == "dead"
