"""Logs that are no regular file: pipes, sockets, terminals, devices, descriptors."""

import asyncio
import os
import pty
import re
import socket
import subprocess
import sys
import time

import pytest

from realtalk_async.exceptions import LogUnavailable, LogUnreadable
from realtalk_async.logs import Logger

WRITE = """
import asyncio, sys
from realtalk_async import Logger

async def main():
    path, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    async with Logger(path, max_bytes=2000) as logger:
        for number in range(count):
            logger.info(name, f"{number} {'x' * size}")

asyncio.run(main())
"""


SHORT_WAITS = """
from realtalk_async.logs import queue, writer
from realtalk_async.logs.output import target

target.MAX_STALL = writer.CLOSE_TIMEOUT = queue.LOCK_TIMEOUT = 0.5
"""


def start(path, name="app", count=1, size=5, before="", **options):
    """Start a process that logs to *path*."""
    words = [
        sys.executable,
        "-c",
        before + WRITE,
        str(path),
        name,
        str(count),
        str(size),
    ]
    return subprocess.Popen(words, **options)


def messages(text):
    """Return the messages by component, in order; each line must be whole."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\[[^]]+\] \[INFO\] \[(\w+)\] (\d+) x*", line)
        assert match, line
        found.setdefault(match[1], []).append(int(match[2]))
    return found


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_log_on_a_descriptor_that_is_a_socket_reaches_its_peer(path):
    ours, theirs = socket.socketpair()
    with ours, start(path, count=500, stdout=theirs) as app:
        theirs.close()
        text = b"".join(iter(lambda: ours.recv(65536), b"")).decode()
        assert app.wait(30) == 0
    assert messages(text) == {"app": list(range(500))}


def test_a_link_to_stderr_and_a_descriptor_of_ones_own_are_written(tmp_path):
    link = tmp_path / "error.log"
    link.symlink_to("/dev/stderr")
    with start(link, stderr=subprocess.PIPE, text=True) as app:
        assert messages(app.communicate()[1]) == {"app": [0]}
    assert os.listdir(tmp_path) == ["error.log"]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Logger(f"/dev/fd/{theirs.fileno()}").info("app", "0 x")
        assert messages(ours.recv(1000).decode()) == {"app": [0]}


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND])
def test_a_log_on_redirected_stdout_and_what_the_app_prints_both_stay(tmp_path, flags):
    path = tmp_path / "out"
    code = (
        "from realtalk_async import Logger\n"
        "logger = Logger('/dev/stdout', max_bytes=100)\n"
        "for number in range(100):\n"
        "    print('printed', number, flush=True)\n"
        "    logger.info('app', f'logged {number}')\n"
    )
    out = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    subprocess.run([sys.executable, "-c", code], stdout=out, check=True, timeout=60)
    os.close(out)
    words = [line.split("] ")[-1] for line in path.read_text().splitlines()]
    expected = [(f"printed {n}", f"logged {n}") for n in range(100)]
    assert words == [word for pair in expected for word in pair]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("size", [50, 3000])
def test_lines_of_several_processes_on_one_pipe_are_whole(size):
    reader, writer = os.pipe()
    apps = [start("/dev/stdout", f"p{n}", 500, size, stdout=writer) for n in range(3)]
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode()
    assert [app.wait(30) for app in apps] == [0, 0, 0]
    assert messages(text) == {f"p{n}": list(range(500)) for n in range(3)}


def test_a_terminal_shows_the_lines():
    ours, theirs = pty.openpty()
    with start("/dev/stdout", count=20, stdout=theirs) as app:
        os.close(theirs)
        text = b""
        while text.count(b"\n") < 20:
            text += os.read(ours, 65536)
        assert app.wait(30) == 0
    os.close(ours)
    assert messages(text.decode()) == {"app": list(range(20))}


def test_dev_null_takes_everything_and_has_no_entries():
    logger = Logger("/dev/null", max_bytes=10)
    logger.info("app", "gone")
    with pytest.raises(LogUnreadable, match="a terminal or device keeps no lines"):
        asyncio.run(logger.get_logs())
    with pytest.raises(LogUnreadable, match="/dev/null"):
        logger.follow_logs()


def test_a_named_pipe_needs_a_reader_and_is_never_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(LogUnavailable, match="no process reads this pipe; start its"):
        Logger(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        logger = Logger(pipe)
        logger.info("app", "through")
        with pytest.raises(LogUnreadable, match="a pipe keeps no lines"):
            asyncio.run(logger.get_logs())
        assert b"through" in os.read(reader, 1000)
    finally:
        os.close(reader)


def test_lines_wait_for_the_next_reader_of_a_named_pipe(tmp_path, capfd):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    logger = Logger(pipe)
    os.close(reader)
    logger.info("app", "first")
    assert "no process reads this pipe; 1 lines wait" in capfd.readouterr().err
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    logger.info("app", "second")
    data = os.read(reader, 1000)
    os.close(reader)
    assert data.index(b"first") < data.index(b"second")


def test_a_reader_that_never_reads_does_not_keep_a_process_from_its_end():
    reader, writer = os.pipe()
    began = time.monotonic()
    with start(
        "/dev/stdout", "app", 2000, 100, SHORT_WAITS, stdout=writer, stderr=-1
    ) as app:
        os.close(writer)
        error = app.communicate(timeout=30)[1].decode()
    os.close(reader)
    assert app.returncode == 0
    assert time.monotonic() - began < 20
    assert re.search(r"\d+ lines of the log '/dev/stdout' are lost", error), error


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/fd/0", "descriptor 0 is open for reading only"),
        ("/dev/fd/1", "descriptor 1 is closed"),
        ("/dev/stderr", "descriptor 2 is closed"),
    ],
)
def test_a_descriptor_that_cannot_be_written_is_refused_by_name(path, message):
    code = (
        "import os, sys; from realtalk_async import Logger; kept = os.dup(1)\n"
        "os.close(1); os.close(2)\n"
        "try: Logger(sys.argv[1])\n"
        "except OSError as error: os.write(kept, str(error).encode())"
    )
    words = [sys.executable, "-c", code, path]
    done = subprocess.run(words, input="", capture_output=True, text=True, timeout=30)
    assert message in done.stdout


def test_a_socket_in_the_file_system_is_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("log")
        with pytest.raises(LogUnavailable, match="it is a socket; connect to it"):
            Logger("log")
