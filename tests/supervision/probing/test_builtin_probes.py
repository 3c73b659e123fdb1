"""Probes that ask the world: a port, a page, a program."""

import asyncio
import os
import socket

import pytest

from realtalk_async.exceptions import GaveUp, InvalidConfiguration
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    exec_probe,
    http_probe,
    tcp_probe,
)
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def asked(probe):
    """Return the answer to one question: None, or the reason."""
    try:
        async with asyncio.timeout(probe.timeout):
            return await probe.check(None)
    except Exception as exc:
        return type(exc).__name__


async def serve(answer):
    """Answer every connection with these bytes."""

    async def handle(reader, writer):
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_a_process_is_ready_when_its_port_answers(manager):
    """And not before; a port that is free refuses."""
    port = free_port()
    probe = tcp_probe(port)
    assert await asked(probe) == "ConnectionRefusedError"
    one = await manager.start("server", programs.binds(port), probes=[probe])
    assert one.state == "running"
    assert await asked(probe) is None


async def test_a_port_that_never_answers_is_a_verdict(manager):
    """With the name of the probe."""
    probe = tcp_probe(free_port(), period=0.01, failure_threshold=3)
    with pytest.raises(GaveUp, match=r"tcp 127\.0\.0\.1"):
        await manager.start(
            "server", programs.runs(), restart=TEMPORARY, probes=[probe]
        )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nhello", None),
        (b"HTTP/1.0 302 Found\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503 Service Unavailable"),
        (b"HTTP/1.1 404\r\n\r\n", "404"),
        (b"220 mail.example ESMTP\r\n", "the answer is not HTTP: b'220 mail"),
        (b"", "the answer is not HTTP: b''"),
    ],
)
async def test_a_page_answers_with_its_status(answer, reason):
    """200 to 399 is content."""
    server, port = await serve(answer)
    async with server:
        found = await asked(http_probe(f"http://127.0.0.1:{port}/health?full=1"))
    assert found is None if reason is None else found.startswith(reason)


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "localhost:80"])
def test_what_is_no_url_is_refused(url):
    """At once, not at the first question."""
    with pytest.raises(InvalidConfiguration, match="URL"):
        http_probe(url)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Command("true"), None),
        (programs.exits(3), "exit status 3"),
        (programs.shell("echo not yet; exit 1"), "exit status 1: not yet"),
        (programs.shell("kill -9 $$"), "killed by SIGKILL"),
    ],
)
async def test_a_program_answers_with_its_status(command, reason):
    """And with what it said last."""
    assert await asked(exec_probe(command)) == reason


async def test_a_program_that_is_missing_is_a_failure_like_any_other():
    """Nothing is left open."""
    before = len(os.listdir("/proc/self/fd"))
    assert await asked(exec_probe(Command("/no/such"))) == "FileNotFoundError"
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_program_that_hangs_is_killed_with_all_its_group(tmp_path):
    """When its question is cancelled."""
    pid_file = tmp_path / "pid"
    command = programs.shell(f"echo $$ > {pid_file}; sleep 1000 & sleep 1000")
    question = asyncio.ensure_future(exec_probe(command).check(None))
    while not pid_file.exists() or not pid_file.read_text():
        await asyncio.sleep(0.01)
    question.cancel()
    await asyncio.wait([question])
    async with asyncio.timeout(120):
        while process_groups.living_members(int(pid_file.read_text())):
            await asyncio.sleep(0.01)


async def test_a_process_whose_program_says_no_is_restarted(manager, tmp_path):
    """Scenario 23, by a program of its own."""
    well = tmp_path / "well"
    well.touch()
    probe = exec_probe(Command("test", "-e", well), period=0.02, failure_threshold=2)
    one = await manager.start("one", programs.runs(), probes=[probe])
    well.unlink()
    await one._lifecycle.until(lambda: one.get_history().incarnations[0].exit_status)
    assert "exec test -e" in one.get_history().incarnations[0].summary
