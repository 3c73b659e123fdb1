"""`realtalk-async run` with the files that people bring."""

import os
import subprocess
import sys

import pytest

TIMEOUT = 120


@pytest.fixture
def folder(tmp_path):
    """Return the working folder of the command line."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def realtalk(folder):
    """Return a function that runs the command line and returns what it did."""

    def go(*arguments, **files):
        for name, text in files.items():
            (folder / name).write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "realtalk_async.cli", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "NO_COLOR": "1",
                "FORCE_COLOR": "",
                "TMPDIR": str(folder.parent),
                "XDG_RUNTIME_DIR": str(folder.parent),
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    return go


def test_a_failed_release_starts_nothing_else_and_gives_its_exit_code(realtalk, folder):
    procfile = "web: touch web\nrelease: echo >> runs; echo no table >&2; exit 3\n"
    done = realtalk("run", Procfile=procfile)
    assert done.returncode == 3, done.stdout
    assert (folder / "runs").read_text() == "\n"
    assert not (folder / "web").exists()
    assert "no table" in done.stdout


def test_the_others_start_after_a_release_that_succeeds(realtalk, folder):
    procfile = "web: cat done\nrelease: echo >> runs; echo yes > done\n"
    done = realtalk("run", Procfile=procfile)
    assert (done.returncode, "| yes" in done.stdout) == (0, True)
    assert (folder / "runs").read_text() == "\n"


def test_the_variables_of_dotenv_reach_the_command(realtalk):
    names = (
        'KEY="-----BEGIN\nMII\n-----END"\nspring.profile=dev\nHOST=a\nURL=${HOST}:1\n'
    )
    done = realtalk(
        "run",
        "--env-file",
        "own",
        own=f"{names}this is s3cret\n",
        Procfile="web: printenv KEY spring.profile URL PORT\n",
    )
    assert done.returncode == 0, done.stderr
    said = [line.partition("| ")[2] for line in done.stdout.splitlines()]
    for text in ("-----BEGIN", "MII", "-----END", "dev", "a:1", "5000"):
        assert text in said
    assert done.stderr.startswith("own:7: not understood")
    assert "s3cret" not in done.stdout + done.stderr
