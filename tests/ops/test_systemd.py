"""Notifications to systemd on a real notify socket."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from realtalk_async import Probe, ProcessManager, RestartPolicy
from realtalk_async.exceptions import CriticalProcessFailed, InvalidConfiguration
from realtalk_async.ops import notify_systemd
from realtalk_async.ops.systemd import NotifyEnvironment, NotifySocket, describe
from realtalk_async.supervision import State
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs


def parse_message(data):
    return dict(line.split("=", 1) for line in data.decode().splitlines())


class Systemd:
    """The receiving end of the notify socket."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self.socket.setblocking(False)

    async def receive(self):
        """Return the next message."""
        async with asyncio.timeout(120):
            return parse_message(
                await asyncio.get_running_loop().sock_recv(self.socket, 4096)
            )

    async def receive_until(self, name):
        """Return the next message that has the variable *name*."""
        while name not in (message := await self.receive()):
            pass
        return message

    def receive_all(self):
        """Return all messages that have already arrived."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(parse_message(self.socket.recv(4096)))
        return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """Listen on a notify socket and set NOTIFY_SOCKET, as systemd does."""
    abstract = f"@realtalk-test-{os.getpid()}-{time.monotonic_ns()}"
    address = str(tmp_path / "notify") if request.param == "path" else abstract
    one = Systemd(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield one
    one.socket.close()


@pytest.fixture
def watchdog(monkeypatch):
    """Set a watchdog of 0.2 s for this process."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


async def test_ready_status_and_stopping_are_sent_in_order(manager, systemd):
    mic = await manager.start("mic", programs.runs(), critical=True)
    async with notify_systemd(manager) as has_socket:
        assert has_socket
        message = await systemd.receive()
        assert message == {"READY": "1", "STATUS": "running: 1 of 1 running"}
        await mic.stop()
        message = await systemd.receive()
        assert message == {"STATUS": "running: 0 of 1 running; mic (exited)"}
    assert systemd.receive_all() == [{"STOPPING": "1", "STATUS": "stopping"}]


async def test_ready_is_sent_once_when_critical_processes_are_ready(manager, systemd):
    waits = programs.shell("read line; echo ready; exec sleep 1000", stdin=True)
    start = asyncio.create_task(
        manager.start("mic", waits, critical=True, probes=[Probe.line("ready")])
    )
    async with asyncio.timeout(120):
        while not (mic := manager.processes.get("mic")) or mic.pid is None:
            await asyncio.sleep(0.01)
    async with notify_systemd(manager):
        assert await systemd.receive() == {
            "STATUS": "running: 0 of 1 running; mic (starting)"
        }
        await mic.send(b"\n")
        await start
        assert (await systemd.receive())["READY"] == "1"


async def test_keep_alives_are_sent_twice_in_the_watchdog_timeout(
    manager, systemd, watchdog
):
    async with notify_systemd(manager):
        for _ in range(5):
            assert (await systemd.receive())["WATCHDOG"] == "1"
        began = time.monotonic()
        for _ in range(10):
            await systemd.receive()
        assert time.monotonic() - began >= 0.5


async def test_a_hanging_loop_sends_no_keep_alive(manager, systemd, watchdog):
    async with notify_systemd(manager):
        await systemd.receive()
        systemd.receive_all()
        time.sleep(0.5)
        assert systemd.receive_all() == []
        assert (await systemd.receive())["WATCHDOG"] == "1"


async def test_a_lost_critical_process_sends_stopping_and_ends_keep_alives(
    logger, systemd, watchdog
):
    with pytest.raises(CriticalProcessFailed):
        async with ProcessManager(logger) as manager, notify_systemd(manager):
            await systemd.receive()
            never = RestartPolicy("transient", max_failures=0)
            await manager.start("mic", programs.exits(3), critical=True, restart=never)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(20)
            asyncio.current_task().uncancel()
            stopping = await systemd.receive_until("STOPPING")
            assert "shutting down because of mic: exit status 3" in stopping["STATUS"]
            await asyncio.sleep(0.5)
            assert systemd.receive_all() == []
    assert systemd.receive_all() == []


async def test_a_closed_manager_ends_keep_alives(logger, systemd, watchdog):
    """Its loop may run on, but the app's work is over; the status says so."""
    manager = ProcessManager(logger)
    async with notify_systemd(manager):
        async with manager:
            await systemd.receive_until("READY")
            await systemd.receive_until("WATCHDOG")
        message = {}
        while message.get("STATUS") != "the manager has closed":
            message = await systemd.receive()
        assert "WATCHDOG" not in message
        await asyncio.sleep(0.5)
        assert systemd.receive_all() == []


async def test_a_watchdog_for_another_process_is_ignored(manager, systemd, monkeypatch):
    """A child inherits the environment, but systemd does not watch it."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    async with notify_systemd(manager):
        assert "WATCHDOG" not in await systemd.receive()
        await asyncio.sleep(0.5)
    assert not [one for one in systemd.receive_all() if "WATCHDOG" in one]


async def test_without_a_socket_nothing_is_sent_and_a_dead_socket_warns_once(
    manager, monkeypatch, logger
):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with notify_systemd(manager) as has_socket:
        assert not has_socket
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    async with notify_systemd(manager):
        await asyncio.sleep(0.1)
    (entry,) = await logger.get_logs(component="systemd")
    assert entry.level == "WARNING"
    assert "No such file" in entry.context["error"]


def test_a_full_queue_is_no_error_and_later_messages_fit(systemd):
    ours = NotifySocket(systemd.address)
    taken = 0
    while ours.send(STATUS="x" * 1000):
        taken += 1
    assert taken
    systemd.receive_all()
    assert ours.send(STATUS="two\nlines")
    assert systemd.receive_all() == [{"STATUS": "two lines"}]
    ours.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, NotifyEnvironment("", None)),
        ({"NOTIFY_SOCKET": "/run/x"}, NotifyEnvironment("/run/x", None)),
        (
            {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1500000"},
            NotifyEnvironment("@x", 1.5),
        ),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "7"}, NotifyEnvironment("", 1.0)),
        (
            {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "8"},
            NotifyEnvironment("", None),
        ),
        ({"WATCHDOG_USEC": "0"}, NotifyEnvironment("", None)),
    ],
)
def test_the_environment_is_parsed(environ, expected):
    """As in sd_notify(3) and sd_watchdog_enabled(3)."""
    assert NotifyEnvironment.parse(environ, 7) == expected


@pytest.mark.parametrize(
    "environ", [{"NOTIFY_SOCKET": "vsock:2:1234"}, {"WATCHDOG_USEC": "soon"}], ids=str
)
def test_a_malformed_environment_is_refused_with_the_name_of_the_variable(environ):
    (name,) = environ
    with pytest.raises(InvalidConfiguration, match=name):
        NotifyEnvironment.parse(environ, 7)


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="no systemd-notify")
async def test_messages_equal_those_of_systemd_notify(systemd):
    subprocess.run(
        ["systemd-notify", "--no-block", "--ready", "--status=all is well"],
        check=True,
        timeout=120,
    )
    received = {}
    for message in systemd.receive_all():
        received |= message
    ours = NotifySocket(systemd.address)
    ours.send(READY=1, STATUS="all is well")
    ours.close()
    message = await systemd.receive()
    assert message == {name: received[name] for name in ("READY", "STATUS")}


async def test_a_hanging_app_stops_its_keep_alives_and_the_guard_cleans_up_after_sigabrt(
    systemd, tmp_path
):
    code = f"""
import asyncio, time
from realtalk_async import Logger, ProcessManager
from realtalk_async.ops import notify_systemd
from realtalk_async.testing import programs

async def main():
    async with Logger({str(tmp_path / "log")!r}) as log, ProcessManager(log) as manager:
        mic = await manager.start("mic", programs.runs(), critical=True)
        print(mic.pid, flush=True)
        async with notify_systemd(manager):
            await asyncio.sleep(3.0)
            time.sleep(1000)

asyncio.run(main())
"""
    environ = {**os.environ, "WATCHDOG_USEC": "200000"}
    environ.pop("WATCHDOG_PID", None)
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environ, stdout=subprocess.PIPE
    )
    try:
        mic = int(await app.stdout.readline())
        assert (await systemd.receive())["READY"] == "1"
        for _ in range(3):
            assert (await systemd.receive())["WATCHDOG"] == "1"
        with pytest.raises(TimeoutError):
            while True:
                async with asyncio.timeout(2.0):
                    await systemd.receive()
    finally:
        app.send_signal(signal.SIGABRT)  # what systemd does then
        await app.communicate()
    async with asyncio.timeout(120):
        while process_groups.living_members(
            mic
        ):  # the guard kills the children of the app
            await asyncio.sleep(0.01)


def test_a_status_line_names_at_most_five_processes_that_do_not_run():
    states = {f"p{n}": State.BACKOFF for n in range(7)} | {"mic": State.RUNNING}
    assert describe("degraded", states) == (
        "degraded: 1 of 8 running; p0 (backoff), p1 (backoff), p2 (backoff), p3 (backoff), "
        "p4 (backoff) and 2 more"
    )
    assert describe("running", {"mic": State.RUNNING}) == "running: 1 of 1 running"
