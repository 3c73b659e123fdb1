"""Unfinished lines and overwritten states, for everybody who reads lines."""

import asyncio
import sys

import pytest

from realtalk_async import TEMPORARY, Command, ProcessManager, WaitExpired
from realtalk_async.supervision.output.line import last_record, split_records


@pytest.fixture
async def shell(logger):
    """Return a function that starts a shell's script with an open stdin."""
    async with ProcessManager(logger) as manager:

        async def start(script):
            command = Command("sh", "-c", script, stdin=True)
            return await manager.start("c", command, restart=TEMPORARY)

        yield start


async def take(lines, count):
    async with asyncio.timeout(20):
        return [await anext(lines) for _ in range(count)]


@pytest.mark.parametrize("prompt", ["Continue? [y/N] ", "Password: ", "Größe? €"])
async def test_a_prompt_is_yielded_after_a_short_silence_and_never_again(shell, prompt):
    process = await shell(f"printf '{prompt}'; read answer; echo got $answer")
    lines = process.follow(history=True)
    [line] = await take(lines, 1)
    assert (line.text, line.partial) == (prompt, True)
    assert (await process.wait_for_line("[?:] ?")).text == prompt
    await process.send(b"y\n")
    assert [line.text async for line in lines] == ["got y"]


async def test_a_prompt_on_stderr_is_found_while_stdout_goes_on(shell):
    script = "printf 'sure? ' >&2; while sleep 0.02; do echo x; done"
    process = await shell(script)
    found = await process.wait_for_line(r"sure\?")
    assert (found.text, found.stream) == ("sure? ", "stderr")


async def test_text_without_a_silence_behind_it_is_not_torn(shell):
    script = "for i in 1 2 3; do printf $i; sleep 0.03; done; echo; read x"
    process = await shell(script)
    assert [one.text for one in await take(process.follow(history=True), 1)] == ["123"]


async def test_a_wait_finds_a_line_whose_parts_came_slowly(shell):
    process = await shell("printf 'list'; sleep 0.4; echo ening; read x")
    assert (await process.wait_for_line("listening")).text == "listening"


async def test_a_character_whose_rest_is_late_is_not_torn(shell):
    script = r"printf 'caf\303'; read x; printf '\251? '; read x"
    process = await shell(script)
    lines = process.follow(history=True)
    assert [one.text for one in await take(lines, 1)] == ["caf"]
    await process.send(b"\n")
    assert [one.text for one in await take(lines, 1)] == ["é? "]


async def test_a_wait_that_is_shorter_than_the_silence_finds_a_prompt(shell):
    process = await shell("printf 'name: '; read x")
    await process.wait_for_line("name")
    assert (await process.wait_for_line("name", 0.01)).text == "name: "
    with pytest.raises(WaitExpired, match="its newest line is 'name: '"):
        await process.wait_for_line("other", 0.3)


@pytest.mark.parametrize("form", ["\r{}%", "{}%\r", "  {}%   \r"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_wait_finds_a_state_that_is_overwritten(logger, form, stream):
    code = (
        "import sys, time\nfor i in range(101):\n"
        f"    sys.{stream}.write({form!r}.format(i)); sys.{stream}.flush()\n"
        "    time.sleep(0.001)\ntime.sleep(100)"
    )
    async with ProcessManager(logger) as manager:
        command = Command(sys.executable, "-c", code)
        process = await manager.start("c", command, restart=TEMPORARY)
        found = await process.wait_for_line(r"\b42%")
        assert found.text.strip() == "42%"
        await process.wait_for_line("100%")
        assert process.last_line(stream).strip() == "100%"
        lines = process.get_stdout() if stream == "stdout" else process.get_stderr()
        assert lines[-1].raw == b"".join(form.format(i).encode() for i in range(101))
        assert lines[-1].last_state.strip() == "100%"


async def test_last_words_hold_the_last_state(shell):
    process = await shell(r"printf '\r1%%\r2%%' >&2; exit 3")
    await process.wait()
    assert [line.text for line in process.get_report().last_lines] == ["2%"]


async def test_the_states_of_a_stream_are_followed_in_their_order(shell):
    process = await shell(r"printf 'a\rb\r\nc\r'; sleep 0.02; printf '\nd\n'")
    lines = [line async for line in process.follow(history=True)]
    assert [line.text for line in lines] == ["a", "b", "c", "d"]
    assert b"".join(line.raw for line in lines) == b"a\rb\r\nc\r\nd\n"


@pytest.mark.parametrize(
    ("data", "growing", "ended"),
    [
        (b"a\nb", [b"a\n"], [b"a\n", b"b"]),
        (b"a\r\nb\r", [b"a\r\n"], [b"a\r\n", b"b\r"]),
        (b"a\rb\r\r\nc", [b"a\r", b"b\r\r\n"], [b"a\r", b"b\r\r\n", b"c"]),
        (b"\r1%\r2%", [b"\r", b"1%\r"], [b"\r", b"1%\r", b"2%"]),
        (b"\r", [], [b"\r"]),
        (b"", [], []),
    ],
)
def test_records_end_with_a_line_feed_or_with_carriage_returns(data, growing, ended):
    assert split_records(data, 10, may_grow=True) == growing
    assert split_records(data, 10, may_grow=False) == ended
    assert split_records(data, 1, may_grow=False) == ended[:1]


def test_a_long_unfinished_line_after_a_state_is_split_quickly():
    assert split_records(b"a\r" + bytes(1 << 20), 10, may_grow=True) == [b"a\r"]


@pytest.mark.parametrize(
    ("line", "last"),
    [
        (b"plain\n", b"plain\n"),
        (b"1%\r2%\n", b"2%\n"),
        (b"1%\r2%\r\n", b"2%\r\n"),
        (b"1%\r2%\r   \r", b"2%\r"),
        (b"\r2%", b"2%"),
        (b"\r \r\n", b"\r \r\n"),
        (b"", b""),
    ],
)
def test_the_last_record_of_a_line_is_its_last_state(line, last):
    assert last_record(line) == last
