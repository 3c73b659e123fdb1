import asyncio
import json
import os
import socket
import stat

import anyio
import anyio.to_thread
import pytest

from realtalk_async.control import (
    ControlClient,
    ControlUnavailable,
    Request,
    protocol,
    serve_control,
    server,
)
from realtalk_async.control.server import Connections, may_connect
from realtalk_async.control.sockets import find_sockets
from realtalk_async.testing import programs

TIMEOUT = 120


async def send(path, method, **fields):
    """Send a request from a thread, as another process would."""
    request = Request(method, **fields)
    with anyio.fail_after(TIMEOUT):
        return await anyio.to_thread.run_sync(
            lambda: list(ControlClient(path).send(request))
        )


async def send_bytes(path, data):
    with anyio.fail_after(TIMEOUT):
        async with await anyio.connect_unix(path) as stream:
            await stream.send(data)
            return b"".join([part async for part in stream])


async def test_only_the_user_can_reach_the_socket(socket_path, runtime_folder):
    assert socket_path.parent == runtime_folder
    assert stat.S_IMODE(runtime_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600


async def test_the_socket_is_removed_at_the_end_of_the_block(manager):
    for _ in range(2):
        async with serve_control(manager) as path:
            assert find_sockets() == [path]
        assert not path.exists()


async def test_one_app_may_have_several_socket_paths(manager):
    async with serve_control(manager) as one, serve_control(manager) as two:
        assert one != two
        assert sorted(find_sockets()) == sorted([one, two])


async def test_an_existing_file_is_not_replaced_by_the_socket(manager, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ControlUnavailable, match="taken"):
        async with serve_control(manager, tmp_path / "taken"):
            pass
    assert (tmp_path / "taken").read_text() == "mine"


def test_who_may_connect():
    assert may_connect(1000, 1000)
    assert may_connect(0, 1000)
    assert not may_connect(1001, 1000)
    assert not may_connect(1000, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_another_user_gets_an_error(manager):
    where = f"\0realtalk-test-{os.getpid()}"  # a name without any file or mode
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(where)
        listening.listen()
        listening.setblocking(False)
        connections = Connections(manager)
        serving = await asyncio.start_unix_server(connections.accept, sock=listening)
        code = (
            "import os, socket; os.setuid(65534); "
            "one = socket.socket(socket.AF_UNIX); "
            f'one.connect({where!r}); one.sendall(b\'{{"method": "ps"}}\\n\'); '
            "print(one.recv(10000).decode())"
        )
        other = await manager.start("other", programs.python(code))
        line = await other.wait_for_line("error|item", timeout=TIMEOUT)
        assert "only the user" in line.text
        serving.close()
        await connections.aclose()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\n", "a request is a line of JSON"),
        (b"[]\n", "a JSON object"),
        (b"{}\n", "method must be 'ps', 'watch', 'tail'"),
        (b'{"method": "sing"}\n', "not 'sing'"),
        (b'{"method": "tail"}\n', "name must be given for 'tail'"),
        (b'{"method": "tail", "name": 3}\n', "name must be text"),
        (
            b'{"method": "tail", "name": "a", "n": true}\n',
            "n must be a whole number from 0 to",
        ),
        (b'{"method": "tail", "name": "a", "n": -1}\n', "from 0 to"),
        (b'{"method": "ps", "x": 1}\n', "a key must be"),
        (b'{"method": "tail", "name": "nobody"}\n', "no process named 'nobody'"),
        (b'{"method": "logs", "pattern": "("}\n', "regular"),
        (b"x" * (protocol.MAX_REQUEST + 10), "limit"),
    ],
)
async def test_an_invalid_request_gets_an_error_and_the_next_one_a_response(
    socket_path, data, expected
):
    answer = json.loads((await send_bytes(socket_path, data)).splitlines()[-1])
    assert expected in answer["error"]
    assert await send(socket_path, "ps")


async def test_a_client_that_sends_nothing_is_disconnected(socket_path, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.05)
    with anyio.fail_after(TIMEOUT):
        async with await anyio.connect_unix(socket_path) as stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_too_many_clients_get_an_error(socket_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_CLIENTS", 2)
    with anyio.fail_after(TIMEOUT):
        async with (
            await anyio.connect_unix(socket_path) as one,
            await anyio.connect_unix(socket_path),
        ):
            with pytest.raises(ControlUnavailable, match="2 clients"):
                await send(socket_path, "ps")
            await one.send(b'{"method": "ps"}\n')
            assert b"item" in await one.receive()


async def test_clients_are_disconnected_at_the_end_of_the_block(manager):
    await manager.start("app", programs.runs())
    with anyio.fail_after(TIMEOUT):
        async with serve_control(manager) as path:
            stream = await anyio.connect_unix(path)
            await stream.send(b'{"method": "tail", "name": "app", "follow": true}\n')
            assert b"ready" in await stream.receive()
        async with stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
