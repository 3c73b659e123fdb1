"""Built-in probes of a port, a page and a program."""

import asyncio
import socket

import pytest

from realtalk_async.exceptions import GaveUp, InvalidConfiguration
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    exec_probe,
    http_probe,
    tcp_probe,
)
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.policy.probes import Health
from realtalk_async.testing import programs


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def check_once(probe):
    """Return the answer of one check: None, or the reason of its failure."""
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


async def test_a_process_is_ready_as_soon_as_its_port_accepts(manager):
    port = free_port()
    probe = tcp_probe(port)
    assert await check_once(probe) == "ConnectionRefusedError"
    one = await manager.start("server", programs.binds(port), probes=[probe])
    assert one.state == "running"
    assert await check_once(probe) is None


async def test_a_port_that_never_accepts_is_a_failure_with_the_name_of_the_probe(
    manager,
):
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
async def test_the_statuses_200_to_399_of_a_page_are_a_success(answer, reason):
    server, port = await serve(answer)
    async with server:
        found = await check_once(http_probe(f"http://127.0.0.1:{port}/health?full=1"))
    assert found is None if reason is None else found.startswith(reason)


@pytest.mark.parametrize(
    "make",
    [
        lambda **rest: http_probe("http://x/", **rest),
        lambda **rest: tcp_probe(80, **rest),
    ],
    ids=["http", "tcp"],
)
def test_a_server_is_asked_often_until_it_is_ready_and_then_each_10_s(make):
    """A line a second for ever in its log would hide the others."""
    starting = Health(make())
    assert starting.pause == 0.2
    ready = starting.record(None)
    assert ready.pause == 10
    lost = ready.record("no answer")
    assert lost.pause == 0.2
    assert not lost.failed
    assert lost.record("no answer").failed  # one failure a period counts: after 10 s
    assert Health(make(purpose="liveness")).pause == 10
    assert Health(make(period=2)).record(None).pause == 2
    assert make(period=2).failure_threshold == 6
    assert make(period=0.1).failure_threshold == 101


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "localhost:80"])
def test_an_invalid_url_is_refused_by_the_constructor(url):
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
async def test_the_reason_of_a_failed_program_has_its_status_and_last_line(
    command, reason
):
    assert await check_once(exec_probe(command)) == reason


async def test_a_missing_program_is_a_failure_and_leaves_no_descriptor():
    before = len(SYSTEM.descriptors())
    assert await check_once(exec_probe(Command("/no/such"))) == "FileNotFoundError"
    assert len(SYSTEM.descriptors()) == before


async def test_a_cancelled_check_kills_the_group_of_its_program(tmp_path):
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


async def test_a_process_is_restarted_when_the_program_of_its_probe_fails(
    manager, tmp_path
):
    """Scenario 23."""
    well = tmp_path / "well"
    well.touch()
    probe = exec_probe(Command("test", "-e", well), period=0.02, failure_threshold=2)
    one = await manager.start("one", programs.runs(), probes=[probe])
    well.unlink()
    await one._lifecycle.until(lambda: one.get_history().incarnations[0].exit_status)
    assert "exec test -e" in one.get_history().incarnations[0].summary
