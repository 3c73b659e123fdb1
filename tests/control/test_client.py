import os

import anyio
import anyio.to_thread
import pytest

from realtalk_async.control import (
    ControlClient,
    ControlUnavailable,
    Request,
    find_app,
    find_apps,
)
from realtalk_async.testing import programs

TIMEOUT = 120


async def test_apps_are_found_and_asked_by_methods(manager, socket_path):
    await manager.start("one", programs.prints("hello"))
    manager.logger.warning("one", "look at this")

    def use():
        (app,) = find_apps()
        assert app.path == find_app("one").path == socket_path
        assert app.path == find_app(app=str(os.getpid())).path
        assert app.get_status()["processes"][0]["name"] == "one"
        assert "look at this" in [one["message"] for one in app.get_logs()]
        assert [one["text"] for one in app.tail("one", follow=True)] == ["hello"]
        (history,) = app.get_history("one")
        assert history["status"]["name"] == "one"
        assert "one" in app.explain("one")["text"]
        assert app.restart("one")["incarnation"] == 2
        assert app.stop("one")["status"] == "dead"

    with anyio.fail_after(TIMEOUT):
        await anyio.to_thread.run_sync(use)


async def test_a_request_can_be_sent_from_an_event_loop(manager, socket_path):
    await manager.start("one", programs.prints("hello"))
    client = ControlClient(socket_path)
    with anyio.fail_after(TIMEOUT):
        tail = client.send_async(Request("tail", name="one", follow=True))
        assert [one["text"] async for one in tail] == ["hello"]
        with pytest.raises(ControlUnavailable, match="no process named 'two'"):
            await anext(client.send_async(Request("tail", name="two")))


async def test_an_app_that_does_not_run_is_unavailable(tmp_path):
    client = ControlClient(tmp_path / "nothing.sock")
    with pytest.raises(ControlUnavailable, match=r"nothing\.sock"):
        client.get_status()
    with pytest.raises(ControlUnavailable, match=r"nothing\.sock"):
        await anext(client.send_async(Request("ps")))
    assert find_apps() == []
    with pytest.raises(ControlUnavailable, match="no running app was found"):
        find_app()
    with pytest.raises(ControlUnavailable, match="has the pid 1"):
        find_apps("1")
