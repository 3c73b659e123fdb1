"""`reload` over the control socket of an app of one's own."""

import anyio.to_thread
import pytest

from realtalk_async import ChildSpec, Command, InvalidConfiguration
from realtalk_async.control import ControlClient, ControlUnavailable, serve_control


async def test_an_app_that_passes_on_reload_applies_its_own_list(manager, tmp_path):
    async def on_reload():
        return (await manager.apply([ChildSpec("a", Command("sleep", "1000"))])).lines()

    async with serve_control(manager, tmp_path / "s", on_reload=on_reload) as path:
        told = await anyio.to_thread.run_sync(ControlClient(path).reload)
    assert told == {"a": "started"}
    assert manager.processes["a"].status == "running"


async def test_a_mistake_reaches_the_client_as_invalid_configuration(manager, tmp_path):
    async def on_reload():
        raise InvalidConfiguration("app.toml:3: wrong")

    async with serve_control(manager, tmp_path / "s", on_reload=on_reload) as path:
        with pytest.raises(InvalidConfiguration, match="wrong"):
            await anyio.to_thread.run_sync(ControlClient(path).reload)


async def test_an_app_without_on_reload_refuses(socket_path):
    with pytest.raises(ControlUnavailable, match="no file that it could read again"):
        await anyio.to_thread.run_sync(ControlClient(socket_path).reload)
