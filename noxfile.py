"""What is checked and how: ``nox -l`` lists the sessions, ``nox -s NAME`` runs one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

# Without bytecode on the disk, each worker and each pytest in a test compiles all modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A test compiles the modules that it imports; pip would compile all of all packages.
os.environ.setdefault("PIP_NO_COMPILE", "1")

PROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ".[voice,tools,offline,ffmpeg,cli,top,metrics,otel]"


def installed_pythons() -> list[str]:
    """Return the supported Python versions that this machine has, oldest first."""
    # The Python that runs nox may have no name on the PATH; pyenv keeps its own off it.
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders = [Path(sys.executable).parent, *sorted(pyenv.glob("3.*/bin"))]
    os.environ["PATH"] = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    supported = nox.project.python_versions(PROJECT)
    return [version for version in supported if _starts(f"python{version}")]


def _starts(program: str) -> bool:
    path = shutil.which(program)
    return path is not None and not subprocess.run([path, "-c", ""]).returncode


def group(name: str) -> list[str]:
    """Return the requirements of one of the project's dependency groups."""
    return list(nox.project.dependency_groups(PROJECT, name))


PYTHONS = installed_pythons()
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in PYTHONS if version != RUNNING]


WORKERS = "--numprocesses=4", "--dist=worksteal"
"""
Most tests wait for children most of the time: four at once keep two cores busy. A worker
that has nothing left takes tests over from one that has slow ones.
"""


NORMAL = "not realtime and not slow and not sweep"
"""The tests that the README's second command runs, as pytest selects them by marker."""


def run_tests(session: nox.Session, marked: str) -> None:
    """Run the tests that need no real time, or those that the arguments name."""
    session.install(EXTRAS, *group("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-m", marked, *WORKERS)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the Python that runs nox: ``-- -k NAME`` for some of them."""
    run_tests(session, NORMAL)


@nox.session(python=OTHERS)
def other_pythons(session: nox.Session) -> None:
    """Run the tests on every other supported Python of this machine, without sweeps."""
    run_tests(session, f"{NORMAL} and not one_python")


@nox.session
def macos(session: nox.Session) -> None:
    """Run the tests on what POSIX gives everywhere, as on a Mac but without kqueue."""
    session.install(EXTRAS, *group("test"))
    folder = Path("tests/operating_system/stand_in").resolve()
    session.run(
        "pytest",
        "-m",
        f"{NORMAL} and not one_python",
        *WORKERS,
        *session.posargs,
        env={"PYTHONPATH": str(folder)},
    )


@nox.session
def realtime(session: nox.Session) -> None:
    """Run the tests that speak, listen or run whole programs, at the speed of speech."""
    session.install(EXTRAS, *group("test"))
    session.run("pytest", "-m", "realtime", *WORKERS, *session.posargs)


@nox.session
def sweeps(session: nox.Session) -> None:
    """Run the tests that repeat one thing for thousands of runs, values or times."""
    run_tests(session, "sweep")


@nox.session
def slow(session: nox.Session) -> None:
    """Test the accuracy of speech recognition, and a long conversation."""
    session.install(EXTRAS, *group("test"))
    session.run("pytest", "-m", "slow", "--numprocesses=2", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """
    Disturb children at random for CHAOS_SECONDS (200) with each strategy.

    Then kill SIGKILLS (200) apps, and look for survivors.
    """
    session.install(EXTRAS, *group("test"))
    seconds = os.environ.get("CHAOS_SECONDS", "200")
    session.run(
        "pytest",
        "-s",
        "tests/supervision/test_chaos.py",
        env={"CHAOS_SECONDS": seconds},
    )
    kills = os.environ.get("SIGKILLS", "200")
    session.run(
        "pytest",
        "tests/supervision/kernel/test_orphans.py",
        env={"SIGKILLS": kills},
    )


@nox.session
def soak(session: nox.Session) -> None:
    """
    Hold SOAK_MINUTES (60) of conversation at 20 times the speed of speech.

    Then SOAK_DAYS (3) of conversation, whose clock leaps between two turns, and 100,000
    turns without a network. Then supervise for a month in some minutes: MONTH_SHARE (1.0)
    of its work.
    """
    session.install(EXTRAS, *group("test"))
    minutes = os.environ.get("SOAK_MINUTES", "60")
    session.run("python", "tests/benchmarks/soak.py", "--minutes", minutes)
    days = os.environ.get("SOAK_DAYS", "3")
    session.run("python", "tests/benchmarks/days.py", "--days", days)
    turns = {"LONG_SESSION_TURNS": "100000"}
    session.run("pytest", "tests/voice/protocol/test_long_sessions.py", env=turns)
    share = os.environ.get("MONTH_SHARE", "1.0")
    session.run("python", "tests/benchmarks/month.py", "--share", share)


@nox.session
def faults(session: nox.Session) -> None:
    """Plant an error at each step of the supervision of one child, one after the other."""
    session.install(EXTRAS, *group("test"))
    program = "tests/supervision/test_planted_faults.py"
    session.run("python", program, *session.posargs)


@nox.session
def peer_faults(session: nox.Session) -> None:
    """Print what a session does after each fault of the offline peer in each phase."""
    session.install(EXTRAS, *group("test"))
    session.run("python", "tests/voice/test_fault_phases.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and spelling: ``-- --fix`` corrects what can be corrected."""
    session.install(*group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))
    session.run("codespell", "realtalk_async", "tests", "examples", "README.md")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, and that the public ones are complete."""
    session.install(EXTRAS, "nox", *group("test"), *group("types"))
    session.run("mypy")
    session.run("mypy", "--platform", "darwin", "realtalk_async")
    session.run("pyright")
    session.run("pyright", "--pythonplatform", "Darwin", "realtalk_async")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "realtalk_async")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and report the lines and branches that they reach."""
    session.install("-e", EXTRAS, *group("test"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo."""
    session.install(EXTRAS)
    session.run("realtalk-async", "demo", *session.posargs)


@nox.session(python=PYTHONS[:1])  # most peers have packages for the oldest
def bench(session: nox.Session) -> None:
    """Measure this package and others: ``-- NAME`` for one script, ``--rounds 1``."""
    session.install(EXTRAS, *group("bench"))
    session.run("python", "tests/benchmarks/run_all.py", *session.posargs)
    session.run("python", "tests/benchmarks/plots.py")


@nox.session
def plots(session: nox.Session) -> None:
    """Draw the plots of the figures that `bench` measured last."""
    session.install(*group("bench"))
    session.run("python", "tests/benchmarks/plots.py")


@nox.session
def pictures(session: nox.Session) -> None:
    """Draw the README's pictures: a timeline and the live view."""
    session.install(EXTRAS)
    session.run("python", "tests/pictures.py")


@nox.session
def peer_clients(session: nox.Session) -> None:
    """Run the official clients against the offline peer, in an environment of theirs."""
    session.install(".[offline]", *group("test"), "openai-agents>=0.24")
    session.run("pytest", "tests/offline/test_official_clients.py", *session.posargs)


@nox.session
def human(session: nox.Session) -> None:
    """Test the offline peer's recogniser for human voices."""
    session.install(".[offline,human]", *group("test"))
    session.run("pytest", "tests/offline/speech/test_whisper.py", *session.posargs)
