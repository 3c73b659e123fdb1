"""The public names: complete, sorted, and cheap to import."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import realtalk_async

LAZY = [
    "realtalk_async",
    "realtalk_async.logs",
    "realtalk_async.ops",
    "realtalk_async.supervision",
]


def test_every_public_name_can_be_imported():
    for name in realtalk_async.__all__:
        assert getattr(realtalk_async, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = import_module("realtalk_async").nonsense


@pytest.mark.parametrize("package", LAZY)
def test_lazy_names_type_checking_imports_and_all_agree(package):
    module = import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    read = {
        (alias.name, (node.module or "").removeprefix(f"{package}."))
        for node in imports
        for alias in node.names
    }
    (call,) = (
        node for node in ast.walk(branch.orelse[0]) if isinstance(node, ast.Call)
    )
    homes = ast.literal_eval(call.args[1])
    given = {(name, home) for home, names in homes.items() for name in names.split()}
    assert given == read
    assert {name for name, _ in given} == set(module.__all__) - {"__version__"}
    assert set(module.__all__) <= set(dir(module))


def test_public_names_are_sorted_and_unique():
    names = realtalk_async.__all__
    assert len(set(names)) == len(names)


def test_importing_the_package_loads_none_of_its_modules():
    code = "import sys, realtalk_async; print('asyncio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_supervision_loads_neither_websocket_nor_command_line():
    """Supervision needs only the four core dependencies."""
    code = (
        "import sys\nfrom realtalk_async import Logger, ProcessManager, exceptions\n"
        "heavy = {'websockets', 'click', 'rich', 'numpy', 'hibari', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


PROGRAM = """
import asyncio, sys
from realtalk_async import PERMANENT, Command, Logger, ProcessManager

async def main():
    async with Logger(sys.argv[1]) as logger, ProcessManager(logger) as manager:
        loaded = set(sys.modules)
        process = await manager.start("one", Command("sleep", "60"), restart=PERMANENT)
        process.send_signal(9)
        await process.wait()
        await manager.stop("one")
        print(sorted(set(sys.modules) - loaded))

asyncio.run(main())
"""


def test_no_module_is_loaded_while_children_start_and_exit(tmp_path):
    """Loading a module blocks the loop for longer than an audio frame."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"[]", "['resource']"}  # `os.wait4` asks for that one


def test_every_error_derives_from_realtalk_error():
    for name in realtalk_async.__all__:
        thing = getattr(realtalk_async, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, realtalk_async.RealtalkError)
