"""
Misbehaviour of children and of the system that must not harm the supervisor. One table:
the number of the row, what happens, and a function that makes it happen on real
processes and checks the result. Rows 26 to 29 concern the log and are in its tests; rows 17
and 18 have a thousand processes each and are in `test_thousand_runs`.
``pytest tests/supervision/test_scenarios.py -rA`` prints the table.
"""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import sys
import textwrap
import time
import tracemalloc

import pytest

from realtalk_async.events import ProcessStarted
from realtalk_async.exceptions import ProcessDead, SpawnFailed
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import (
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Command,
    Ladder,
    ManagedProcess,
    Probe,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

pytestmark = pytest.mark.timeout(360)

PIPE = asyncio.subprocess.PIPE
SOON = Ladder((signal.SIGTERM, 0.2), (signal.SIGKILL, 10.0))
AT_ONCE = RestartPolicy(first_delay=0.0, max_failures=3)
FOR_EVER = RestartPolicy("permanent", first_delay=0.0, max_failures=1e9)
SLOW = RestartPolicy(first_delay=1000.0, max_delay=1000.0, jitter=False)

TABLE = []


def row(number, does):
    """Add a scenario to the table."""

    def enter(function):
        TABLE.append(pytest.param(function, id=f"{number}: {does}"))
        function.number = number
        return function

    return enter


class Environment:
    """The manager, the events and the log of a scenario."""

    def __init__(self, manager, folder):
        self.manager, self.folder = manager, folder
        self.logger = manager.logger
        self.received = []
        manager.subscribe(self.received.append)

    async def start(self, command, name="child", *, ready=True, **options):
        """Start a process and wait for its ``ready``."""
        one = await self.manager.start(name, command, **options)
        if ready:
            await one.wait_for_line("^ready", timeout=120)
        return one

    def published(self, *kinds, process=None):
        """Return the events of these kinds."""
        return [
            event
            for event in self.received
            if event.kind in {f"process.{kind}" for kind in kinds}
            and process in {None, event.process}
        ]

    def steps(self):
        return [event.step for event in self.published("stop_step")]

    def kinds(self, name="child"):
        """Return the kinds of all events of a process, without their common prefix."""
        return [
            e.kind.removeprefix("process.") for e in self.received if e.process == name
        ]


async def settled(*processes):
    for one in processes:
        await one.wait_until_settled()


async def restarted(one):
    await one._lifecycle.until(lambda: one.restarts == 1)


def descriptors():
    """
    Return the number of open descriptors except that of the log file, which is opened
    late.
    """
    files = SYSTEM.descriptors().values()
    return sum(
        not one.endswith(".log") and not one.startswith("file:") for one in files
    )


# ---- stop


@row(1, "ignores SIGTERM")
async def ignores_sigterm(env):
    one = await env.start(programs.ignores_sigterm(), ladder=SOON)
    began = time.monotonic()
    status = await one.stop()
    assert (status.exit_status, status.cause) == (-9, "stopped by us, escalated")
    assert env.steps() == ["SIGTERM", "SIGKILL"]
    assert time.monotonic() - began >= 0.2, "KILL not before the time of TERM"
    [stopped] = env.published("stopped")
    assert stopped.escalated


@row(2, "needs most of the first step of its ladder to clean up")
async def cleans_up(env):
    ladder = Ladder((signal.SIGTERM, 10.0), (signal.SIGKILL, 1.0))
    one = await env.start(programs.cleans_up(0.3), ladder=ladder)
    status = await one.stop()
    assert (status.exit_status, status.cause) == (0, "stopped by us")
    assert env.steps() == ["SIGTERM"]
    assert one.get_stdout()[-1].text == "clean"


@row(3, "leader exits, a grandchild holds the pipe")
async def leaves_a_grandchild(env):
    before = descriptors()
    ready = env.folder / "ready"
    command = programs.shell(
        f"(sleep 1000) & while [ ! -e {ready} ]; do sleep 0.01; done; date +%s.%N"
    )
    one = await env.start(command, ready=False)
    group = one.pid
    ready.touch()
    await one._lifecycle.until(lambda: one.status == "dead")
    seen = time.time()
    left = float(one.get_stdout()[-1].text)
    assert seen - left < 0.4, "the death does not wait for the drain (0.5 s)"
    assert one.get_report().capture == "open"
    await one.wait()
    assert one.get_report().capture == "drain bound"
    await settled(one)
    assert process_groups.living_members(group) == []
    assert descriptors() == before


@row(4, "a member of the group ignores SIGTERM after the leader exited")
async def member_ignores_sigterm(env):
    script = "(trap '' TERM; echo ready; while :; do sleep 0.1; done) & exec sleep 1000"
    one = await env.start(programs.shell(script), ladder=SOON)
    status = await one.stop()
    assert status.exit_status == -15, "the leader's own"
    assert env.steps() == ["SIGTERM", "SIGKILL"]
    assert process_groups.living_members(one.pid) == []
    [stopped] = env.published("stopped")
    assert stopped.escalated


@row(4, "leader dies by itself, and a member of its group ignores SIGTERM")
async def leader_dies_before(env):
    one = await env.start(
        programs.leaves_a_grandchild(ignoring_sigterm=True), restart=TEMPORARY
    )
    await settled(one)
    assert process_groups.living_members(one.pid) == []
    assert env.steps() == ["SIGTERM", "SIGKILL"]
    assert one.get_report().cause == "finished", "its own end, not ours"


@row(5, "31 processes forked")
async def forks(env):
    one = await env.start(programs.forks(30))
    await one.stop()
    assert [event.members for event in env.published("stop_step")] == [31]
    assert process_groups.living_members(one.pid) == []


@row(6, "the app itself is killed with SIGKILL")
async def app_is_killed(env):
    source = textwrap.dedent(
        """
        import asyncio, sys
        from realtalk_async.logs import Logger
        from realtalk_async.supervision import ProcessManager
        from realtalk_async.testing import programs

        async def main():
            async with ProcessManager(Logger(sys.argv[1])) as manager:
                for name in ("one", "two"):
                    one = await manager.start(name, programs.ignores_sigterm())
                    await one.wait_for_line("ready")
                print(manager._guard.tag, flush=True)
                await asyncio.sleep(1000)

        asyncio.run(main())
        """
    )
    log = str(env.folder / "other.log")
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, log, stdout=PIPE
    )
    tag = (await app.stdout.readline()).decode().strip()
    assert len(process_groups.find_tagged(tag)) == 2
    app.kill()
    await app.communicate()
    async with asyncio.timeout(120):
        while process_groups.find_tagged(tag):
            await asyncio.sleep(0.02)


@row(7, "floods its output and is stopped")
async def floods(env):
    before = time.thread_time()
    one = await env.start(programs.floods(), ready=False, max_size=50_000_000)
    late = []
    for _ in range(25):
        due = time.monotonic() + 0.02
        await asyncio.sleep(0.02)
        late.append(time.monotonic() - due)
    status = await one.stop()
    assert status.cause == "stopped by us"
    assert env.steps() == ["SIGTERM"]
    assert one._capture.buffers["stdout"].size > 0
    # At least half of the frames must be in time, also on a loaded machine.
    assert sorted(late)[len(late) // 2] < 0.02
    assert time.thread_time() - before < 20


@row(8, "writes 10 MB without a newline")
async def no_newline(env):
    script = "import sys; sys.stdout.write('né' * 3_500_000)"
    tracemalloc.start()
    try:
        one = await env.start(programs.python(script), ready=False)
        await settled(one)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines = list(one.get_stdout())
    assert b"".join(line.raw for line in lines) == "né".encode() * 3_500_000
    assert len(lines) > 1
    assert all(line.partial for line in lines)
    assert peak < 24 << 20, "a budget of 4 MiB, one slice, and what a thread is writing"


@row(9, "writes invalid UTF-8; a character is cut by a read")
async def invalid_utf8(env):
    script = (
        "import os, sys\n"
        "for byte in 'é€'.encode() + b'\\xff\\n':\n"
        "    os.write(1, bytes([byte])); sys.stdin.read(1)"
    )
    one = await env.start(programs.python(script, stdin=True), ready=False)
    for size in range(1, 8):
        while one._capture.buffers["stdout"].size < size:
            await asyncio.sleep(0)
        if size < 7:
            await one.send(b"x")
    await one.send(b"x")
    await settled(one)
    [line] = one.get_stdout()
    assert line.text == "é€\ufffd"
    assert line.raw == "é€".encode() + b"\xff\n"


# ---- refused starts


@row(10, "program missing, not executable, a directory; working directory missing")
async def cannot_be_started(env):
    plain = env.folder / "plain"
    plain.write_text("no program")
    before = descriptors()
    cases = [
        (Command("/no/such/program"), errno.ENOENT, "/no/such/program"),
        (Command(plain), errno.EACCES, str(plain)),
        (Command(env.folder), errno.EACCES, str(env.folder)),
        (Command("true", cwd="/no/such/dir"), errno.ENOENT, "/no/such/dir"),
    ]
    for number, (command, code, path) in enumerate(cases):
        with pytest.raises(SpawnFailed) as caught:
            await env.start(command, f"child {number}", restart=TEMPORARY)
        assert (caught.value.errno, caught.value.path) == (code, path)
        with pytest.raises(SpawnFailed):
            await env.start(command, f"again {number}", restart=AT_ONCE)
        assert env.manager.processes[f"again {number}"].incarnation == 1, "at once"
    once = env.folder / "once"
    once.write_text('#!/bin/sh\nrm "$0"; exit 1\n')
    once.chmod(0o755)
    one = await env.start(Command(once), ready=False, restart=AT_ONCE)
    await settled(one)
    assert one.get_history().exit_statuses == [1, None, None, None], "it counts"
    assert one.state == "fatal"
    assert descriptors() == before


@row(11, "the app has no free descriptor at the spawn")
async def no_descriptors(env):
    other = await env.start(programs.echoes(), "other", ready=False)
    await other.wait_until_running()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(SYSTEM.descriptors())
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(0))
        policy = RestartPolicy(first_delay=0.02, max_delay=0.02, max_failures=1e9)
        one = await env.start(programs.runs(), ready=False, restart=policy)
        assert (one.state, one.incarnation >= 1) == ("backoff", True)
        refused = env.published("spawn_refused")[0].error
        assert "ulimit -n" in refused
        await other.send(b"still here\n")
        await other.wait_for_line("still here")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)
    await one.wait_until_running()
    await one.wait_for_line("ready", timeout=120)


# ---- restarts


@row(12, "always exits with 1 at once")
async def crashes_for_ever(env):
    policy = RestartPolicy(
        first_delay=0.01, max_delay=0.04, max_failures=5, jitter=False, decay=1e9
    )
    one = await env.start(programs.exits(1), ready=False, restart=policy)
    await settled(one)
    delays = [event.delay for event in env.published("restart_scheduled")]
    assert delays == pytest.approx([0.01, 0.02, 0.04, 0.04, 0.04], rel=1e-6)
    assert one.get_history().exit_statuses == [1] * 6
    [given_up] = env.published("given_up")
    how = "exit status 1, 6 times in a row; failure score 6.0 exceeds 5"
    assert how in given_up.reason
    assert given_up.reason == one.reason


@row(13, "crashes repeatedly, each time after a long run")
async def crashes_rarely(env):
    # An hour is a hundred half-lives of the failure score here: it has decayed every time.
    policy = RestartPolicy(first_delay=0.0, decay=0.0001, max_failures=1.5)
    one = await env.start(
        programs.shell("sleep 0.01; exit 1"), ready=False, restart=policy
    )
    await one._lifecycle.until(lambda: one.restarts >= 20 or one.is_settled)
    assert one.restarts >= 20
    assert env.published("given_up") == []


@row(14, "is stopped while starting, in backoff, or waiting for a dependency")
async def stopped_early(env):
    never = Probe.line("never")
    starting = asyncio.ensure_future(
        env.start(programs.runs(), "starting", ready=False, probes=[never])
    )
    backoff = await env.start(programs.exits(1), "backoff", ready=False, restart=SLOW)
    await backoff._lifecycle.until(lambda: backoff.state == "backoff")
    waiting = asyncio.ensure_future(
        env.start(programs.runs(), "waiting", ready=False, depends_on=["backoff"])
    )
    while "waiting" not in env.manager.processes:
        await asyncio.sleep(0)
    spawned = len(env.published("started"))
    for name in ("waiting", "backoff", "starting"):
        async with asyncio.timeout(120):
            status = await env.manager.stop(name)
        assert status.state == "exited"
    await asyncio.gather(starting, waiting)
    assert len(env.published("started")) == spawned, "no spawn afterwards"


@row(15, "the app is cancelled at any await")
async def cancelled_anywhere(env):
    # test_cancellations.py cancels at every step of the loop; this row cancels the block.
    pids = []

    async def app():
        async with ProcessManager(env.logger) as manager:
            manager.subscribe(
                lambda e: pids.append(e.pid) if isinstance(e, ProcessStarted) else None
            )
            await manager.start("one", programs.forks(1))
            await manager.start("two", programs.runs(), depends_on=["one"])

    for steps in range(0, 90, 3):
        running = asyncio.ensure_future(app())
        for step in range(steps):
            # The guard and the children take real time to start.
            await asyncio.sleep(0 if step < 30 else 0.001)
        running.cancel()
        await asyncio.wait([running])
    assert pids
    assert not any(process_groups.living_members(pid) for pid in pids)


@row(16, "a callback of the app raises, or never returns")
async def bad_callbacks(env):
    def raises(_event):
        raise ZeroDivisionError("subscriber")

    async def hangs(_report):
        await asyncio.Event().wait()

    env.manager.subscribe(raises)
    probe = Probe.call(lambda: 1 / 0, period=0.01, failure_threshold=1)
    one = await env.start(
        programs.runs(), ready=False, restart=AT_ONCE, recover=hangs, probes=[probe]
    )
    await one._lifecycle.until(lambda: one.status == "dead")
    async with asyncio.timeout(120):
        await one.stop()
    assert process_groups.living_members(one.pid) == []
    [record] = one.get_history().incarnations
    assert "ZeroDivisionError: division by zero" in record.summary
    errors = await env.logger.get_logs(level="ERROR", component="manager")
    assert "subscriber" in errors[0].context["error"]
    assert (await env.start(programs.runs(), "other")).status == "running"


@row(19, "is killed by a signal of the app or of another process")
async def signalled(env):
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP):
        name = f"child {number}"
        one = await env.start(programs.runs(), name, restart=TEMPORARY)
        os.kill(one.pid, number)
        await settled(one)
        assert (one.exit_status, one.get_report().cause) == (-number, "signalled")
        assert f"killed by {number.name}" in one.get_report().summary
    ours = await env.start(programs.runs(), "ours")
    status = await ours.stop()
    assert (status.exit_status, status.cause) == (-15, "stopped by us")


@row(20, "every policy with every kind of exit")
async def policies(env):
    # The table of decisions is in test_restart.py; this row uses real exits.
    kinds = {
        "clean": programs.exits(0),
        "failure": programs.exits(1),
        "signal": programs.shell("kill -9 $$"),
        "refused": Command("/no/such/program"),
    }
    expected = {
        ("temporary", "clean"): "exited",
        ("temporary", "failure"): "exited",
        ("temporary", "signal"): "exited",
        ("temporary", "refused"): "exited",
        ("transient", "clean"): "exited",
        ("transient", "failure"): "fatal",
        ("transient", "signal"): "fatal",
        ("transient", "refused"): "fatal",
        ("permanent", "clean"): "fatal",
        ("permanent", "failure"): "fatal",
        ("permanent", "signal"): "fatal",
        ("permanent", "refused"): "fatal",
    }
    found = {}
    for policy in (TEMPORARY, TRANSIENT, PERMANENT):
        for kind, command in kinds.items():
            one = ManagedProcess(
                command,
                "one",
                env.logger,
                restart=RestartPolicy(policy.mode, max_failures=1, first_delay=0.0),
            )
            try:
                await one.start()
            except SpawnFailed:
                assert kind == "refused"
            await settled(one)
            found[policy.mode, kind] = one.state
            restarted = 0 if one.state == "exited" or kind == "refused" else 1
            assert one.incarnation == 1 + restarted
    assert found == expected


@pytest.mark.parametrize(
    ("strategy", "together"),
    [
        ("one_for_one", ["two"]),
        ("rest_for_one", ["two", "three"]),
        ("one_for_all", ["one", "two", "three"]),
    ],
)
async def test_21_strategies_restart_in_the_exact_order(logger, strategy, together):
    """Processes that are restarted together end in reverse order and start in order."""
    async with ProcessManager(logger, strategy=strategy) as manager:
        received = []
        for name in ("one", "two", "three"):
            await manager.start(
                name, programs.runs(), restart=AT_ONCE, probes=[Probe.line("ready")]
            )
        two = manager.processes["two"]
        manager.subscribe(received.append)
        os.kill(two.pid, signal.SIGKILL)
        for name in together:
            one = manager.processes[name]
            await restarted(one)
            await one.wait_until_running()
        order = [
            (e.kind.removeprefix("process."), e.process)
            for e in received
            if e.kind in {"process.exited", "process.started", "process.ready"}
        ]
        wait_for_dependencies = [name for name in reversed(together) if name != "two"]
        assert order == [
            ("exited", "two"),
            *(("exited", name) for name in wait_for_dependencies),
            *((kind, name) for name in together for kind in ("started", "ready")),
        ]
        restarts = {name: one.restarts for name, one in manager.processes.items()}
        assert restarts == {name: int(name in together) for name in restarts}
        received.clear()
    stopped = [e.process for e in received if e.kind == "process.stop_step"]
    assert stopped == ["three", "two", "one"], "and all of it ends in reverse order"


# ---- readiness, health


@row(22, "the ready line comes late, never, or after a flood")
async def ready_lines(env):
    probe = Probe.line("^ready", timeout=120)
    late = await env.start(
        programs.shell("sleep 0.2; echo ready; exec sleep 1000"), "late", probes=[probe]
    )
    assert late.state == "running"
    [ready] = env.published("ready")
    assert ready.after >= 0.2
    dies = asyncio.ensure_future(
        env.start(
            programs.shell("echo almost; exit 3"),
            "dies",
            ready=False,
            probes=[probe],
            restart=TEMPORARY,
        )
    )
    with pytest.raises(Exception, match="exit status 3"):
        await dies
    flood = programs.shell("seq 100000; echo ready; exec sleep 1000")
    assert (await env.start(flood, "flood", probes=[probe])).state == "running"


@row(23, "loses its readiness")
async def readiness_lost(env):
    well = env.folder / "well"
    well.touch()
    probe = Probe.call(
        well.exists, purpose="readiness", period=0.01, failure_threshold=2
    )
    one = await env.start(programs.runs(), restart=AT_ONCE, probes=[probe])
    well.unlink()
    await one._lifecycle.until(lambda: one.restarts == 1)
    assert one.state == "starting"
    well.touch()
    await one.wait_until_running()
    assert env.kinds() == [
        "started",
        "ready",
        "readiness_lost",
        "probe_failed",
        "stop_step",
        "exited",
        "restart_scheduled",
        "started",
        "restarted",
        "ready",
    ]
    assert one.get_history().incarnations[0].cause == "ended by us: unhealthy"


@row(24, "is alive but silent")
async def silent(env):
    script = "echo hello; echo 'last line' >&2; exec sleep 1000"
    probe = Probe.silence(0.1, "stderr", grace=0.05)
    one = await env.start(
        programs.shell(script), ready=False, restart=TEMPORARY, probes=[probe]
    )
    await settled(one)
    [failed] = env.published("probe_failed")
    assert failed.reason.startswith("silent on stderr for 0.")
    assert failed.reason.endswith("0.1 allowed; its last line was 'last line'")
    assert one.get_report().cause == "ended by us: unhealthy"


@row(24, "is alive, but writes too few bytes per second")
async def slow(env):
    script = (
        "import os, time\n"
        "for n in range(10000):\n"
        "    os.write(1, bytes(4800 if n < 10 else 480)); time.sleep(0.02)"
    )
    probe = Probe.rate(48_000, window=0.4, grace=0.0)
    one = await env.start(
        programs.python(script, stdout="binary"),
        ready=False,
        restart=TEMPORARY,
        probes=[probe],
    )
    received = 0
    with contextlib.suppress(ProcessDead):
        while True:
            received += len(await one.receive())
    [failed] = env.published("probe_failed")
    assert failed.probe == "rate"
    assert "bytes/s on stdout over the last 0.4 s, at least 48000 expected" in (
        failed.reason
    )
    assert received >= 48_000, "while it flowed it was well"
    assert one.get_report().cause == "ended by us: unhealthy"


@row(25, "is healthy while the loop of the app is late")
async def our_loop_is_late(env):
    script = "while :; do echo tick; sleep 0.02; done"
    probes = [Probe.silence(0.3, grace=0.0), Probe.line("tick")]
    one = await env.start(programs.shell(script), ready=False, probes=probes)
    for _ in range(3):
        time.sleep(0.7)
        await asyncio.sleep(0.05)
    assert env.published("probe_failed") == []
    assert (one.status, one.restarts) == ("running", 0)


# ---- ports and many processes


@row(30, "binds a port, and is restarted")
async def binds_a_port(env):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = await env.start(programs.binds(port), restart=FOR_EVER)
    for record in range(2, 6):
        os.kill(one.pid, signal.SIGKILL)  # its child still holds the port
        await one._lifecycle.until(lambda record=record: one.incarnation == record)
        await one.wait_for_line("ready", timeout=120)
    assert one.get_history().exit_statuses == [-9] * 4 + [None]


@row(31, "200 short runs at once")
async def many_at_once(env):
    processes = await asyncio.gather(
        *(
            env.start(programs.exits(n % 7), f"one {n}", ready=False, restart=TEMPORARY)
            for n in range(200)
        )
    )
    await settled(*processes)
    assert [one.exit_status for one in processes] == [n % 7 for n in range(200)]
    assert len({one.pid for one in processes}) == 200


# ---- further misbehaviour


@row(32, "closes its stdout and continues")
async def closes_stdout(env):
    script = "echo said; exec >&-; echo 'ready' >&2; read line; echo \"$line\" >&2"
    one = await env.start(programs.shell(script, stdin=True), restart=TEMPORARY)
    assert one.status == "running"
    await one.send(b"still here\n")
    await settled(one)
    assert [line.text for line in one.get_stdout()] == ["said"]
    assert [line.text for line in one.get_stderr()] == ["ready", "still here"]
    assert (one.exit_status, one.get_report().capture) == (0, "end of file")


@row(33, "writes NUL bytes")
async def nul_bytes(env):
    script = "import os; os.write(2, b'a\\0b\\n\\0\\n'); os._exit(1)"
    one = await env.start(programs.python(script), ready=False, restart=TEMPORARY)
    await settled(one)
    assert [line.raw for line in one.get_stderr()] == [b"a\0b\n", b"\0\n"]
    [entry] = await env.logger.get_logs(level="ERROR", component="child")
    assert entry.context["last_lines"] == ["a\0b", "\0"]
    assert b"\0" not in env.logger.path.read_bytes(), "a log is text"


@row(34, "moves a member into another process group")
async def changes_its_group(env):
    script = "set -m; sleep 1000 & echo $!; echo ready; exec sleep 1000"
    one = await env.start(Command("bash", "-c", script))
    moved = int(one.get_stdout()[0].text)
    assert os.getpgid(moved) == moved != one.pid
    assert not await env.manager.leak_report(), "its session is still ours"
    await one.stop()
    [escapee] = (await env.manager.leak_report()).escapees
    assert escapee.startswith(f"pid {moved} (sleep)")
    await env.manager.aclose()
    assert (
        SYSTEM.processes.read(moved) is None or not SYSTEM.processes.read(moved).alive
    )


@row(35, "leaves a daemon behind by forking twice")
async def daemon(env):
    script = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    null = os.open(os.devnull, os.O_RDWR)\n"
        "    print(os.getpid(), flush=True)\n"
        "    for n in (0, 1, 2): os.dup2(null, n)\n"
        "    time.sleep(1000)\n"
        "os.wait()"
    )
    one = await env.start(programs.python(script), ready=False)
    pid = int((await one.wait_for_line("^[0-9]+", timeout=120)).text)
    await settled(one)
    assert one.get_report().cause == "finished"
    [escapee] = (await env.manager.leak_report()).escapees
    assert escapee.startswith(f"pid {pid} (")
    await env.manager.aclose()
    assert not await env.manager.leak_report()
    [entry] = await env.logger.get_logs(pattern="had left their session")
    assert entry.context["escapees"][0].startswith(f"pid {pid} (")


@row(36, "has sent itself SIGSTOP before the stop")
async def stopped_itself(env):
    one = await env.start(programs.shell("echo ready; kill -STOP $$; exit 3"))
    while SYSTEM.processes.read(one.pid).state != "T":
        await asyncio.sleep(0.005)
    status = await one.stop()
    assert (status.exit_status, env.steps()) == (-15, ["SIGTERM"])


@row(37, "is permanent and always exits with 0")
async def finishes_for_ever(env):
    policy = RestartPolicy(
        "permanent", first_delay=0.01, max_failures=3, jitter=False, decay=1e9
    )
    one = await env.start(programs.exits(0), ready=False, restart=policy)
    status = await one.wait_until_settled()
    delays = [event.delay for event in env.published("restart_scheduled")]
    assert delays == pytest.approx([0.01, 0.02, 0.04], rel=1e-6), "it does not spin"
    assert (status.state, one.incarnation) == ("fatal", 4)


@row(38, "runs while the clock is set back by an hour")
async def clock_set_back(env):
    one = await env.start(programs.echoes(), ready=False, restart=AT_ONCE)
    real = time.time
    time.time = lambda: real() - 3600
    try:
        await one.send(b"early\n")
        await one.wait_for_line("early")
        os.kill(one.pid, signal.SIGKILL)
        await restarted(one)
        dead = one.get_history().incarnations[0]
    finally:
        time.time = real
    assert 0 <= dead.uptime < 60
    assert dead.ended_at < dead.started_at, "as it was published to people"
    [scheduled] = env.published("restart_scheduled")
    assert "failure score 1.0 of 3" in scheduled.reason


@row(39, "forks faster than the members can be listed")
async def fork_bomb(env):
    # Each generation is another process: a listed pid has exited already.
    script = (
        "import os, time\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 30\n"
        "while time.monotonic() < end:\n"
        "    if os.fork():\n"
        "        if os.getpid() == os.getpgrp(): time.sleep(1000)\n"
        "        os._exit(0)"
    )
    one = await env.start(programs.python(script), ladder=SOON)
    await one.stop()
    assert process_groups.living_members(one.pid) == []
    assert not await env.manager.leak_report()


@row(40, "never reaps its own children")
async def zombies(env):
    script = (
        "import os, time\n"
        "kids = [os.fork() or os._exit(0) for _ in range(20)]\n"
        "for pid in kids: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
        "print('ready'); time.sleep(1000)"
    )
    one = await env.start(programs.python(script))
    await one.stop()
    [step] = env.published("stop_step")
    assert (step.members, one.exit_status) == (1, -15), "zombies need no signal"


@row(41, "never reads its stdin, and is stopped during a write")
async def stopped_while_written_to(env):
    one = await env.start(programs.never_reads(), ready=False)
    writing = asyncio.ensure_future(one.send(bytes(1 << 20), timeout=1000))
    while SYSTEM.processes.read(one.pid).state != "S" or writing.done():
        await asyncio.sleep(0.001)
    status = await one.stop()
    assert (status.exit_status, env.steps()) == (-15, ["SIGTERM"])
    with pytest.raises(ProcessDead, match="write 1048576 bytes"):
        await writing


@pytest.mark.parametrize("scenario", TABLE)
async def test_scenario(scenario, logger, tmp_path):
    async with ProcessManager(logger, check_interval=0.05) as manager:
        await scenario(Environment(manager, tmp_path))


def test_every_row_that_concerns_supervision_is_in_the_table():
    """17, 18 and 21 have tests of their own; 26 to 29 are the log's."""
    numbers = {param.values[0].number for param in TABLE} | {17, 18, 21}
    assert numbers == set(range(1, 42)) - {26, 27, 28, 29}
