"""`oneshot`: a process that is ready when it has exited with success."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from realtalk_async import (
    GaveUp,
    InvalidConfiguration,
    Probe,
    ProcessDead,
    RestartPolicy,
)
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy(first_delay=0.0, max_failures=5)
BUSY = "echo table users is locked >&2; exit 3"


async def test_start_returns_when_it_has_finished(manager):
    one = await manager.start("migrate", programs.prints("done"), oneshot=True)
    assert (str(one.state), one.exit_status) == ("exited", 0)
    assert one.is_done
    assert (await one.wait_until_running()).status == "dead", "and it stays ready"


async def test_its_dependants_start_afterwards_and_again_later(manager):
    waits = programs.shell("read x", stdin=True)
    migrate = asyncio.create_task(manager.start("migrate", waits, oneshot=True))
    while "migrate" not in manager.processes or not manager.processes["migrate"].pid:
        await asyncio.sleep(0)
    app = asyncio.create_task(
        manager.start("app", programs.runs(), depends_on=["migrate"], restart=AT_ONCE)
    )
    while "app" not in manager.processes:
        await asyncio.sleep(0)
    one = manager.processes["app"]
    assert str(manager.processes["migrate"].state) == "starting"
    assert "waits for its dependency 'migrate'" in str(manager.explain("app"))
    assert one.pid is None
    await manager.processes["migrate"].send(b"\n")
    await asyncio.gather(migrate, app)
    os.kill(one.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        await one._lifecycle.until(lambda: one.restarts == 1)
    slow = RestartPolicy(first_delay=500.0, max_delay=500.0, jitter=False)
    last = await manager.start(
        "last", programs.exits(1), depends_on=["migrate"], restart=slow
    )
    await last._lifecycle.until(lambda: str(last.state) == "backoff")
    assert "waits for its dependency" not in str(manager.explain("last"))


async def test_it_is_tried_again_before_its_dependants_start(manager, tmp_path):
    counter = tmp_path / "starts"
    line = f'echo >> "{counter}"; [ $(wc -l < "{counter}") -gt 2 ]'
    one = await manager.start(
        "migrate", programs.shell(line), oneshot=True, restart=AT_ONCE
    )
    await manager.start("app", programs.runs(), depends_on=["migrate"])
    assert (one.restarts, one.exit_status) == (2, 0)


async def test_a_failure_blocks_its_dependants_with_its_last_words(manager):
    with pytest.raises(GaveUp) as caught:
        await manager.start(
            "migrate", programs.shell(BUSY), oneshot=True, restart="temporary"
        )
    assert "table users is locked" in str(caught.value)
    with pytest.raises(ProcessDead) as blocked:
        await manager.start("app", programs.runs(), depends_on=["migrate"])
    assert "'migrate' is dead" in str(blocked.value)
    assert "table users is locked" in str(blocked.value)
    assert manager.processes["app"].pid is None


async def test_what_is_bound_to_it_stays_when_it_has_finished(manager):
    await manager.start("migrate", programs.exits(0), oneshot=True)
    app = await manager.start("app", programs.runs(), binds_to=["migrate"])
    assert app.status == "running"
    assert await manager.restart_process("migrate")
    await manager.processes["migrate"].wait_until_settled()
    assert app.status == "running"


async def test_a_stop_before_its_end_is_no_success(manager):
    start = asyncio.create_task(manager.start("migrate", programs.runs(), oneshot=True))
    while "migrate" not in manager.processes or not manager.processes["migrate"].pid:
        await asyncio.sleep(0)
    await manager.stop("migrate")
    await start
    with pytest.raises(ProcessDead):
        await manager.processes["migrate"].wait_until_running()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"restart": "permanent"}, "restart must be 'transient' or 'temporary'"),
        ({"probes": [Probe.line("x")]}, "no readiness probe with oneshot"),
        ({"oneshot": 1}, "oneshot must be True or False"),
    ],
)
async def test_contradictions_are_refused(manager, options, text):
    with pytest.raises(InvalidConfiguration, match=text):
        await manager.start("x", programs.runs(), **{"oneshot": True, **options})
    assert not manager.processes
