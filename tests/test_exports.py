"""The public names: all there, none too many, and cheap to import."""

import subprocess
import sys

import pytest

import realtalk_async


def test_every_public_name_is_there():
    """Also those that are loaded when first asked for."""
    for name in realtalk_async.__all__:
        assert getattr(realtalk_async, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = realtalk_async.nonsense


def test_names_are_sorted_and_unique():
    """So that a reader finds them."""
    names = realtalk_async.__all__
    assert len(set(names)) == len(names)


def test_the_core_loads_neither_websocket_nor_command_line():
    """Supervision alone needs the four core dependencies and nothing else."""
    code = (
        "import sys, realtalk_async\n"
        "heavy = {'websockets', 'click', 'rich', 'numpy', 'hibari', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_error_derives_from_one_base():
    """So that an app can catch all of ours."""
    for name in realtalk_async.__all__:
        thing = getattr(realtalk_async, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, realtalk_async.RealtalkError)
