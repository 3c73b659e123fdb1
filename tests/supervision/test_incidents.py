"""Real children that die of the same thing: one incident in log, events, explanation."""

import os

import anyio
import pytest

from realtalk_async import Command, Probe, RestartPolicy, events
from realtalk_async.exceptions import TooManyRestarts
from realtalk_async.supervision import ProcessManager
from realtalk_async.testing import programs

NAMES = [f"voice{number}" for number in range(10)]
FAST = RestartPolicy("transient", first_delay=0.0, jitter=False, max_failures=99)

# A client of a server that is a named pipe: it dies when the server closes its end. Later
# incarnations find no server file and stay.
CLIENT = (
    'if [ -e "$0.gone" ]; then exec sleep 1000; fi; exec 3< "$0"; echo ready; read _ <&3; '
    'echo "pid $$: Connection terminated" >&2; exit 1'
)


def client(tmp_path, **options):
    return programs.shell(CLIENT.replace("$0", str(tmp_path / "server")), **options)


async def end_server(manager, server):
    """Let all children die at once."""
    for name in NAMES:
        await manager.processes[name].wait_for_line("ready")
    (server / "server.gone").touch()
    os.close(int((server / "descriptor").read_text()))


@pytest.fixture
def server(tmp_path):
    """The folder of the pipe that the children read."""
    os.mkfifo(tmp_path / "server")
    # As long as it is open for writing, a reader waits.
    descriptor = os.open(tmp_path / "server", os.O_RDWR | os.O_CLOEXEC)
    (tmp_path / "descriptor").write_text(str(descriptor))
    return tmp_path


async def run_ten(logger, server, *, restart=FAST, **options):
    seen = []
    async with ProcessManager(logger, **options) as manager:
        manager.subscribe(seen.append)
        for name in NAMES:
            await manager.start(name, client(server), restart=restart)
        await end_server(manager, server)
        with anyio.fail_after(15):
            while not any(isinstance(one, events.IncidentOccurred) for one in seen):
                await anyio.sleep(0.02)
            while restart is FAST and not all(
                one.restarts == 1 for one in manager.processes.values()
            ):
                await anyio.sleep(0.02)
        explained = manager.explain("voice7")
        statuses = manager.get_statuses()
    return seen, explained, statuses


async def test_ten_children_that_die_of_the_same_thing_are_one_incident(logger, server):
    seen, explained, statuses = await run_ten(logger, server, max_restarts=3)

    deaths = [
        one
        for one in seen
        if isinstance(one, events.ProcessExited) and one.cause == "failed"
    ]
    assert sorted(one.process for one in deaths) == NAMES
    (incident,) = (one for one in seen if isinstance(one, events.IncidentOccurred))
    assert sorted(incident.processes) == NAMES
    assert {one.incident for one in deaths} == {incident.incident} == {deaths[0].id}
    assert "no sound server" in incident.reason
    assert incident.seconds <= 1.0

    # One restart of ten counts: the limit of three was not exceeded.
    assert [one.restarts for one in statuses.values()] == [1] * 10
    delays = sorted(
        one.delay for one in seen if isinstance(one, events.RestartScheduled)
    )
    assert delays == pytest.approx([number * 0.05 for number in range(10)])

    entries = await logger.get_logs(n=1000)
    (told,) = (one for one in entries if one.message.startswith("Incident"))
    assert (told.level, told.component) == ("ERROR", "manager")
    assert sorted(told.context["processes"]) == NAMES
    loud = [one for one in entries if one.level != "INFO"]
    # The log does not wait for others to die: the first two have entries of their own.
    assert len([one for one in loud if one.message.startswith("Process died")]) == 2
    assert len(loud) <= 5, loud
    quiet = [
        one
        for one in entries
        if one.level == "INFO" and one.message.startswith("Process died")
    ]
    assert len(quiet) == 8
    assert {one.context["incident"] for one in quiet} == {incident.incident}

    text = str(explained)
    assert "incident  10 processes failed for the same reason within" in text
    assert all(name in text for name in NAMES)
    assert explained.to_dict()["incident"] == explained.incident


async def test_an_incident_tells_once_who_stays_dead(logger, server):
    seen, _, _ = await run_ten(logger, server, restart="temporary")
    (incident,) = (one for one in seen if isinstance(one, events.IncidentOccurred))
    assert sorted(incident.given_up) == NAMES
    losses = await logger.get_logs(level="WARNING", component="manager", n=100)
    assert len([one for one in losses if "Going on without" in one.message]) <= 2


async def test_an_incident_is_published_before_the_manager_ends(logger):
    seen = []
    async with ProcessManager(logger) as manager:
        manager.subscribe(seen.append)
        for name in "abc":
            await manager.start(name, programs.exits(3), restart="temporary")
        for one in manager.processes.values():
            await one.wait_until_settled()
    (incident,) = (one for one in seen if isinstance(one, events.IncidentOccurred))
    assert sorted(incident.processes) == ["a", "b", "c"]
    assert incident.reason == "exit status 3"


async def test_children_that_cannot_be_started_are_one_incident(logger, tmp_path):
    """Their program was removed, say by an update, and all restarts fail."""
    seen = []
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho ready\nread _\nexit $1\n")
    program.chmod(0o755)
    async with ProcessManager(logger) as manager:
        manager.subscribe(seen.append)
        for status in (1, 2, 3):  # so that the deaths are different
            await manager.start(
                f"a{status}",
                Command(str(program), str(status), stdin=True),
                restart=RestartPolicy(first_delay=0, jitter=False, max_failures=1),
                probes=[Probe.line("ready")],
            )
        program.unlink()
        for one in manager.processes.values():
            await one.send(b"\n")
        for one in manager.processes.values():
            await one.wait_until_settled()
    (incident,) = (one for one in seen if isinstance(one, events.IncidentOccurred))
    assert sorted(incident.processes) == ["a1", "a2", "a3"]
    assert incident.reason.startswith("No such file or directory")
    refused = [one for one in seen if isinstance(one, events.SpawnRefused)]
    assert {one.incident for one in refused} == {incident.incident}


async def test_an_incident_during_the_shutdown_is_published_before_its_end(logger):
    """No timer is left that would publish it afterwards."""
    seen = []
    script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    async with ProcessManager(logger) as manager:
        manager.subscribe(seen.append)
        reporter = manager._supervisor.incidents
        await manager.start("slow", programs.shell(script))
        await manager.processes["slow"].wait_for_line("ready")

        def die_meanwhile(event):
            if isinstance(event, events.StopStep):
                for name in "abc":
                    manager._supervisor.publish(
                        events.TaskFailed(process=name, reason="x", uptime=1.0)
                    )

        manager.subscribe(die_meanwhile)
    (incident,) = (one for one in seen if isinstance(one, events.IncidentOccurred))
    assert incident.processes == ("a", "b", "c")
    assert not reporter._due


async def test_different_deaths_are_no_incident(logger):
    seen = []
    async with ProcessManager(logger) as manager:
        manager.subscribe(seen.append)
        for status in (1, 2, 3, 4):
            await manager.start(
                f"a{status}", programs.exits(status), restart="temporary"
            )
        for one in manager.processes.values():
            await one.wait_until_settled()
        assert "incident" not in str(manager.explain("a1"))
    assert not [one for one in seen if isinstance(one, events.IncidentOccurred)]


async def test_a_limit_of_restarts_still_ends_what_dies_again_and_again(logger):
    with pytest.raises(TooManyRestarts):
        async with ProcessManager(logger, max_restarts=3) as manager:
            await manager.start("a", programs.exits(1), restart=FAST)
            await anyio.sleep(20)
            pytest.fail("the limit had no effect")


async def test_tasks_that_fail_of_the_same_thing_are_one_incident(logger):
    seen = []

    async def fail():
        raise ConnectionRefusedError(111, "refused")

    async with ProcessManager(logger) as manager:
        manager.subscribe(seen.append)
        for name in "abc":
            await manager.start_task(name, fail, restart="temporary")
        for one in manager.tasks.values():
            await one.wait_until_settled()
    (incident,) = (one for one in seen if isinstance(one, events.IncidentOccurred))
    assert incident.processes == ("a", "b", "c")
    assert "refused" in incident.reason
