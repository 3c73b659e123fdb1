"""Run the code blocks of the README and the examples; check the relative links."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from realtalk_async import Command, ProcessManager
from realtalk_async.offline import Peer, render_async

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = pytest.mark.timeout(360)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(*command, cwd, **options):
    """Run a program outside the source tree, as users do."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_readme_blocks_run(code, tmp_path):
    (tmp_path / "block.py").write_text(code)
    assert run("-W", "error", "block.py", cwd=tmp_path)


def test_the_first_two_commands_are_single_lines():
    first, second = blocks("sh")[:2]
    assert (first.count("\n"), second.count("\n")) == (1, 1)
    assert first.endswith("realtalk-async demo\n")
    assert second.endswith("nox -s tests\n")


@pytest.mark.parametrize("page", ["README.md", "tests/benchmarks/README.md"])
def test_relative_links_lead_to_files(page):
    path = ROOT / page
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_a_docstring_and_at_most_40_lines(path):
    source = path.read_text()
    assert source.startswith('"""')
    assert len(source.splitlines()) <= 40


TERMINATING = ["any_command", "inside_an_app", "reading_the_log", "rough_ride"]


@pytest.mark.parametrize("name", TERMINATING)
def test_examples_run(name, tmp_path):
    assert run("-W", "error", str(ROOT / "examples" / f"{name}.py"), cwd=tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_with_the_lifespan_ends_when_its_child_is_lost(tmp_path, workers):
    """Of two server processes each ends; uvicorn itself begins them again."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    words = ["-m", "uvicorn", "fastapi_lifespan:app", "--port", "0"]
    words += ["--app-dir", str(ROOT / "examples"), "--workers", str(workers)]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=tmp_path,
        env=os.environ | {"WORKER": "echo broken >&2; exit 3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        if workers == 1:
            output = server.communicate(timeout=120)[0]
            assert server.returncode == -signal.SIGTERM
        else:
            output = ""
            while "died" not in output:
                output += server.stdout.readline()
            server.terminate()
            output += server.communicate(timeout=120)[0]
    assert re.search(r"broken; gave up on 'worker-\d+'", output)
    assert "Shutting down: worker-" in (tmp_path / "app.log").read_text()


def test_an_app_that_sigterm_stops_tells_its_history_after_the_block(tmp_path):
    example = str(ROOT / "examples" / "until_sigterm.py")
    with subprocess.Popen(
        [sys.executable, "-W", "error", example],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as app:
        assert app.stderr is not None
        while "died" not in app.stderr.readline():
            pass
        app.send_signal(signal.SIGTERM)
        output, errors = app.communicate(timeout=120)
    assert app.returncode == 0, errors
    assert "flaky, incarnation 1: exit status 3" in output
    assert "stderr" in output
    assert output.endswith("working\n")
    assert "Traceback" not in errors


def test_the_pytest_harness_passes(tmp_path):
    """The project has no other files and uses pytest-asyncio in strict mode."""
    shutil.copy(ROOT / "examples" / "test_harness.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
    )
    assert "2 passed" in run("-m", "pytest", "-q", cwd=tmp_path)


async def test_the_script_runs_until_ctrl_c_and_prints_transcript_and_summary(
    tmp_path, logger
):
    microphone, speaker = tmp_path / "mic.wav", tmp_path / "speaker.wav"
    await render_async([("What is seven plus five?", 1.0)], microphone)
    async with Peer() as peer, ProcessManager(logger) as manager:
        environment = {
            "REALTALK_URL": peer.url,
            "MICROPHONE": str(microphone),
            "SPEAKER": str(speaker),
        }
        script = str(ROOT / "examples" / "script.py")
        command = Command(sys.executable, script, env=environment)
        process = await manager.start("script", command)
        async with asyncio.timeout(120):
            while not speaker.exists() or speaker.stat().st_size < 48_000:
                await asyncio.sleep(0.05)  # a second of the answer was played
        os.kill(process.pid, signal.SIGINT)
        status = await process.wait()
    output = "\n".join(line.text for line in process.get_stdout())
    assert status.exit_status == 0, process.get_combined_output()
    assert "Seven plus five is twelve." in output
    assert "ended by SIGINT" in output
