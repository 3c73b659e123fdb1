"""The main job: ``realtalk-async demo``, as a user runs it."""

import os
import re
import signal
import sys
import wave

import pytest

from realtalk_async import Command, Logger, ProcessManager
from realtalk_async.operating_system import SYSTEM

pytestmark = pytest.mark.timeout(360)


def demo(folder):
    arguments = ("-m", "realtalk_async.cli", "demo", "--out", str(folder))
    return Command(sys.executable, *arguments, env={"COLUMNS": "100"})


def text_of(process):
    return "\n".join(line.text for line in process.get_stdout())


def started(text):
    """The pids that the demo says it has started."""
    return [int(pid) for pid in re.findall(r"(?:started, |restarted: )pid (\d+)", text)]


async def test_the_demo_completes_although_its_recorder_is_killed(manager, tmp_path):
    process = await manager.start("demo", demo(tmp_path))
    status = await process.wait()
    text = text_of(process)
    assert status.exit_status == 0, text
    for answer in ("Seven plus five is twelve", "One, two, three", "eight is twelve"):
        assert text.count(answer) == 2, "live, and in the transcript"
    assert "kill -9" in text
    assert "recorder   died: killed by SIGKILL" in text
    assert re.search(r"recorder   restarted: pid \d+, \d+ ms later", text)
    assert "The conversation completed." in text

    logger = Logger(tmp_path / "demo.log")
    [death] = await logger.get_logs(level="ERROR")
    assert (death.component, death.message) == ("recorder", "Process died unexpectedly")
    assert death.context["exit_status"] == -9
    assert "last_lines" in death.context
    assert "killed by SIGKILL" in (tmp_path / "timeline.svg").read_text()
    with wave.open(str(tmp_path / "speaker.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
        assert file.getnframes() > 3 * 24_000, "three answers, over a second each"
    for pid in started(text):
        assert SYSTEM.processes.read(pid) is None


MOMENTS = [
    "peer       started",
    "peer       ready",
    "recorder   started",
    "you ",
    "kill",
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str.split)
async def test_ctrl_c_ends_all_children_and_prints_what_there_is(
    moment, manager, tmp_path
):
    process = await manager.start("demo", demo(tmp_path))
    await process.wait_for_line(moment, timeout=240)
    os.kill(process.pid, signal.SIGINT)
    status = await process.wait()
    text = text_of(process)
    assert status.exit_status == 130, process.get_combined_output()
    assert "interrupted: everything was stopped" in text
    assert "Processes" in text
    assert str(tmp_path / "demo.log") in text
    for pid in started(text):
        assert SYSTEM.processes.read(pid) is None


async def test_a_missing_audio_file_is_reported_with_exit_code_1(logger, tmp_path):
    async with ProcessManager(logger) as manager:
        command = Command(
            sys.executable,
            *("-m", "realtalk_async.cli", "demo", "--out", str(tmp_path)),
            *("--mic", str(tmp_path / "no-such.wav")),
        )
        process = await manager.start("demo", command)
        status = await process.wait()
    assert status.exit_status == 1
    assert "no such audio file" in text_of(process)
