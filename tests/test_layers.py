"""Packages import downwards only, and no module takes part in an import cycle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import realtalk_async

PACKAGE = Path(realtalk_async.__file__).parent

# A module may import from its own row's package and from every row above that row.
LAYERS = """
exceptions  lazy_imports  concurrency  times  g711  operating_system
arguments
events
logs
event_bus
supervision
voice
offline  control  ops
testing
cli
__main__
"""

# Within a package: sub-packages and files, in the same order from the bottom to the top.
INNER_LAYERS: dict[str, str] = {
    "supervision": """
        kernel
        output
        command
        policy
        probing
        reports
        coordination
        lifecycle
        supervised
        process_streams
        task  process
        registry
        inputs
        supervisor
        specs
        inspection
        manager_block
        subprocess_compat
        manager
    """,
    "voice": """
        events  credentials
        endpoint
        protocol  event_bus
        eventlog  tools  timeline  metrics  websocket  dialing
        connection
        interruptions
        audio
        supervisor
        inspection  requests
        manager_block
        interaction
        stream
    """,
}

# The other side of the wire knows nothing of the client; supervision knows no sound.
NEVER = [("offline", "voice"), ("offline", "supervision"), ("logs", "events")]

# Whatever differs between systems is asked there; the audio programs are a table by system.
ASK_FOR_THE_PLATFORM = ["operating_system/", "voice/audio/devices.py"]

PLATFORM_NAMES = {"sys.platform", "os.name", "os.uname", "sysconfig.get_platform"}
"""Besides all that the module ``platform`` has."""

# These decide without I/O: no clock, no randomness, no event loop, no file.
WITHOUT_IO = ["supervision/policy", "voice/protocol"]
IO_MODULES = {"anyio", "asyncio", "os", "random", "socket", "subprocess", "time"}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Return the modules of this package that a module imports, for types as well."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "realtalk_async":
                short = name.partition(".")[2]
                # A name inside a module stands for that module.
                found.add(short if short in MODULES else short.rpartition(".")[0])
    return found - {module}


def questions_for_the_platform(source: str) -> set[str]:
    """Return the ways in which a module asks which system it runs on."""
    nodes = list(ast.walk(ast.parse(source)))
    modules: dict[str, str] = {}
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]  # what `import os.path` binds
                modules[alias.asname or top] = alias.name if alias.asname else top
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{modules.get(node.value.id)}.{node.attr}")
    return {name for name in found if is_question_for_the_platform(name)}


def is_question_for_the_platform(name: str) -> bool:
    return name in PLATFORM_NAMES or name.startswith("platform.")


@pytest.mark.parametrize(
    "source",
    [
        "import sys; sys.platform",
        "import sys as system; system.platform",
        "from sys import platform",
        "from sys import platform as where",
        "import platform; platform.system()",
        "import platform as p; p.machine()",
        "from platform import system",
        "import os; os.name",
        "import os; os.uname()",
        "from os import uname",
        "import os.path; os.name",
        "import sysconfig; sysconfig.get_platform()",
    ],
)
def test_each_way_to_ask_for_the_platform_is_found(source):
    assert questions_for_the_platform(source)


def test_other_names_ask_for_no_platform():
    source = "import os, sys; os.path; sys.argv; entry.name; machine.platform"
    assert not questions_for_the_platform(source)


def test_no_other_module_asks_for_the_platform():
    asked = {
        name: questions_for_the_platform(path.read_text())
        for path in MODULES.values()
        if not (name := str(path.relative_to(PACKAGE))).startswith(
            tuple(ASK_FOR_THE_PLATFORM)
        )
    }
    assert not {name: found for name, found in asked.items() if found}


def rank(layers: str, name: str) -> int | None:
    for number, row in enumerate(layers.strip().splitlines()):
        if name in row.split():
            return number
    return None


def is_below(row: int | None, own: int) -> bool:
    return row is not None and row < own


@pytest.mark.parametrize(
    "package", sorted({name.split(".")[0] for name in MODULES} - {""})
)
def test_packages_import_downwards_only(package):
    for module in MODULES:
        if module.split(".")[0] == package:
            check_imports(module)


def check_imports(module: str) -> None:
    """Check that a module imports only from packages in lower rows of LAYERS."""
    package = module.split(".")[0]
    own = rank(LAYERS, package)
    assert own is not None, f"{package!r} has no row in LAYERS"
    for other in imports(module):
        target = other.split(".")[0]
        if target in ("", package):
            continue
        below = rank(LAYERS, target)
        assert is_below(below, own), f"{module} imports {other}"
        assert (package, target) not in NEVER, f"{module} imports {other}"


@pytest.mark.parametrize("package", INNER_LAYERS)
def test_parts_of_a_package_import_downwards_only(package):
    layers = INNER_LAYERS[package]
    for module in MODULES:
        if not module.startswith(f"{package}."):
            continue
        part = module.removeprefix(f"{package}.").split(".")[0]
        own = rank(layers, part)
        assert own is not None, f"{part!r} has no row in INNER_LAYERS[{package!r}]"
        for other in imports(module):
            target = other.removeprefix(f"{package}.").split(".")[0]
            if other.startswith(f"{package}.") and target != part:
                below = rank(layers, target)
                assert is_below(below, own), f"{module} imports {other}"


def test_no_module_takes_part_in_an_import_cycle():
    # The `__init__` of a package re-exports names from its modules; modules import each
    # other directly.
    graph = {
        module: {other for other in imports(module) if other in MODULES}
        for module in MODULES
        if MODULES[module].name != "__init__.py"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


@pytest.mark.parametrize("folder", WITHOUT_IO)
def test_decisions_do_no_input_and_output(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            assert not names & IO_MODULES, f"{path.name} imports {names & IO_MODULES}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}))
def test_at_most_twelve_files_stand_beside_each_other(folder):
    files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 12, files


def test_no_file_is_longer_than_500_lines():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > 500}
