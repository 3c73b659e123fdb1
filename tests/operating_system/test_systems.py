"""Linux and POSIX give the same answers; kqueue is a stand-in here."""

import asyncio
import importlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realtalk_async.operating_system import SYSTEM, posix
from realtalk_async.operating_system.linux import Linux
from realtalk_async.operating_system.posix import Posix

TIMEOUT = 60
STAND_IN = Path(__file__).parent / "stand_in"
pytestmark = pytest.mark.skipif(
    SYSTEM.name != "Linux", reason="it makes both systems of what Linux has"
)


@pytest.fixture(params=["Linux", "POSIX", "kqueue"])
def system(request, monkeypatch):
    """Each implementation, on this machine."""
    if request.param == "Linux":
        return Linux()
    if not shutil.which("ps"):
        pytest.skip("there is no ps")
    if request.param == "kqueue":
        monkeypatch.syspath_prepend(STAND_IN)
        stand_in = importlib.import_module("kqueue_stand_in")
        for name in stand_in.NAMES:
            monkeypatch.setattr(select, name, getattr(stand_in, name), raising=False)
    return Posix()


@pytest.fixture
def begin():
    """Return a function that starts a program, which leads a group of its own."""
    begun = []

    def start(*words, **options):
        begun.append(subprocess.Popen(words, process_group=0, **options))
        return begun[-1]

    yield start
    for one in begun:
        one.kill()
        one.wait()


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# ---- the process table


def test_a_process_is_described(system, begin):
    child = begin("sleep", "1000")
    wait_until(lambda: system.processes.read(child.pid).name == "sleep")
    found = system.processes.read(child.pid)
    assert (found.pid, found.group, found.session) == (
        child.pid, child.pid, os.getsid(0),
    )  # fmt: skip
    assert found.alive
    assert system.processes.is_readable
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: system.processes.read(child.pid).state == "T")
    child.kill()
    wait_until(lambda: not system.processes.read(child.pid).alive)
    child.wait()
    assert system.processes.read(child.pid) is None


def test_processes_are_found_by_group_parent_and_tag(system, begin):
    tag = f"REALTALK_TEST={os.urandom(8).hex()}"
    name, _, value = tag.partition("=")
    line = "sleep 1000 & wait"
    leader = begin("sh", "-c", line, env={**os.environ, name: value})
    wait_until(lambda: len(system.processes.in_group(leader.pid)) == 2)
    [inner] = system.processes.children(leader.pid)
    wait_until(lambda: system.processes.read(inner.pid).name == "sleep")
    pids = {leader.pid, inner.pid}
    assert {one.pid for one in system.processes.in_group(leader.pid)} == pids
    assert {one.pid for one in system.processes.tagged(tag)} == pids
    assert leader.pid in {one.pid for one in system.processes.children(os.getpid())}
    assert system.processes.command(leader.pid)[:2] == ["sh", "-c"]
    assert system.processes.tagged(f"{tag}0") == []
    os.killpg(leader.pid, signal.SIGKILL)


def test_the_usage_of_each_process_is_told(system, begin):
    child = begin("sleep", "1000")
    usage = system.processes.usage()
    own = usage[os.getpid()]
    assert own.session == usage[child.pid].session == os.getsid(0)
    assert abs(own.cpu - time.process_time()) < 2
    assert usage[child.pid].memory < 20_000_000 < own.memory < 2_000_000_000


# ---- the exit of a child


def test_the_exit_of_a_child_is_noticed_and_its_status_stays(system, begin):
    child = begin("sh", "-c", "read x; exit 7", stdin=subprocess.PIPE)
    assert system.has_children()
    assert not system.has_exited(child.pid)
    child.stdin.close()
    system.wait_for_any_exit()
    wait_until(lambda: system.has_exited(child.pid))
    assert child.pid in system.child_pids()
    assert child.wait() == 7
    assert not system.has_exited(child.pid)


def test_a_stop_of_a_child_is_told_once(system, begin):
    child = begin("sleep", "1000")
    assert system.stop_signal(child.pid) == 0
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: system.stop_signal(child.pid) == signal.SIGSTOP)
    assert system.stop_signal(child.pid) == 0


@pytest.mark.parametrize("system", ["Linux", "kqueue"], indirect=True)
def test_the_descriptor_of_a_process_is_readable_after_its_exit(system, begin):
    child = begin("sleep", "1000")
    handle = system.open_process(child.pid)
    assert select.select([handle], [], [], 0)[0] == []
    system.signal_process(handle, signal.SIGTERM)
    for _ in range(2):  # it stays so
        assert select.select([handle], [], [], TIMEOUT)[0] == [handle]
    assert child.wait() == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        system.signal_process(handle, signal.SIGTERM)
    system.close_process(handle)


def test_without_exit_notice_the_system_says_so():
    with pytest.raises(OSError, match="no exit notice"):
        Posix().open_process(os.getpid())


def test_kqueue_knows_no_process_that_has_exited(system, begin):
    child = begin("true")
    wait_until(lambda: system.has_exited(child.pid))
    try:
        system.close_process(system.open_process(child.pid))
    except OSError as error:
        assert isinstance(error, ProcessLookupError) or "no exit notice" in str(error)


# ---- descriptors


async def test_readable_descriptors_are_told(system):
    woken = asyncio.Event()
    readiness = system.make_readiness(asyncio.get_running_loop(), woken.set)
    pipes = [os.pipe() for _ in range(2)]
    for reading, _ in pipes:
        readiness.watch(reading)
    assert list(readiness.readable()) == []
    os.write(pipes[1][1], b"x")
    await woken.wait()
    assert list(readiness.readable()) == [pipes[1][0]]
    readiness.unwatch(pipes[1][0])
    assert list(readiness.readable()) == []
    with pytest.raises(OSError, match="No such file"):
        readiness.unwatch(pipes[1][0])
    os.close(pipes[0][1])  # its end is readable as well
    assert list(readiness.readable()) == [pipes[0][0]]
    readiness.unwatch(pipes[0][0])
    readiness.close()
    for descriptor in (pipes[0][0], *pipes[1]):
        os.close(descriptor)


def test_open_descriptors_are_listed(system):
    before = system.descriptors()
    reading, writing = os.pipe()
    found = system.descriptors()
    assert found.keys() - before.keys() == {reading, writing}
    assert found[reading].startswith("pipe:")
    os.close(reading)
    os.close(writing)


def test_a_file_gets_its_room_and_is_opened_again(system, tmp_path):
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    system.allocate(descriptor, 100_000)
    assert os.fstat(descriptor).st_size == 100_000
    again = system.open_again(descriptor, path, os.O_RDWR)
    assert os.path.samestat(os.fstat(again), os.fstat(descriptor))
    os.close(again)
    os.close(descriptor)


def test_a_socket_beneath_a_long_path_is_reached(system, tmp_path):
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, system.short_path(folder) as short:
        address = f"{short}/one.sock"
        assert len(address) <= system.max_socket_path
        listener.bind(address)
    assert (folder / "one.sock").is_socket()


COMPOSED, DECOMPOSED = "Caf\u00e9.log", "Cafe\u0301.log"


@pytest.mark.parametrize(
    ("answer", "is_one_file"), [(0, True), (1, False), (OSError(), False)]
)
def test_names_of_one_file_on_macos_are_known(
    answer, is_one_file, tmp_path, monkeypatch
):
    def pathconf(folder, number):
        assert (folder, number) == (tmp_path, 11)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(posix, "PC_CASE_SENSITIVE", 11)
    monkeypatch.setattr(os, "pathconf", pathconf)
    names = [COMPOSED, DECOMPOSED, COMPOSED.upper()]
    one, two, three = (Posix().comparable_name(tmp_path, name) for name in names)
    assert one == two
    assert (one == three) == is_one_file


def test_names_that_differ_are_two_files_on_linux(tmp_path):
    for name in (COMPOSED, DECOMPOSED, COMPOSED.upper()):
        assert Linux().comparable_name(tmp_path, name) == name


def test_the_process_at_the_other_end_is_known_or_unknown(system):
    one, other = socket.socketpair()
    peer = system.peer(one)
    assert peer in [(os.getpid(), os.getuid()), (None, None)]
    assert (peer.uid is not None) is isinstance(system, Linux)
    one.close()
    other.close()


APP = """
import asyncio, os, signal, sys, threading
from realtalk_async import Command, Logger, ProcessManager
from realtalk_async.operating_system import SYSTEM

async def main(log):
    async with Logger(log) as logger, ProcessManager(logger) as manager:
        fails = Command("sh", "-c", "echo hello; exit 3")
        one = await manager.start("one", fails, restart="temporary")
        await one.wait()
        line = "sleep 1000 & echo ready; wait"
        two = await manager.start("two", Command("sh", "-c", line), restart="permanent")
        await two.wait_for_line("ready")
        before = two.pid
        os.kill(before, signal.SIGKILL)
        while two.pid in (None, before):
            await asyncio.sleep(0.01)
        waiting = [t.name for t in threading.enumerate() if "children" in t.name]
        print(SYSTEM.name, one.get_report().exit_status, *one.get_stdout().texts())
        print(len(waiting), "thread")
        await manager.stop("two")
        print("stopped")

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(("kqueue", "threads"), [("0", 1), ("1", 0)])
def test_a_child_is_supervised_without_what_only_linux_has(tmp_path, kqueue, threads):
    environment = {**os.environ, "PYTHONPATH": str(STAND_IN), "REALTALK_KQUEUE": kqueue}
    done = subprocess.run(
        [sys.executable, "-c", APP, str(tmp_path / "app.log")],
        env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == f"POSIX 3 hello\n{threads} thread\nstopped\n"


def test_the_time_of_suspensions_is_known_on_linux():
    assert SYSTEM.suspended_time() > -0.001
