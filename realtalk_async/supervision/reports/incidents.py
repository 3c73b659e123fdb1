"""Several deaths of the same thing, told as one incident."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events import Cause
from realtalk_async.supervision.kernel.exit_status import describe_exit
from realtalk_async.supervision.policy.incidents import (
    SAME_MOMENT,
    Death,
    Incident,
    Incidents,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.events.event import Failure

FAILURES = {
    Cause.FAILED,
    Cause.SIGNALLED,
    Cause.UNHEALTHY,
    Cause.SPAWN_FAILED,
    Cause.UNKNOWN,
}
"""The causes that several deaths can share; the others are told elsewhere, or intended."""


class IncidentReporter:
    """
    Assigns the failures of one manager to incidents, and publishes each incident once.

    Args:
        publish: Publishes an event.
        given_up: The processes that stay dead, by name.
    """

    def __init__(
        self, publish: Callable[[events.Event], None], given_up: Mapping[str, str]
    ) -> None:
        self._publish = publish
        self._given_up = given_up
        self._incidents = Incidents()
        self._due: dict[str, tuple[Incident, asyncio.TimerHandle]] = {}

    def note(self, event: Failure) -> Failure:
        """Return *event* with the incident to which it belongs."""
        name = event.process
        death = _death_of(event)
        if death is None:
            incident = self._incidents.of(name)
            # What follows after the report of the incident is news.
            if incident is None or incident.id not in self._due:
                return event
        else:
            now = time.monotonic()
            what = _describe(event)
            incident = self._incidents.add(now, name, death, new_id=event.id, what=what)
            self._schedule(incident, now)
        size = len(incident.names)
        return replace(event, incident=incident.id, incident_size=size)

    def decide_restart(self, name: str) -> tuple[bool, float]:
        """Return whether the restart of *name* counts, and its additional delay."""
        return self._incidents.decide_restart(name)

    def describe(self, name: str) -> str:
        """Return the incident of the last death of *name* in words; "" if it stood alone."""
        incident = self._incidents.of(name)
        return f"{incident} ({', '.join(incident.names)})" if incident else ""

    def forget(self, name: str) -> None:
        """Forget the last death of a process that is registered anew."""
        self._incidents.forget(name)

    def report_all(self) -> None:
        """Publish what is not published yet: the manager ends."""
        for incident, timer in list(self._due.values()):
            timer.cancel()
            self._report(incident)

    def _schedule(self, incident: Incident, now: float) -> None:
        """Have an incident of several processes published when it can grow no more."""
        if not incident.is_notable or incident.id in self._due:
            return
        left = max(incident.began + SAME_MOMENT - now, 0.0)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(left, self._report, incident)
        self._due[incident.id] = incident, timer

    def _report(self, incident: Incident) -> None:
        del self._due[incident.id]
        self._publish(
            events.IncidentOccurred(
                incident=incident.id,
                processes=tuple(incident.names),
                reason=incident.what,
                seconds=incident.seconds,
                given_up=tuple(one for one in incident.names if one in self._given_up),
            )
        )


def _death_of(event: Failure) -> Death | None:
    """Return what is compared of a failure; None if the event only follows from one."""
    if isinstance(event, events.TaskFailed):
        return Death(Cause.FAILED, None, last_words=event.reason)
    if isinstance(event, events.SpawnRefused):
        return Death(Cause.SPAWN_FAILED, None, last_words=_anonymous(event))
    if isinstance(event, events.ProcessExited) and event.cause in FAILURES:
        return Death(event.cause, event.exit_status, event.sign, event.last_words)
    return None


def _describe(event: Failure) -> str:
    """Return what a process died of, for people."""
    if isinstance(event, events.TaskFailed):
        return event.reason
    if isinstance(event, events.SpawnRefused):
        return _anonymous(event)
    assert isinstance(event, events.ProcessExited)
    status = event.exit_status
    how = describe_exit(status if isinstance(status, int) else "unknown")
    return event.sign or (f"{event.last_words}; {how}" if event.last_words else how)


def _anonymous(event: events.SpawnRefused) -> str:
    """Return why a process could not be started, without its name."""
    return event.error.removeprefix(f"cannot start {event.process!r}: ")
