"""Each event of a request names who made it: the app, a user, or nobody (the policy)."""

import os

import anyio
import pytest

from realtalk_async import Probe, RestartPolicy, events
from realtalk_async.control import serve_control
from realtalk_async.control.client import ControlClient
from realtalk_async.control.protocol import Request
from realtalk_async.exceptions import CriticalProcessFailed
from realtalk_async.supervision import ProcessManager
from realtalk_async.testing import programs

FAST = RestartPolicy("permanent", first_delay=0.01, jitter=False)


@pytest.fixture
def seen(manager):
    """The kinds and actors of all events."""
    found = []
    manager.subscribe(lambda event: found.append((event.kind, event.actor)))
    return found


async def test_the_app_starts_and_stops(manager, seen):
    app = await manager.start("app", programs.runs())
    await app.stop()
    assert seen == [
        ("process.started", "app"),
        ("process.stop_step", "app"),
        ("process.exited", "app"),
        ("process.stopped", "app"),
    ]


async def test_nobody_requests_a_death_and_its_restart(manager, seen):
    app = await manager.start("app", programs.runs(), restart=FAST)
    os.kill(app.pid, 9)
    await app.wait()
    await app.wait_until_running()
    kinds = ["exited", "restart_scheduled", "started", "restarted"]
    assert seen[1:] == [(f"process.{kind}", "policy") for kind in kinds]


async def test_the_app_restarts_what_is_dead(manager, seen):
    app = await manager.start("app", programs.exits(1), restart="temporary")
    await app.wait_until_settled()
    seen.clear()
    assert await app.restart()
    assert seen[:2] == [("process.started", "app"), ("process.restarted", "app")]


async def test_a_user_of_the_control_socket_is_named_by_the_uid(
    manager, seen, tmp_path
):
    await manager.start("app", programs.runs(), restart=FAST)
    user = f"uid:{os.getuid()}"
    async with serve_control(manager, tmp_path / "socket") as path:
        for method in ("restart", "stop"):
            seen.clear()
            client = ControlClient(path)
            request = Request(method, name="app")
            with anyio.fail_after(20):
                assert [one async for one in client.send_async(request)]
            assert {actor for _, actor in seen} == {user}
            assert "process.exited" in dict(seen)
        # What the app does later is its own again.
        seen.clear()
        await manager.restart_process("app")
        assert {actor for _, actor in seen} == {"app"}
    await manager.stop("app")
    entries = await manager.logger.get_logs(component="app")
    named = [entry.context.get("actor") for entry in entries]
    assert user in named, "the log names a user"
    assert "app" not in named


@pytest.mark.parametrize("end", ["failed", "ended by us: unhealthy"])
async def test_a_stop_while_it_waits_for_its_restart_names_the_actor(
    manager, seen, tmp_path, end
):
    slow = RestartPolicy("permanent", first_delay=30.0, jitter=False)
    if end == "failed":
        app = await manager.start("app", programs.exits(1), restart=slow)
    else:
        silent = [Probe.silence(0.2)]
        app = await manager.start("app", programs.runs(), restart=slow, probes=silent)
    with anyio.fail_after(10):
        while app.state != "backoff":
            await anyio.sleep(0.01)
    async with serve_control(manager, tmp_path / "socket") as path:
        request = Request("stop", name="app")
        assert [one async for one in ControlClient(path).send_async(request)]
    assert app.get_status().cause == end
    assert seen[-1] == ("process.stopped", f"uid:{os.getuid()}")
    (entry,) = await manager.logger.get_logs(pattern="Restart cancelled")
    assert entry.context["actor"] == f"uid:{os.getuid()}"


async def test_a_lost_critical_process_stops_the_others_by_policy(logger):
    seen = {}

    def note(event):
        if isinstance(event, events.ProcessExited):
            seen[event.process] = event.actor

    with pytest.raises(CriticalProcessFailed):
        async with ProcessManager(logger) as manager:
            manager.subscribe(note)
            await manager.start("other", programs.runs())
            await manager.start(
                "main", programs.runs(), critical=True, restart="temporary"
            )
            os.kill(manager.processes["main"].pid, 9)
            await anyio.sleep_forever()
    assert seen == {"main": "policy", "other": "policy"}


async def test_a_common_restart_is_by_policy(logger):
    seen = []
    async with ProcessManager(logger, strategy="one_for_all") as manager:
        first = await manager.start("first", programs.runs(), restart=FAST)
        second = await manager.start("second", programs.runs(), restart=FAST)
        manager.subscribe(
            lambda event: seen.append((event.process, event.kind, event.actor))
        )
        os.kill(first.pid, 9)
        with anyio.fail_after(10):
            while second.restarts == 0:
                await anyio.sleep(0.01)
        assert ("second", "process.exited", "policy") in seen
        assert ("second", "process.started", "policy") in seen
