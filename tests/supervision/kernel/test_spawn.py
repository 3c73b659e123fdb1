"""How a program starts: its signals, its descriptors, its path; and starts that fail."""

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from realtalk_async.exceptions import SpawnFailed
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import TEMPORARY, Command
from realtalk_async.supervision.kernel.fair_poller import FairPoller
from realtalk_async.supervision.kernel.spawn import spawn_process
from realtalk_async.supervision.kernel.spawning import posix_spawn
from realtalk_async.testing import programs

BLOCKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
IGNORED = {signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR2}


OF_THE_C_LIBRARY = 1 << 31 | 1 << 32
"""
The signals 32 and 33, which no program can set: glibc's `posix_spawn`, with which Python
3.13 starts the workers of the tests, may have them ignored.
"""


@pytest.fixture
def signals_changed():
    """Block and ignore signals as an app may: for `sigwait`, or under nohup."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def signal_masks(pid):
    """Return the blocked and the ignored signals of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    ignored = int(fields["SigIgn"], 16) & ~OF_THE_C_LIBRARY
    return int(fields["SigBlk"], 16), ignored


STARTS = {
    "by posix_spawn": {},
    "by Popen": {"umask": 0o77},
    "in a group": {"process_group": 0},
    "in the app's own group": {"start_new_session": False},
}


@pytest.mark.usefixtures("signals_changed")
@pytest.mark.parametrize("options", STARTS.values(), ids=STARTS)
async def test_a_child_starts_with_no_signal_blocked_or_ignored(options, manager):
    """Whatever the app has set: SIGTERM ends it without the whole ladder."""
    ours = signal_masks("self")
    command = Command("sh", "-c", "echo ready; exec sleep 1000", options=options)
    child = await manager.start("child", command, restart=TEMPORARY)
    await child.wait_for_line("ready")
    assert signal_masks(child.pid) == (0, 0)
    status = await child.stop()
    assert status.exit_status == -signal.SIGTERM
    assert signal_masks("self") == ours


@pytest.mark.usefixtures("signals_changed")
async def test_a_process_of_asyncio_too_starts_with_no_signal_blocked_or_ignored():
    """`await command()` starts it, for a restart function."""
    process = await Command("sh", "-c", "echo ready; exec sleep 1000")()
    try:
        await process.stdout.readline()
        assert signal_masks(process.pid) == (0, 0)
        with pytest.raises(SpawnFailed, match="not on PATH"):
            await Command("no-such-program")()
    finally:
        process.kill()
        await process.communicate()


async def test_a_pending_signal_of_the_app_stays_pending(manager):
    """No thread of this process unblocks a signal, not even for a moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # would end it
        for number, options in enumerate(STARTS.values()):
            await manager.start(f"{number}", Command("true", options=options))
        assert signal.sigpending() == {signal.SIGUSR1}
        assert signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def test_a_child_inherits_what_restore_signals_false_asks_for(manager):
    """As `subprocess.Popen` documents it: here an ignored SIGPIPE."""
    command = Command("sleep", "1000", options={"restore_signals": False})
    child = await manager.start("child", command)
    assert signal_masks(child.pid)[1] & 1 << (signal.SIGPIPE - 1)


async def test_a_child_has_no_descriptors_of_the_app(manager):
    """Not even inheritable ones, such as a socket that systemd has passed on."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        waits = programs.shell("echo ready; read _", stdin=True)
        child = await manager.start("child", waits)
        await child.wait_for_line("ready")  # its libraries are loaded by then
        assert set(os.listdir(f"/proc/{child.pid}/fd")) == {"0", "1", "2"}
    finally:
        os.close(reading)
        os.close(writing)


WITHOUT_STREAMS = """
import asyncio, os, sys
from realtalk_async import Command, Logger, ProcessManager, TEMPORARY

async def main():
    async with ProcessManager(Logger(sys.argv[1])) as manager:
        for options in {}, {"umask": 0o22}:
            command = Command(
                "sh", "-c", "cat; echo out; echo err >&2", stdin=True, options=options
            )
            child = await manager.start("child", command, restart=TEMPORARY)
            await child.send(b"in\\n")
            child.close_stdin()
            await child.wait()
            with open(sys.argv[2], "a") as file:
                for lines in child.get_stdout(), child.get_stderr():
                    print(*[line.text for line in lines], file=file)

os.closerange(0, 3)
asyncio.run(main())
"""


def test_an_app_without_stdin_stdout_and_stderr_starts_children(log_path, tmp_path):
    """Their pipes have the numbers 0 to 2 then, which must not overwrite each other."""
    result = tmp_path / "result"
    script = [sys.executable, "-c", WITHOUT_STREAMS, log_path, result]
    subprocess.run(script, check=True, timeout=120)
    assert result.read_text() == "in out\nerr\n" * 2


def make_program(folder, text, mode=0o755):
    folder.mkdir()
    path = folder / "program"
    path.write_text(text)
    path.chmod(mode)
    return str(folder)


async def test_a_program_is_searched_as_subprocess_does(manager, tmp_path):
    """An unusable file on PATH hides no program of a later folder."""
    folders = [
        str(tmp_path / "none"),
        make_program(tmp_path / "a", "#!/bin/sh\necho a", 0o644),
        make_program(tmp_path / "b", "no program"),
        make_program(tmp_path / "c", "#!/bin/sh\necho c"),
    ]
    command = Command("program", env={"PATH": ":".join(folders)}, cwd=tmp_path)
    child = await manager.start("c", command)
    assert (await child.wait_for_line(".")).text == "c"
    relative = Command("program", env={"PATH": "none:c"}, cwd=tmp_path)
    child = await manager.start("relative", relative)
    assert (await child.wait_for_line(".")).text == "c"


@pytest.mark.parametrize("options", [{}, {"umask": 0o77}])
def test_errors_are_those_of_subprocess(options, tmp_path):
    """Number and file name."""
    (tmp_path / "file").touch()
    cases = [
        (("no-such-program",), None, errno.ENOENT, "no-such-program"),
        ((str(tmp_path / "file"),), None, errno.EACCES, str(tmp_path / "file")),
        (("true",), str(tmp_path / "none"), errno.ENOENT, str(tmp_path / "none")),
        (("true",), str(tmp_path / "file"), errno.ENOTDIR, str(tmp_path / "file")),
    ]
    for argv, cwd, number, name in cases:
        with pytest.raises(OSError) as caught:
            spawn_process(argv, env=dict(os.environ), cwd=cwd, options=options)
        assert (caught.value.errno, caught.value.filename) == (number, name)
    with pytest.raises(OSError, match="null byte"):
        spawn_process(["true", "\0"], env={}, options=options)


async def test_the_variables_of_a_service_manager_are_not_passed_on(
    manager, monkeypatch
):
    """Unless the app asks for it: a child would report itself ready in its name."""
    names = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"]
    for name in [*names, "LISTEN_FDNAMES", "WATCHDOG_PID", "OTHER"]:
        monkeypatch.setenv(name, "1")
    show = "echo ${NOTIFY_SOCKET-no} ${LISTEN_FDS-no} ${WATCHDOG_USEC-no} ${OTHER-no}"
    child = await manager.start("plain", Command("sh", "-c", show))
    assert (await child.wait_for_line(".")).text == "no no no 1"
    wanted = {"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]}
    child = await manager.start("asks", Command("sh", "-c", show, env=wanted))
    assert (await child.wait_for_line(".")).text == "1 no no 1"
    process = await manager.create_subprocess_exec(
        "sh", "-c", show, stdout=subprocess.PIPE
    )
    assert await process.stdout.read() == b"no no no 1\n"
    process = await Command("sh", "-c", show)()
    assert await process.communicate() == (b"no no no 1\n", b"")


def open_files():
    """Return the app's descriptors, except the log's, which the log opens when it likes."""
    return {
        number: file
        for number, file in SYSTEM.descriptors().items()
        if "app.log" not in file and not file.startswith("file:")
    }


def refuse_from(monkeypatch, allowed, number):
    """Have the system watch only so many more descriptors; return the real method."""
    whole, calls = FairPoller.add, []

    def add(self, descriptor, *handlers):
        calls.append(descriptor)
        if len(calls) > allowed:
            raise OSError(number, os.strerror(number))
        whole(self, descriptor, *handlers)

    monkeypatch.setattr(FairPoller, "add", add)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM, errno.EPERM])
@pytest.mark.parametrize("allowed", [0, 1, 2])
async def test_a_child_that_cannot_be_watched_is_a_refused_spawn(
    allowed, number, manager, monkeypatch, survivors
):
    """The pidfd, stdout or stderr: nothing is left, and the others live."""
    other = await manager.start("other", programs.runs())
    before = open_files()
    with monkeypatch.context() as patch:
        refuse_from(patch, allowed, number)
        with pytest.raises(SpawnFailed) as caught:
            await manager.start("child", programs.runs(), restart=TEMPORARY)
    assert caught.value.error.errno == number
    assert open_files() == before
    assert len(survivors("=".join(*manager.environment.items()))) == 1
    assert (other.state, manager.status) == ("running", "degraded")
    again = await manager.start("child", programs.runs())
    assert again.state == "running"


@pytest.mark.parametrize(
    ("refused", "allowed"),
    [((os, name), n) for name in ("pipe", "set_blocking") for n in range(3)]
    + [((select, "epoll"), 0)],
)
async def test_a_child_without_descriptors_for_its_pipes_is_a_refused_spawn(
    refused, allowed, manager, monkeypatch, survivors
):
    """The limit is reached at any of the three pipes, or at the epoll that reads them."""
    whole, calls = getattr(*refused), []

    def refuse(*arguments):
        calls.append(arguments)
        if len(calls) > allowed:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return whole(*arguments)

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(*refused, refuse)
        with pytest.raises(SpawnFailed, match="no descriptor is left"):
            await manager.start("child", Command("cat", stdin=True), restart=TEMPORARY)
    assert open_files() == before
    assert not survivors("=".join(*manager.environment.items()))
    assert (await manager.start("child", programs.runs())).state == "running"


async def test_a_child_that_no_thread_can_watch_is_a_refused_spawn(
    manager, monkeypatch, survivors
):
    """No descriptor is left for a pidfd, and no thread for the wait instead."""

    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def refuse_thread(_):
        raise RuntimeError("can't start new thread")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        patch.setattr(threading.Thread, "start", refuse_thread)
        with pytest.raises(SpawnFailed, match="can't start new thread"):
            await manager.start("child", programs.runs(), restart=TEMPORARY)
    assert open_files() == before
    assert not survivors("=".join(*manager.environment.items()))


async def test_a_descriptor_that_epoll_refuses_leaves_no_epoll_behind(tmp_path):
    """A plain file cannot be watched (EPERM)."""
    poller = FairPoller(asyncio.get_running_loop(), "poller")
    before = open_files()
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(PermissionError):
            poller.add(file.fileno(), print, print)
        poller.remove(file.fileno())
    assert open_files() == before


@pytest.mark.skipif(not posix_spawn.available, reason="needs glibc 2.34")
async def test_a_spawn_holds_the_lock_of_python():
    """Otherwise a busy thread of the app would delay the loop by 5 ms."""
    assert posix_spawn._libc._FuncPtr._flags_ & 4, "FUNCFLAG_PYTHONAPI"
