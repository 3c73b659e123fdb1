"""`binds_to`: a child restarts with another one, and stops when that one is gone."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from realtalk_async import (
    CriticalProcessFailed,
    InvalidConfiguration,
    Probe,
    ProcessManager,
    RestartPolicy,
    UnknownProcess,
    events,
)
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy(first_delay=0.0, max_failures=100)
READY = [Probe.line("ready")]
KINDS = {
    "process.exited": "exited",
    "process.started": "started",
    "process.ready": "ready",
}


def listening(manager):
    """Return the list of all events from now on."""
    received = []
    manager.subscribe(received.append)
    return received


def order(received):
    """Return what happened to which process."""
    return [(KINDS[e.kind], e.process) for e in received if e.kind in KINDS]


async def start(manager, name, *binds_to, **options):
    options = {"restart": AT_ONCE, "probes": READY, **options}
    return await manager.start(name, programs.runs(), binds_to=binds_to, **options)


async def reaches(one, incarnation):
    """Wait until an incarnation of this number is ready."""
    async with asyncio.timeout(60):
        await one._lifecycle.until(
            lambda: one.incarnation >= incarnation and one._lifecycle.is_ready
        )


async def settled(*processes):
    async with asyncio.timeout(60):
        for one in processes:
            await one.wait_until_settled()


# ---- a restart


async def test_a_restart_by_policy_restarts_what_is_bound(manager):
    db = await start(manager, "db")
    api = await start(manager, "api", "db")
    web = await start(manager, "web", "api")
    other = await start(manager, "other")
    await manager.start("after", programs.runs(), depends_on=["db"], probes=READY)
    received = listening(manager)
    os.kill(db.pid, signal.SIGKILL)
    await reaches(web, 2)
    assert order(received) == [
        ("exited", "db"),
        ("exited", "web"),
        ("exited", "api"),
        ("started", "db"),
        ("ready", "db"),
        ("started", "api"),
        ("ready", "api"),
        ("started", "web"),
        ("ready", "web"),
    ]
    assert (db.restarts, api.restarts, web.restarts, other.restarts) == (1, 1, 1, 0)
    assert api.get_history().incarnations[0].cause == "stopped by us"
    assert "failure score 0.0" in manager.explain("api").rule, "it is no failure of its"


async def test_a_restart_on_request_ends_the_dependants_first(manager):
    db = await start(manager, "db")
    api = await start(manager, "api", "db")
    web = await start(manager, "web", "api")
    received = listening(manager)
    await db.restart_with_group("requested")
    await reaches(web, 2)
    found = order(received)
    assert found[:3] == [("exited", "web"), ("exited", "api"), ("exited", "db")]
    started = [name for what, name in found if what == "started"]
    assert started == ["db", "api", "web"]
    assert (db.restarts, api.restarts, web.restarts) == (1, 1, 1)


@pytest.mark.parametrize("lost", ["one", "two"])
async def test_a_common_restart_restarts_each_once(logger, lost):
    async with ProcessManager(logger, strategy="one_for_all") as manager:
        for name, needs in (("one", ()), ("two", ()), ("api", ("two",)), ("last", ())):
            await start(manager, name, *needs)
        received = listening(manager)
        os.kill(manager.processes[lost].pid, signal.SIGKILL)
        for one in manager.processes.values():
            await reaches(one, 2)
        found = order(received)
        restarts = [one.restarts for one in manager.processes.values()]
    assert restarts == [1, 1, 1, 1]
    started = [name for what, name in found if what == "started"]
    assert started == ["one", "two", "api", "last"]
    assert [what for what, _ in found[:4]] == ["exited"] * 4


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
async def test_a_group_starts_again_only_when_all_of_it_has_ended(logger, strategy):
    async with ProcessManager(logger, strategy=strategy) as manager:
        names = ["one", "two", "three", "four"]
        for name in names:
            await start(manager, name)
        received = listening(manager)
        os.kill(manager.processes["one"].pid, signal.SIGKILL)
        for one in manager.processes.values():
            await reaches(one, 2)
    found = [one for one in order(received)[:8] if one[0] != "ready"]
    assert found[:5] == [
        ("exited", "one"),
        ("exited", "four"),
        ("exited", "three"),
        ("exited", "two"),
        ("started", "one"),
    ]


async def test_independent_dependants_end_at_the_same_time(manager):
    db = await start(manager, "db")
    for name in "ab":
        await manager.start(
            name, programs.cleans_up(0.5), binds_to=["db"], restart=AT_ONCE
        )
        await manager.processes[name].wait_for_line("ready")
    received = listening(manager)
    os.kill(db.pid, signal.SIGKILL)
    await reaches(db, 2)
    found = [e.kind for e in received if e.process in "ab"]
    assert found[:2] == ["process.stop_step"] * 2


async def test_a_failure_of_a_dependant_does_not_touch_the_other(manager):
    db = await start(manager, "db")
    api = await start(manager, "api", "db")
    os.kill(api.pid, signal.SIGKILL)
    await reaches(api, 2)
    await manager.stop("api")
    assert (db.restarts, str(db.state)) == (0, "running")


async def test_a_task_restarts_with_a_process_and_the_reverse(manager):
    calls, fail = [], asyncio.Event()

    async def link():
        calls.append(1)
        await fail.wait()
        fail.clear()
        raise ConnectionError("lost")

    async def reader():
        await asyncio.Event().wait()

    db = await start(manager, "db")
    task = await manager.start_task("link", link, binds_to=["db"], restart=AT_ONCE)
    under = await manager.start_task("reader", reader, binds_to=["link"])
    last = await start(manager, "last", "link")
    os.kill(db.pid, signal.SIGKILL)
    for one in (task, under, last):
        await reaches(one, 2)
    assert len(calls) == 2
    fail.set()
    for one in (task, under, last):
        await reaches(one, 3)
    assert (db.restarts, task.restarts, under.restarts, last.restarts) == (1, 2, 2, 2)


# ---- the end


async def test_a_stop_stops_the_dependants_first(manager):
    db = await start(manager, "db")
    api = await start(manager, "api", "db")
    web = await start(manager, "web", "api")
    received = listening(manager)
    await manager.stop("db")
    assert [name for _, name in order(received)] == ["web", "api", "db"]
    assert [str(one.state) for one in (db, api, web)] == ["exited"] * 3
    assert "'db'" in api.reason
    assert "'api'" in web.reason
    assert db.reason == "it was stopped"
    assert not manager.degraded


async def test_a_process_that_is_given_up_stops_its_dependants(manager):
    db = await start(manager, "db", restart="temporary")
    api = await start(manager, "api", "db")
    task = await manager.start_task("task", asyncio.Event().wait, binds_to=["db"])
    os.kill(db.pid, signal.SIGKILL)
    await settled(db, api, task)
    for one in (api, task):
        assert str(one.state) == "exited"
        assert one.reason.startswith("stopped because 'db', which it is bound to, was")
        assert "SIGKILL" in one.reason
    assert list(manager.degraded) == ["db"]


async def test_a_process_that_is_given_up_stops_dependants_that_wait_for_it(manager):
    policy = RestartPolicy(first_delay=0.0, max_failures=1)
    db = await start(manager, "db", restart=policy)
    api = await start(manager, "api", "db")
    received = listening(manager)
    db._lifecycle.command = programs.exits(7)
    os.kill(db.pid, signal.SIGKILL)
    await settled(db, api)
    assert (str(db.state), str(api.state)) == ("fatal", "exited")
    assert "'db', which it is bound to, was given up: exit status 7" in api.reason
    given_up = [e.process for e in received if isinstance(e, events.ProcessGivenUp)]
    assert given_up == ["db"]


async def test_a_process_that_finishes_stops_its_dependants(manager):
    db = await manager.start("db", programs.shell("echo ready; read x", stdin=True))
    api = await start(manager, "api", "db")
    await db.send(b"\n")
    await settled(db, api)
    assert "'db', which it is bound to, ended: " in api.reason


async def test_a_critical_dependant_of_a_lost_process_ends_the_app(logger):
    with pytest.raises(CriticalProcessFailed) as caught:
        async with ProcessManager(logger) as manager:
            db = await start(manager, "db", restart="temporary")
            await start(manager, "api", "db", critical=True)
            os.kill(db.pid, signal.SIGKILL)
            await asyncio.Event().wait()
    assert caught.value.name == "api"
    assert "'db'" in caught.value.reason


async def test_a_stop_of_the_critical_dependants_on_request_is_no_loss(manager):
    await start(manager, "db")
    await start(manager, "api", "db", critical=True)
    await manager.stop("db")
    assert manager.status == "running"


# ---- the return


async def test_dependants_start_again_with_a_process_that_is_started_again(manager):
    db = await start(manager, "db")
    api = await start(manager, "api", "db")
    web = await start(manager, "web", "api")
    stopped = await start(manager, "stopped", "db")
    await manager.stop("stopped")
    await manager.stop("db")
    assert "is started again with 'db'" in str(manager.explain("api"))
    received = listening(manager)
    assert await manager.restart_process("db")
    await reaches(web, 2)
    assert order(received) == [
        ("started", "db"),
        ("ready", "db"),
        ("started", "api"),
        ("ready", "api"),
        ("started", "web"),
        ("ready", "web"),
    ]
    assert db.incarnation == api.incarnation == 2
    assert (stopped.incarnation, stopped.reason) == (1, "it was stopped")


async def test_dependants_return_with_a_new_process_of_the_name(manager):
    db = await start(manager, "db", restart="temporary")
    api = await start(manager, "api", "db")
    os.kill(db.pid, signal.SIGKILL)
    await settled(db, api)
    await start(manager, "db")
    await reaches(api, 2)


async def test_a_dependant_of_two_returns_when_both_run(manager):
    for name in ("one", "two"):
        await start(manager, name)
    api = await start(manager, "api", "one", "two")
    await manager.stop("one")
    await manager.stop("two")
    assert await manager.restart_process("one")
    assert (str(api.state), api.incarnation) == ("exited", 1)
    assert await manager.restart_process("two")
    await reaches(api, 2)


async def test_a_dependant_that_was_stopped_afterwards_does_not_return(manager):
    await start(manager, "db")
    api = await start(manager, "api", "db")
    await manager.stop("db")
    await manager.stop("api")
    assert await manager.restart_process("db")
    await reaches(manager.processes["db"], 2)
    assert (str(api.state), api.incarnation) == ("exited", 1)
    assert await manager.restart_process("api"), "the app can start it"


# ---- arguments, explain


async def test_cycles_and_unknown_names_are_refused(manager):
    await start(manager, "a")
    await start(manager, "b", "a")
    await manager.stop("a")
    with pytest.raises(InvalidConfiguration, match="which depends on 'a'"):
        await start(manager, "a", "b")
    with pytest.raises(UnknownProcess):
        await start(manager, "c", "nobody")


async def test_explain_tells_the_bonds(manager):
    await start(manager, "db")
    await start(manager, "api", "db")
    await start(manager, "web", "api")
    text = str(manager.explain("api"))
    assert "is bound to 'db': restarts with it, and stops when it ends for good" in text
    assert "'api', 'web' restart and stop with it" in str(manager.explain("db"))
