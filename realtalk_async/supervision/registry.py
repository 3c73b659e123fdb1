"""Who is supervised under which name, now and before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from realtalk_async.events import MANAGER
from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessStillRunning,
    UnknownProcess,
)
from realtalk_async.supervision.process import ManagedProcess
from realtalk_async.supervision.reports.report import ErrorHistory, ProcessHistory
from realtalk_async.supervision.task import SupervisedTask

if TYPE_CHECKING:
    from realtalk_async.logs import Logger

ProcessOrTask = ManagedProcess | SupervisedTask


class Registry(Mapping[str, ProcessOrTask]):
    """
    The processes and tasks of a manager by name, in the order of their start.

    Args:
        logger: Where it is logged that a name was taken over, or is unknown.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._present: dict[str, ProcessOrTask] = {}
        self._past: dict[str, list[ProcessOrTask]] = {}

    def __getitem__(self, name: str) -> ProcessOrTask:
        return self._present[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._present)

    def __len__(self) -> int:
        return len(self._present)

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        """Those that are processes; a copy."""
        present = self._present.items()
        return {n: one for n, one in present if isinstance(one, ManagedProcess)}

    @property
    def tasks(self) -> dict[str, SupervisedTask]:
        """Those that are coroutines; a copy."""
        present = self._present.items()
        return {n: one for n, one in present if isinstance(one, SupervisedTask)}

    @property
    def all_ever(self) -> list[ProcessOrTask]:
        """All that there are, and all whose names were taken over."""
        past = [one for some in self._past.values() for one in some]
        return [*past, *self._present.values()]

    # ---- names

    def find(self, name: str) -> ProcessOrTask:
        """
        Return who has that name.

        Raises:
            UnknownProcess: If nobody has it; this is logged as well.
        """
        try:
            return self._present[name]
        except KeyError:
            known = {"known": list(self._present)}
            self._logger.warning(MANAGER, f"Unknown process {name!r}", known)
            raise UnknownProcess(name, self._present) from None

    def find_process(self, name: str) -> ManagedProcess:
        """
        Return the process of that name.

        Raises:
            UnknownProcess: If nobody has it.
            InvalidConfiguration: If it is that of a coroutine.
        """
        found = self.find(name)
        if not isinstance(found, ManagedProcess):
            raise InvalidConfiguration(f"{name!r} is a task, not a process")
        return found

    def check_free(self, name: str) -> None:
        """
        Raise an error if that name cannot be taken.

        Raises:
            ProcessStillRunning: If who has it runs, or will by itself.
        """
        present = self._present.get(name)
        if present is not None and not _is_free(present):
            pid = present.pid if isinstance(present, ManagedProcess) else None
            raise ProcessStillRunning(name, pid)

    def free_name(self, wanted: str) -> str:
        """Return *wanted*, with a number if it cannot be taken."""
        number, name = 1, wanted
        while name in self._present and not _is_free(self._present[name]):
            number += 1
            name = f"{wanted}-{number}"
        return name

    def add(self, child: ProcessOrTask) -> None:
        """Enter a process or task; the history of who had its name is kept."""
        name = child.name
        before = self._present.pop(name, None)
        if before is not None:
            self._logger.warning(
                name,
                "A new process takes over the name of a dead one; its history is kept",
                {"before": before.get_status().reason},
            )
            self._past.setdefault(name, []).append(before)
        self._present[name] = child

    # ---- what was

    def last_incarnation_of(self, name: str) -> int:
        """Return the number of the last incarnation of those who had that name."""
        before = [*self._past.get(name, ()), self._present.get(name)]
        return max((one.incarnation for one in before if one is not None), default=0)

    def history(self, name: str) -> ProcessHistory:
        """
        Return all that happened under that name.

        Raises:
            UnknownProcess: If nobody has it.
        """
        parts = [past.get_history() for past in self._past.get(name, ())]
        parts.append(self.find(name).get_history())
        return ProcessHistory(
            parts[-1].status,
            tuple(record for part in parts for record in part.incarnations),
            tuple(one for part in parts for one in part.attempts),
            tuple(one for part in parts for one in part.errors),
        )

    def histories(self) -> ErrorHistory:
        """Return all that happened, by name."""
        return ErrorHistory({name: self.history(name) for name in self._present})


def _is_free(one: ProcessOrTask) -> bool:
    """Return whether another may take its name: it is dead, and stays so."""
    return one.is_settled and one.get_status().status == "dead"
