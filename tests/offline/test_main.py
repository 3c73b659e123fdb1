from __future__ import annotations

import asyncio
import importlib.util
import re
import signal
import sys
from contextlib import asynccontextmanager

import anyio
import pytest
from websockets.asyncio.client import connect

from realtalk_async.offline.__main__ import main

COMMAND = (sys.executable, "-m", "realtalk_async.offline")


@asynccontextmanager
async def program(*arguments: str):
    """Run the peer as a child process; kill it at the end."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=pipe, stderr=pipe
    )
    try:
        with anyio.fail_after(240):
            yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_program_prints_its_url_and_ends_on_a_signal(number):
    async with program("--port", "0") as child:
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode()
        ready = re.fullmatch(
            r"peer ready on (ws://127\.0\.0\.1:\d+/v1/realtime)\n", line
        )
        assert ready
        async with connect(ready[1]) as socket:
            assert b"session.created" in await socket.recv(decode=False)
            child.send_signal(number)
            out, err = await child.communicate()
        assert (child.returncode, out, err) == (0, b"", b"")


async def test_a_taken_port_is_an_error_of_one_line():
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with program("--port", str(port)) as child:
            out, err = await child.communicate()
            assert (child.returncode, out) == (1, b"")
    assert err.startswith(b"the offline peer cannot start: ")
    assert err.count(b"\n") == 1


@pytest.mark.skipif(
    importlib.util.find_spec("ctranslate2") is not None,
    reason="the extra 'human' is installed",
)
async def test_whisper_without_its_libraries_is_an_error_that_names_the_extra():
    async with program("--port", "0", "--recogniser", "whisper") as child:
        out, err = await child.communicate()
        assert (child.returncode, out) == (1, b"")
    assert b"pip install 'realtalk-async[offline,human]'" in err
    assert err.count(b"\n") == 1


async def test_the_import_error_without_websockets_names_the_extra():
    hidden = (
        "import sys; sys.modules['websockets'] = None; import realtalk_async.offline"
    )
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", hidden, stderr=pipe
    )
    with anyio.fail_after(240):
        _, err = await child.communicate()
    assert child.returncode == 1
    assert b"pip install 'realtalk-async[offline]'" in err


async def test_a_fault_is_injected_on_each_connection():
    async with program("--port", "0", "--fault", "close-1011@session.created") as child:
        assert child.stdout is not None
        url = (await child.stdout.readline()).decode().split()[-1]
        for _ in range(2):
            async with connect(url) as socket:
                await socket.wait_closed()
                assert socket.close_code == 1011


async def test_the_error_of_an_unknown_fault_lists_all_kinds():
    async with program("--port", "0", "--fault", "explode") as child:
        out, err = await child.communicate()
    assert (child.returncode, out, err.count(b"\n")) == (1, b"", 1)
    assert b"'explode'" in err
    assert b"badbase64" in err


def test_list_faults_prints_the_table(capsys):
    assert main(["--list-faults"]) == 0
    assert "\nlate[-SECONDS]" in capsys.readouterr().out


def test_help_fits_a_terminal(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "--list-faults" in text
    assert "idle_timeout_ms" in text
    assert max(map(len, text.splitlines())) <= 88
