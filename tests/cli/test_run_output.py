import os

from realtalk_async import events
from realtalk_async.cli import exit_codes
from realtalk_async.cli.config.spec import AppSpec
from realtalk_async.cli.run_output import RunOutput
from realtalk_async.cli.stdout import OutputWriter
from realtalk_async.supervision.output.capture import Capture


class Child:
    """A process whose output the test writes itself."""

    def __init__(self):
        self.name = "mic"
        self.capture = Capture("mic", max_size=1000, on_error=print)
        self.capture.begin(1, binary=False)
        self.capture.is_over = False

    def follow(self):
        return self.capture.follow(history=False)

    def follow_bytes(self, stream):
        return self.capture.follow_bytes(stream)

    async def wait_until_settled(self):
        pass

    def print(self, text):
        self.capture.append("stdout", text, 0.0)

    def restart(self):
        self.capture.end()
        self.capture.begin(2, binary=False)

    def exit(self):
        self.capture.is_over = True
        self.capture.end()


async def printed(capfdbinary, child, *, is_single_command):
    spec = AppSpec(file="" if is_single_command else "app.toml", processes=())
    output = RunOutput(
        spec,
        colour=False,
        stamp="none",
        quiet=False,
        on_broken=print,
        on_printed=int,
    )
    output.print_output(child)
    child.print(b"the first line\n")  # before the task that prints has run
    if not is_single_command:
        child.restart()
    child.exit()
    await output.wait_until_printed()
    await output.aclose()
    return capfdbinary.readouterr().out


async def test_output_that_arrives_at_once_is_printed(capfdbinary):
    out = await printed(capfdbinary, Child(), is_single_command=False)
    assert b"the first line" in out


async def test_output_that_arrives_at_once_is_passed_through(capfdbinary):
    out = await printed(capfdbinary, Child(), is_single_command=True)
    assert out == b"the first line\n"


def death(name, size):
    return events.ProcessExited(
        process=name,
        incarnation=1,
        pid=7,
        exit_status=1,
        cause="failed",
        uptime=1.0,
        summary="exit status 1 after 00:00:01",
        last_words="no sound server",
        log="app.log",
        incident="x-1",
        incident_size=size,
    )


async def test_several_deaths_of_the_same_thing_have_one_notice(capfdbinary):
    """From the third on, the notice of the incident names them."""
    output = RunOutput(
        AppSpec(file="app.toml", processes=()),
        colour=False,
        stamp="none",
        quiet=False,
        on_broken=print,
        on_printed=int,
    )
    names = [f"a{number}" for number in range(1, 6)]
    for size, name in enumerate(names, 1):
        output.report(death(name, size), None)
    incident = events.IncidentOccurred(
        incident="x-1",
        processes=tuple(names),
        reason="no sound server; exit status 1",
        seconds=0.01,
    )
    output.report(incident, None)
    await output.aclose()
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert len(lines) == 3
    words = "no sound server; exit status 1"
    assert lines[0].endswith(f"a1 died: {words} after 00:00:01")
    assert f"5 processes failed for the same reason within 0.01 s: {words}" in lines[2]
    assert "a1, a2, a3, a4, a5" in lines[2]


async def test_a_full_disk_is_said_and_told_with_its_error(capfd):
    errors = []
    full = os.open("/dev/full", os.O_WRONLY)
    writer = OutputWriter(errors.append)
    writer.put_nowait(full, b"a line\n")
    await writer.aclose()
    os.close(full)
    said = "realtalk-async: cannot write the output: No space left on device\n"
    assert capfd.readouterr().err == said
    assert [exit_codes.of_broken_output(error) for error in errors] == [1]


async def test_a_reader_that_is_gone_ends_the_output_without_a_word(capfd):
    errors = []
    reader, pipe = os.pipe()
    os.close(reader)
    writer = OutputWriter(errors.append)
    writer.put_nowait(pipe, b"a line\n")
    await writer.aclose()
    os.close(pipe)
    assert capfd.readouterr().err == ""
    assert [exit_codes.of_broken_output(error) for error in errors] == [141]
