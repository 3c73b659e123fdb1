"""Where a cgroup is made, what its controllers do, and the errors that say what to do."""

import errno
import os

import pytest

from realtalk_async.exceptions import ContainmentUnavailable
from realtalk_async.supervision.kernel.cgroups import manager_cgroup
from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
from realtalk_async.supervision.kernel.spawning.limits import Limits

MIB = 1 << 20
MOUNT = "36 35 98:0 {root} {point} rw,relatime shared:1 - cgroup2 cgroup2 rw\n"
OTHER = "30 20 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """Return a function that sets the mounts and the cgroup of this process."""
    folder = tmp_path / "proc" / "self"
    folder.mkdir(parents=True)
    monkeypatch.setattr(manager_cgroup, "PROC", tmp_path / "proc")

    def write(mounts, own):
        (folder / "mountinfo").write_text(mounts)
        (folder / "cgroup").write_text(own)

    return write


@pytest.mark.parametrize(
    ("root", "own", "below"),
    [
        ("/", "/", ""),
        ("/", "/user.slice/app.service", "user.slice/app.service"),
        ("/docker/1", "/docker/1/app", "app"),  # without a cgroup namespace
    ],
)
def test_the_own_cgroup_is_found_in_the_mount(proc, root, own, below):
    mount = MOUNT.format(root=root, point="/sys/fs/a\\040b")
    proc(OTHER + mount, f"4:memory:/x\n0::{own}\n")
    expected = os.path.normpath(f"/sys/fs/a b/{below}")
    assert manager_cgroup.find_own_cgroup() == expected


@pytest.mark.parametrize(
    ("mounts", "own"),
    [
        (OTHER, "4:memory:/x\n"),
        (MOUNT.format(root="/docker/1", point="/c"), "0::/docker/2\n"),
        (MOUNT.format(root="/", point="/c"), "0::/../outside\n"),
    ],
)
def test_without_a_mount_the_error_names_path_errno_and_what_to_do(proc, mounts, own):
    proc(mounts, own)
    with pytest.raises(ContainmentUnavailable, match="Delegate=yes") as failed:
        manager_cgroup.find_own_cgroup()
    assert failed.value.errno == errno.ENOENT
    assert failed.value.path == "/sys/fs/cgroup"
    assert isinstance(failed.value, OSError)


def test_a_folder_that_may_not_be_written_is_told_and_nothing_is_made(proc, tmp_path):
    point = tmp_path / "not-there"
    proc(MOUNT.format(root="/", point=point), "0::/\n")
    announced = []
    with pytest.raises(ContainmentUnavailable) as failed:
        manager_cgroup.ManagerCgroup(announced.append)
    assert failed.value.path == str(point)
    assert f"(errno {errno.ENOENT})" in str(failed.value)
    assert len(announced) == 1
    assert not os.path.exists(announced[0])


def test_a_delegated_parent_without_processes_is_preferred(tmp_path, monkeypatch):
    """As with systemd's DelegateSubgroup=: there the controllers can be passed on."""
    own = tmp_path / "app.service" / "main"
    own.mkdir(parents=True)
    parent = str(own.parent)
    assert manager_cgroup.find_parent(str(own)) == str(own)
    marks = {parent: b"1"}
    monkeypatch.setattr(os, "getxattr", lambda path, _: marks.get(path, b""))
    assert manager_cgroup.find_parent(str(own)) == parent
    (own.parent / "cgroup.procs").write_text("1\n")
    assert manager_cgroup.find_parent(str(own)) == str(own)


def test_controllers_that_exist_enforce_the_limits(proc, tmp_path, monkeypatch):
    """Plain files stand for those of the kernel, which this machine may not have."""
    files = {
        "cgroup.controllers": "cpu memory pids\n",
        "cgroup.subtree_control": "",
        "cgroup.procs": "",
        "memory.max": "max\n",
        "memory.oom.group": "0\n",
        "memory.events": "low 0\noom_kill 0\n",
        "pids.max": "max\n",
    }
    make = os.mkdir

    def make_cgroup(path):
        make(path)
        for name, text in files.items():
            with open(os.path.join(path, name), "w") as file:
                file.write(text)

    monkeypatch.setattr(os, "mkdir", make_cgroup)
    point = tmp_path / "cgroup"
    make_cgroup(point)
    proc(MOUNT.format(root="/", point=point), "0::/\n")
    made = manager_cgroup.ManagerCgroup(lambda _: None)
    assert made.controllers == ("memory", "pids")
    assert made.missing == ""
    one = made.make("mic / 1", Limits(memory=64 * MIB, processes=7, cpu=3))
    assert one.path == f"{made.path}/mic___1-1"
    assert one.enforced == {"memory", "processes"}

    def read(name):
        with open(os.path.join(one.path, name)) as file:
            return file.read().strip()

    assert read("memory.max").startswith(str(64 * MIB))
    assert read("memory.oom.group") == "1"
    assert read("pids.max")[:1] == "7"
    assert one.oom_kills() == 0
    with open(os.path.join(one.path, "memory.events"), "w") as file:
        file.write("low 0\noom 2\noom_kill 3\n")
    assert one.oom_kills() == 3


def test_missing_controllers_are_told_with_the_reason(proc, tmp_path, monkeypatch):
    point = tmp_path / "cgroup"
    point.mkdir()
    (point / "cgroup.procs").write_text("")
    (point / "cgroup.controllers").write_text("memory\n")
    (point / "cgroup.subtree_control").write_text("")
    proc(MOUNT.format(root="/", point=point), "0::/\n")

    def refuse(path, text):
        raise OSError(errno.EBUSY, "Device or resource busy", path)

    monkeypatch.setattr(manager_cgroup, "write_text", refuse)
    made = manager_cgroup.ManagerCgroup(lambda _: None)
    assert made.controllers == ()
    assert "holds processes itself" in made.missing
    one = made.make("x", Limits(memory=64 * MIB))
    assert one.enforced == frozenset()


def test_a_cgroup_that_is_gone_is_empty_and_takes_signals(tmp_path):
    gone = Cgroup(str(tmp_path / "gone"))
    gone.send_signal(9)
    gone.send_signal(15)
    assert gone.is_empty()
    assert gone.pids() == []
    assert gone.remove()
