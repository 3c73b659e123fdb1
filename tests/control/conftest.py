import pytest

from realtalk_async.control import serve_control


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path, monkeypatch):
    """The folder of the control sockets of this test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "realtalk-async"


@pytest.fixture
async def socket_path(manager):
    """The control socket of the manager."""
    async with serve_control(manager) as path:
        yield path
