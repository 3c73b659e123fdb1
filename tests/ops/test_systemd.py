"""What systemd hears on a real notify socket, and when it hears nothing."""

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
from realtalk_async.ops.sd_notify import Manners, NotifySocket
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

pytestmark = pytest.mark.timeout(60)


def read(data):
    """Return a message as a dictionary."""
    return dict(line.split("=", 1) for line in data.decode().splitlines())


class Systemd:
    """The other end of the socket."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self.socket.setblocking(False)

    async def hear(self):
        """Return the next message."""
        async with asyncio.timeout(20):
            return read(await asyncio.get_running_loop().sock_recv(self.socket, 4096))

    async def hear_until(self, name):
        """Return the next message that has that word."""
        while name not in (message := await self.hear()):
            pass
        return message

    def hear_all(self):
        """Return what waits to be heard."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(read(self.socket.recv(4096)))
        return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """Listen, and say so in the environment, as systemd does."""
    abstract = f"@realtalk-test-{os.getpid()}-{time.monotonic_ns()}"
    address = str(tmp_path / "notify") if request.param == "path" else abstract
    one = Systemd(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield one
    one.socket.close()


@pytest.fixture
def watchdog(monkeypatch):
    """Want a sign of life from us within 0.2 s."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


async def test_ready_status_and_stopping_are_told_in_their_order(manager, systemd):
    """With all that a line of status says."""
    mic = await manager.start("mic", programs.runs(), critical=True)
    async with notify_systemd(manager) as listens:
        assert listens
        message = await systemd.hear()
        assert message == {"READY": "1", "STATUS": "running: 1 of 1 run"}
        await mic.stop()
        message = await systemd.hear()
        assert message == {"STATUS": "running: 0 of 1 run; mic (exited)"}
    assert systemd.hear_all() == [{"STOPPING": "1", "STATUS": "stopping"}]


async def test_ready_waits_for_what_is_critical(manager, systemd):
    """Once, and not before."""
    waits = programs.shell("read line; echo ready; exec sleep 1000", stdin=True)
    start = asyncio.create_task(
        manager.start("mic", waits, critical=True, probes=[Probe.line("ready")])
    )
    async with asyncio.timeout(20):
        while not (mic := manager.processes.get("mic")) or mic.pid is None:
            await asyncio.sleep(0.01)
    async with notify_systemd(manager):
        assert await systemd.hear() == {"STATUS": "running: 0 of 1 run; mic (starting)"}
        await mic.send(b"\n")
        await start
        assert (await systemd.hear())["READY"] == "1"


async def test_a_sign_of_life_comes_twice_in_its_time(manager, systemd, watchdog):
    """For as long as the loop turns."""
    async with notify_systemd(manager):
        for _ in range(5):
            assert (await systemd.hear())["WATCHDOG"] == "1"
        began = time.monotonic()
        for _ in range(10):
            await systemd.hear()
        assert time.monotonic() - began >= 0.5


async def test_a_loop_that_hangs_gives_no_sign_of_life(manager, systemd, watchdog):
    """That is what systemd restarts it for."""
    async with notify_systemd(manager):
        await systemd.hear()
        systemd.hear_all()
        time.sleep(0.5)
        assert systemd.hear_all() == []
        assert (await systemd.hear())["WATCHDOG"] == "1"


async def test_no_sign_of_life_comes_once_a_critical_process_is_lost(
    logger, systemd, watchdog
):
    """What comes is STOPPING, at once, with the reason."""
    with pytest.raises(CriticalProcessFailed):
        async with ProcessManager(logger) as manager, notify_systemd(manager):
            await systemd.hear()
            never = RestartPolicy("transient", max_failures=0)
            await manager.start("mic", programs.exits(3), critical=True, restart=never)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(20)
            asyncio.current_task().uncancel()
            stopping = await systemd.hear_until("STOPPING")
            assert "shutting down because of mic: exit status 3" in stopping["STATUS"]
            await asyncio.sleep(0.5)
            assert systemd.hear_all() == []
    assert systemd.hear_all() == []


async def test_no_sign_of_life_comes_for_an_app_that_is_over(logger, systemd, watchdog):
    """Its loop may turn on, but what it was there for has ended; the status says so."""
    manager = ProcessManager(logger)
    async with notify_systemd(manager):
        async with manager:
            await systemd.hear_until("READY")
            await systemd.hear_until("WATCHDOG")
        message = {}
        while message.get("STATUS") != "the manager has closed":
            message = await systemd.hear()
        assert "WATCHDOG" not in message
        await asyncio.sleep(0.5)
        assert systemd.hear_all() == []


async def test_a_watchdog_for_another_process_is_not_ours(
    manager, systemd, monkeypatch
):
    """A child inherits the environment, and is not who is watched."""
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    async with notify_systemd(manager):
        assert "WATCHDOG" not in await systemd.hear()
        await asyncio.sleep(0.5)
    assert not [one for one in systemd.hear_all() if "WATCHDOG" in one]


async def test_nobody_listens(manager, monkeypatch, logger):
    """Without systemd nothing happens; one that is gone is a WARNING, once."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with notify_systemd(manager) as listens:
        assert not listens
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    async with notify_systemd(manager):
        await asyncio.sleep(0.1)
    (entry,) = await logger.get_logs(component="systemd")
    assert entry.level == "WARNING"
    assert "No such file" in entry.context["error"]


def test_a_full_queue_is_no_error(systemd):
    """What could not be told now is told later."""
    ours = NotifySocket(systemd.address)
    taken = 0
    while ours.send(STATUS="x" * 1000):
        taken += 1
    assert taken
    systemd.hear_all()
    assert ours.send(STATUS="two\nlines")
    assert systemd.hear_all() == [{"STATUS": "two lines"}]
    ours.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Manners("", None)),
        ({"NOTIFY_SOCKET": "/run/x"}, Manners("/run/x", None)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1500000"}, Manners("@x", 1.5)),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "7"}, Manners("", 1.0)),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "8"}, Manners("", None)),
        ({"WATCHDOG_USEC": "0"}, Manners("", None)),
    ],
)
def test_the_environment_says_what_is_wanted(environ, expected):
    """As sd_notify(3) and sd_watchdog_enabled(3) tell."""
    assert Manners.of(environ, 7) == expected


@pytest.mark.parametrize(
    "environ", [{"NOTIFY_SOCKET": "vsock:2:1234"}, {"WATCHDOG_USEC": "soon"}], ids=str
)
def test_an_environment_that_makes_no_sense_is_refused(environ):
    """With the variable's name."""
    (name,) = environ
    with pytest.raises(InvalidConfiguration, match=name):
        Manners.of(environ, 7)


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="no systemd-notify")
async def test_we_say_what_systemd_notify_says(systemd):
    """The same words as systemd's own program."""
    subprocess.run(
        ["systemd-notify", "--no-block", "--ready", "--status=all is well"],
        check=True,
        timeout=20,
    )
    heard = {}
    for message in systemd.hear_all():
        heard |= message
    ours = NotifySocket(systemd.address)
    ours.send(READY=1, STATUS="all is well")
    ours.close()
    message = await systemd.hear()
    assert message == {name: heard[name] for name in ("READY", "STATUS")}


async def test_an_app_that_hangs_is_seen_from_outside(systemd, tmp_path):
    """READY, signs of life, then silence; SIGABRT ends it, and the guard its child."""
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
        assert (await systemd.hear())["READY"] == "1"
        for _ in range(3):
            assert (await systemd.hear())["WATCHDOG"] == "1"
        with pytest.raises(TimeoutError):
            while True:
                async with asyncio.timeout(2.0):
                    await systemd.hear()
    finally:
        app.send_signal(signal.SIGABRT)  # what systemd does then
        await app.communicate()
    async with asyncio.timeout(20):
        while process_groups.living(mic):  # the guard ends what the app has left
            await asyncio.sleep(0.01)
