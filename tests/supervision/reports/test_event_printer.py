"""`print_events` on a pipe that nobody reads."""

import os

import anyio

from realtalk_async.supervision.reports import event_printer
from realtalk_async.testing import programs


async def test_a_full_pipe_delays_the_lines_and_not_the_loop(manager, monkeypatch):
    monkeypatch.setattr(event_printer, "MAX_WAITING", 5)
    monkeypatch.setattr(event_printer, "RETRY_DELAY", 0.01)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    while True:
        try:
            filled += os.write(writing, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    with open(writing, "w") as file, open(reading, "rb", buffering=0) as reader:
        manager.print_events(file)
        for number in range(4):  # each of two lines: it starts, it ends
            one = await manager.start(
                f"one{number}", programs.exits(0), restart="temporary"
            )
            await one.wait_until_settled()
        said = b""
        with anyio.fail_after(60):
            while b"not printed" not in said:
                await anyio.wait_readable(reader)
                said += reader.read(65536)
        lines = said[filled:].decode().splitlines()
        assert "one0: Process started" in lines[0]
        assert len(lines) == 6
        assert "(3 events were not printed)" in lines[5]


async def test_a_file_gets_each_line_at_once(manager, tmp_path):
    with open(tmp_path / "events.txt", "w") as file:
        manager.print_events(file)
        await manager.start("one", programs.runs())
        assert "one: Process started" in (tmp_path / "events.txt").read_text()
