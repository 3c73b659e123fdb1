"""All probes of one incarnation of a process, each in a task of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from realtalk_async.supervision.probing.runner import ProbeRunner, stop_probes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from realtalk_async.supervision.policy.probes import Probe, Probed


class IncarnationProbes:
    """
    Runs the probes of one incarnation until `stop`.

    Args:
        name: The name of the process.
        probes: The probes.
        process: The process as the probes see it.
        on_ready: Called each time that all readiness probes begin to pass.
        on_unready: Called with a readiness probe that no longer passes, and the reason.
        on_unhealthy: Called with a probe that found the process unhealthy, the reason and
            the seconds since the last sign of health.
        on_error: Called with an error of this package that has ended a probe.
    """

    def __init__(
        self,
        name: str,
        probes: tuple[Probe, ...],
        process: Probed,
        *,
        on_ready: Callable[[], object],
        on_unready: Callable[[Probe, str], object],
        on_unhealthy: Callable[[Probe, str, float], object],
        on_error: Callable[[BaseException], object],
    ) -> None:
        self._on_ready = on_ready
        self.runners = tuple(
            ProbeRunner(
                probe,
                process,
                on_ready=self._check_readiness,
                on_unready=partial(on_unready, probe),
                on_unhealthy=partial(on_unhealthy, probe),
                on_error=on_error,
            )
            for probe in probes
        )
        self._tasks: list[asyncio.Task[None]] = [
            one.start(f"probe {one.health.probe.name} of {name}")
            for one in self.runners
        ]

    def _check_readiness(self) -> None:
        if all(
            one.health.is_passing
            for one in self.runners
            if one.health.probe.purpose == "readiness"
        ):
            self._on_ready()

    async def stop(self) -> set[asyncio.Task[None]]:
        """
        Cancel the tasks of all probes.

        Returns:
            The tasks whose checks swallow cancellations: nothing can end them.
        """
        return await stop_probes(self._tasks)
