"""`ProcessManager.apply`: what is new starts, what is gone stops, what changed restarts."""

from __future__ import annotations

import asyncio
import os

import pytest

from realtalk_async import (
    ChildSpec,
    Command,
    InvalidConfiguration,
    Probe,
    ProcessManager,
    ProcessStillRunning,
    SpawnFailed,
)
from realtalk_async.testing import programs


def runs(name, **options):
    return ChildSpec(name, Command("sleep", "1000"), **options)


def pids(manager):
    return {
        n: one.pid for n, one in manager.processes.items() if one.status == "running"
    }


async def test_the_same_never_notices_changed_restarts_gone_stops_new_starts(manager):
    changed = ChildSpec("changed", Command("sleep", "2000"))
    applied = await manager.apply([runs("same"), runs("changed"), runs("gone")])
    assert applied.started == ("same", "changed", "gone")
    before = pids(manager)
    applied = await manager.apply([runs("new"), runs("same"), changed])
    after = pids(manager)
    assert applied.stopped == ("gone",)
    assert applied.started == ("new",)
    assert applied.restarted == {"changed": ("command",)}
    assert applied.same == ("same",)
    assert not applied.failed
    assert set(after) == {"new", "same", "changed"}
    assert after["same"] == before["same"]
    assert after["changed"] != before["changed"]
    assert manager.processes["changed"].command.argv == ("sleep", "2000")
    assert manager.processes["gone"].stop_requested
    assert str(applied).splitlines() == [
        "gone: stopped",
        "changed: restarted: command changed",
        "new: started",
        "same: unchanged",
    ]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"env": {"A": "2"}}, "environment"),
        ({"cwd": "/"}, "cwd"),
        ({"stdin": True}, "stdin"),
        ({"options": {"umask": 63}}, "options"),
    ],
)
async def test_a_changed_part_of_a_command_restarts_and_its_value_is_not_told(
    manager, options, what
):
    await manager.apply([ChildSpec("a", Command("sleep", "1000", env={"A": "1"}))])
    before = pids(manager)
    new = Command("sleep", "1000", **({"env": {"A": "1"}} | options))
    applied = await manager.apply([ChildSpec("a", new)])
    assert applied.restarted == {"a": (what,)}
    assert str(applied) == f"a: restarted: {what} changed"
    assert pids(manager) != before


PROBES = [
    lambda: Probe.line("ready"),
    lambda: Probe.silence(900, grace=1),
    lambda: Probe.rate(1, window=900, grace=900),
    lambda: Probe.tcp(80, purpose="liveness", grace=900),
    lambda: Probe.http("http://localhost/a", purpose="liveness", grace=900),
    lambda: Probe.exec(["true"], grace=900),
    lambda: Probe.call(print, grace=900),
]


@pytest.mark.parametrize("probe", PROBES)
async def test_equal_probes_made_again_are_no_change(manager, probe):
    command = Command("sh", "-c", "echo ready; exec sleep 1000")
    await manager.apply([ChildSpec("a", command, probes=(probe(),))])
    before = pids(manager)
    applied = await manager.apply([ChildSpec("a", command, probes=(probe(),))])
    assert (applied.same, pids(manager)) == (("a",), before)


async def test_a_changed_probe_restarts(manager):
    await manager.apply([runs("a", probes=(Probe.silence(900),))])
    applied = await manager.apply([runs("a", probes=(Probe.silence(901),))])
    assert applied.restarted == {"a": ("probes",)}


async def test_dependants_stop_first_and_start_after_what_they_need(manager):
    def specs(seconds):
        command = Command("sh", "-c", f"echo ready; exec sleep {seconds}")
        return [
            ChildSpec("web", command, depends_on=("db",)),
            ChildSpec("db", command, probes=(Probe.line("ready"),)),
        ]

    await manager.apply(specs(1000))
    told = []
    manager.subscribe(lambda event: told.append((type(event).__name__, event.process)))
    await manager.apply(specs(2000))
    kinds = {"ProcessExited", "ProcessReady", "ProcessStarted"}
    order = [one for one in told if one[0] in kinds]
    assert order == [
        ("ProcessExited", "web"),
        ("ProcessExited", "db"),
        ("ProcessStarted", "db"),
        ("ProcessReady", "db"),
        ("ProcessStarted", "web"),
    ]


async def test_a_changed_dependency_leaves_its_unchanged_dependants_alone(manager):
    await manager.apply([runs("db"), runs("web", depends_on=("db",))])
    before = pids(manager)
    applied = await manager.apply(
        [ChildSpec("db", Command("sleep", "2000")), runs("web", depends_on=("db",))]
    )
    assert applied.same == ("web",)
    assert pids(manager)["web"] == before["web"]
    assert pids(manager)["db"] != before["db"]


async def test_what_is_bound_to_a_changed_process_restarts_with_it(manager):
    await manager.apply([runs("db"), runs("web", binds_to=("db",))])
    before = pids(manager)
    applied = await manager.apply(
        [ChildSpec("db", Command("sleep", "2000")), runs("web", binds_to=("db",))]
    )
    assert applied.bound == ("web",)
    web = manager.processes["web"]
    async with asyncio.timeout(30):
        await web._lifecycle.until(lambda: web.incarnation == 2)
        await web.wait_until_running()
    assert web.pid != before["web"]


async def test_an_unchanged_oneshot_does_not_run_again_and_a_changed_one_does(
    manager, tmp_path
):
    def specs(word, seconds):
        line = f"echo {word} >> {tmp_path}/runs"
        return [
            ChildSpec("migrate", Command("sh", "-c", line), oneshot=True),
            ChildSpec("web", Command("sleep", seconds), depends_on=("migrate",)),
        ]

    await manager.apply(specs("one", "1000"))
    applied = await manager.apply(specs("one", "2000"))
    assert applied.same == ("migrate",)
    assert manager.processes["web"].status == "running"
    assert (tmp_path / "runs").read_text().split() == ["one"]
    await manager.apply(specs("two", "3000"))
    assert manager.processes["web"].status == "running"
    assert (tmp_path / "runs").read_text().split() == ["one", "two"]


async def test_what_a_failed_oneshot_blocked_starts_when_it_is_repaired(manager):
    def specs(program):
        return [
            ChildSpec("migrate", program, restart="temporary", oneshot=True),
            runs("web", depends_on=("migrate",)),
            runs("far", depends_on=("web",)),
        ]

    applied = await manager.apply(specs(Command("false")))
    assert set(applied.failed) == {"migrate", "web", "far"}
    assert str(applied).startswith("migrate: not started: ")
    applied = await manager.apply(specs(Command("true")))
    assert not applied.failed
    assert set(pids(manager)) == {"web", "far"}
    assert not manager.degraded


async def test_a_second_list_repairs_a_start_that_the_first_one_still_waits_for(
    manager,
):
    def specs(probe):
        ready = Command("sh", "-c", "echo ready; exec sleep 1000")
        return [
            ChildSpec("db", ready, probes=(probe,)),
            runs("web", depends_on=("db",)),
        ]

    never = Probe.line("never", timeout=1000)
    first = asyncio.create_task(manager.apply(specs(never)))
    while not {"db", "web"} <= set(manager.processes):
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        second = await manager.apply(specs(Probe.line("ready")))
        await first
    assert not second.failed
    assert set(pids(manager)) == {"db", "web"}


async def test_fewer_or_more_dependencies_do_not_restart(manager):
    def specs(count):
        workers = [f"worker-{n}" for n in range(1, count + 1)]
        return [*map(runs, workers), runs("web", binds_to=tuple(workers))]

    await manager.apply(specs(3))
    before = pids(manager)
    applied = await manager.apply(specs(1))
    assert applied.stopped == ("worker-2", "worker-3")
    assert applied.relinked == ("web",)
    assert pids(manager) == {n: before[n] for n in ("worker-1", "web")}
    await manager.apply(specs(2))
    assert pids(manager).keys() == {"worker-1", "worker-2", "web"}
    assert pids(manager)["web"] == before["web"]
    await manager.stop("worker-2")
    assert manager.processes["web"].status == "dead", "it is bound to the new one"


async def test_what_was_stopped_by_hand_stays_stopped_until_it_changes(manager):
    await manager.apply([runs("a")])
    await manager.stop("a")
    await manager.apply([runs("a")])
    assert not pids(manager)
    await manager.apply([ChildSpec("a", Command("sleep", "2000"))])
    assert set(pids(manager)) == {"a"}


async def test_processes_that_the_app_started_itself_are_not_touched(manager):
    own = await manager.start("own", programs.runs())
    await manager.apply([runs("a", depends_on=("own",))])
    await manager.apply([])
    assert own.status == "running"
    assert set(pids(manager)) == {"own"}
    with pytest.raises(ProcessStillRunning):
        await manager.apply([runs("own"), runs("b")])
    assert set(pids(manager)) == {"own"}


INVALID = [
    ([runs("a"), runs("a")], "specs has the name 'a' twice"),
    ([runs("a", depends_on=("b",))], "'a' depends on 'b', which specs does not have"),
    (
        [runs("a", depends_on=("b",)), runs("b", depends_on=("a",))],
        "cannot depend on",
    ),
    ([runs("a"), "b"], r"specs\[1\]"),
    ("a", "specs"),
]


@pytest.mark.parametrize(("specs", "message"), INVALID)
async def test_an_invalid_list_changes_nothing(manager, specs, message):
    await manager.apply([runs("old")])
    before = pids(manager)
    with pytest.raises(InvalidConfiguration, match=message):
        await manager.apply(specs)
    with pytest.raises(InvalidConfiguration, match=message):
        manager.compare(specs)
    assert pids(manager) == before
    assert (await manager.apply([runs("old")])).same == ("old",)


async def test_a_program_that_does_not_exist_is_told_and_the_others_start(manager):
    applied = await manager.apply(
        [ChildSpec("a", Command("no-such-program")), runs("b")]
    )
    assert isinstance(applied.failed["a"], SpawnFailed)
    assert set(pids(manager)) == {"b"}


async def test_a_cancelled_caller_does_not_leave_half_a_list(manager):
    stubborn = Command(
        "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"
    )
    await manager.apply([ChildSpec("old", stubborn, probes=(Probe.line("up"),))])
    applying = asyncio.create_task(manager.apply([runs("new")]))
    while not manager.processes["old"].stop_requested:
        await asyncio.sleep(0)
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    async with asyncio.timeout(30):
        while "new" not in pids(manager):
            await asyncio.sleep(0.01)
    assert "old" not in pids(manager)


async def test_simultaneous_lists_are_applied_one_after_the_other(manager):
    lists = [[ChildSpec("a", Command("sleep", str(n)))] for n in (1001, 1002, 1003)]
    await asyncio.gather(*map(manager.apply, lists))
    assert manager.processes["a"].command.argv[1] == "1003"
    assert set(pids(manager)) == {"a"}


async def test_nothing_is_left_when_the_manager_closes_during_an_apply(logger):
    async with ProcessManager(logger) as manager:
        waits = runs("a", probes=(Probe.line("never", timeout=1000),))
        applying = asyncio.create_task(manager.apply([waits]))
        while "a" not in pids(manager):
            await asyncio.sleep(0)
        pid = manager.processes["a"].pid
    await asyncio.wait([applying], timeout=30)
    assert applying.done()
    _ = applying.exception()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
