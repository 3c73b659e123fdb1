"""The house stands: every module imports only what lies below it."""

import ast
from pathlib import Path

import pytest

import realtalk_async

HOUSE = Path(realtalk_async.__file__).parent

# From the ground up; what stands in one line must not know of each other.
FLOORS = [
    {"lazy", "exceptions", "events"},
    {"logs"},
    {"supervision"},
    {"voice"},
    {"offline", "ops"},
    {"testing"},
    {"console"},
    {"cli"},
]

# The files of a room from the ground up: words, decisions, edges, things.
ROOMS = {
    "voice": (
        "protocol words gate pacing decisions echoes conversation lifetime presence replies "
        "items outgoing saying session narration chronicle summary timeline scribe metrics mix trouble target "
        "connection wavfile audio signals blocking "
        "eventlog feed broadcast waiting tools taping engine link recorder player functions run stream"
    ),
    "logs": "context line needle appender spool file blocks query writer sink bound forward logger",
    "supervision": (
        "states ladder restart intensity devices order output probe changes pace watch "
        "spill pipes launch child groups remains command checks incarnation guardian guard callbacks "
        "crew report explanation narrate warned capture life telling ending asking host course face owner lending process facade task registry household manager"
    ),
    "ops": (
        "catalogue tally health sound pulse notify watch prometheus endpoint "
        "serve otel systemd"
    ),
    "offline": (
        "words arithmetic gate worker answers questions settings items responses turns "
        "faults whisper speech script link peer thread __main__"
    ),
}


def imported(path):
    """Yield the modules of this package that a file imports, as dotted names."""
    package = ["realtalk_async", *path.relative_to(HOUSE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("realtalk_async"))


def room_of(parts):
    return parts[0].removesuffix(".py")


def floor_of(room):
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"{room!r} stands on no floor: add it to FLOORS")


MODULES = sorted(
    path.relative_to(HOUSE)
    for path in HOUSE.rglob("*.py")
    if path.name != "__init__.py" or path.parent != HOUSE
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_rooms_import_downwards_only(module):
    """A room knows those below it, and of itself."""
    room = room_of(module.parts)
    for name in imported(HOUSE / module):
        other = [*name.split("."), ""][1]
        if (
            other
            and other != room
            and (HOUSE / other).exists() | (HOUSE / f"{other}.py").exists()
        ):
            assert floor_of(other) < floor_of(room), f"{module} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_files_of_a_room_import_downwards_only(room):
    """Words, decisions, edges, things, in this order."""
    order = ROOMS[room].split()
    present = {path.stem for path in (HOUSE / room).glob("*.py")} - {"__init__"}
    assert present == set(order), "the order names every file"
    for place, name in enumerate(order):
        for target in imported(HOUSE / room / f"{name}.py"):
            parts = target.split(".")
            if len(parts) > 2 and parts[1] == room and parts[2] in order:
                assert order.index(parts[2]) < place, f"{name} imports {parts[2]}"


def test_the_offline_peer_knows_nothing_of_our_client():
    """It is the other side of the wire."""
    for path in (HOUSE / "offline").glob("*.py"):
        for name in imported(path):
            assert not name.startswith(("realtalk_async.voice", "realtalk_async.supe"))


def test_decisions_are_pure():
    """No clock, no dice, no loop, no file in the rooms' decisions."""
    forbidden = {"asyncio", "random", "os", "socket", "subprocess", "anyio"}
    decisions = [
        "ladder",
        "restart",
        "intensity",
        "devices",
        "order",
        "probe",
        "explanation",
        "narrate",
        "states",
        "report",
    ]
    for name in decisions:
        tree = ast.parse((HOUSE / "supervision" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not forbidden.intersection(names), f"{name} imports {names}"
