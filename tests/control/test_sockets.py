import os
import socket

import anyio
import anyio.to_thread
import pytest

from realtalk_async.control import (
    ControlClient,
    ControlUnavailable,
    Request,
    serve_control,
)
from realtalk_async.control.sockets import find_sockets, socket_folder

TIMEOUT = 120


async def send(path, method, **fields):
    """Send a request from a thread, as another process would."""
    request = Request(method, **fields)
    with anyio.fail_after(TIMEOUT):
        return await anyio.to_thread.run_sync(
            lambda: list(ControlClient(path).send(request))
        )


async def test_a_path_may_be_longer_than_the_kernel_accepts(manager, tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    async with serve_control(manager, deep / "my.sock") as path:
        assert path == deep / "my.sock"
        assert len(os.fsencode(path)) > 107
        (found,) = await send(path, "ps")
        assert found["pid"] == os.getpid()


async def test_a_folder_that_others_may_connect_is_refused(manager, runtime_folder):
    runtime_folder.mkdir(mode=0o755)
    runtime_folder.chmod(0o755)
    with pytest.raises(ControlUnavailable, match="chmod 700"):
        async with serve_control(manager):
            pass


async def test_without_a_runtime_folder_a_temporary_folder_is_used(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert socket_folder() == tmp_path / f"realtalk-async-{os.getuid()}"


async def test_the_sockets_of_dead_apps_are_removed(runtime_folder, manager):
    place = socket_folder()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / "999999999.sock"))
    (place / "notes").touch()
    async with serve_control(manager) as path:
        assert find_sockets() == [path]
    assert [one.name for one in place.iterdir()] == ["notes"]
