"""Several processes that append to one file, and all ways in which a process can end."""

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict

import pytest

from realtalk_async.logs import Logger, parse_line, spool

SHARED = """
import asyncio, sys, threading
from realtalk_async.logs import Logger

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
rotation = {"max_bytes": int(sys.argv[5]), "backups": 999} if len(sys.argv) > 5 else {}
logger = Logger(path, spool=sys.argv[4] == "spool", **rotation)

def work(thread):
    component = f"{name}.{thread}"
    for number in range(count):
        logger.info(component, f"line {number}", {"number": number, "text": "x" * 50})

async def main():
    async with logger:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        print("ready", flush=True)
        sys.stdin.readline()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


def run_together(path, processes, count, *more):
    """Run SHARED in several processes that start writing at the same moment."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(path), f"p{n}", str(count), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0


def by_component(lines):
    """Return the numbers of the entries by component, in order; each line must be an entry."""
    found = defaultdict(list)
    for line in lines:
        entry = parse_line(line)
        assert entry is not None, line
        assert entry.message == f"line {entry.context['number']}"
        assert entry.context["text"] == "x" * 50
        found[entry.component].append(entry.context["number"])
    return found


QUEUES = ["memory", "spool"]


@pytest.mark.parametrize("queue", QUEUES)
def test_four_processes_of_eight_threads_append_to_one_file_without_loss(
    tmp_path, queue
):
    """Scenario 27."""
    path = tmp_path / "app.log"
    run_together(path, 4, 500, queue)
    assert spool.names(path) == []
    found = by_component(path.read_bytes().splitlines())
    assert sorted(found) == sorted(f"p{p}.{t}" for p in range(4) for t in range(8))
    assert all(numbers == list(range(500)) for numbers in found.values())


@pytest.mark.parametrize("queue", QUEUES)
def test_processes_that_all_rotate_one_log_lose_and_double_nothing(tmp_path, queue):
    path = tmp_path / "app.log"
    run_together(path, 3, 200, queue, "20000")
    files = list(tmp_path.iterdir())
    assert len(files) > 10
    assert all(file.stat().st_size <= 20_000 for file in files)
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    found = by_component(lines)
    assert len(found) == 24
    assert all(sorted(numbers) == list(range(200)) for numbers in found.values())
    entries = asyncio.run(Logger(path).get_logs(component="p1.3"))
    assert [entry.context["number"] for entry in entries] == list(range(200))


ENDS = {
    "by itself, after the block": """
        async def main():
            async with logger:
                log(100)
        asyncio.run(main())
        log(10)
    """,
    "without ever leaving the block": """
        async def main():
            await logger.__aenter__()
            log(110)
        asyncio.run(main())
    """,
    "without ever having a loop": "log(110)",
    "by an exception in the block": """
        async def main():
            async with logger:
                log(110)
                raise SystemExit(3)
        asyncio.run(main())
    """,
    "by an exception with lines waiting": """
        async def main():
            await logger.__aenter__()
            log(110)
            raise ValueError("boom")
        asyncio.run(main())
    """,
    "by sys.exit in a callback": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(logger.__aenter__())
        def leave():
            log(110)
            sys.exit(3)
        loop.call_soon(leave)
        loop.run_forever()
    """,
    "with a loop that was stopped": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(logger.__aenter__())
        def leave():
            log(110)
            loop.stop()
        loop.call_soon(leave)
        loop.run_forever()
    """,
    "with a loop that was closed": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(logger.__aenter__())
        loop.close()
        log(110)
    """,
    "in an atexit function": """
        import atexit
        async def main():
            await logger.__aenter__()
            log(100)
        atexit.register(log, 10)
        asyncio.run(main())
    """,
    "with a thread that logs": """
        async def main():
            await logger.__aenter__()
            thread = threading.Thread(target=log, args=(110,))
            thread.start()
        asyncio.run(main())
    """,
    "by Ctrl-C": """
        async def main():
            async with logger:
                log(110)
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(60)
        asyncio.run(main())
    """,
}
BEGIN = """
import asyncio, signal, sys, threading
from realtalk_async.logs import Logger
logger = Logger(sys.argv[1], spool=sys.argv[2] == "spool")
def log(count):
    for number in range(count):
        logger.info("a", str(number))
"""


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("how", ENDS)
def test_no_line_is_lost_when_a_process_ends_except_by_a_kill(tmp_path, how, queue):
    path = tmp_path / "app.log"
    program = BEGIN + "\n".join(line[8:] for line in ENDS[how].splitlines())
    if "\n" not in ENDS[how]:
        program = BEGIN + ENDS[how]
    child = subprocess.run(
        [sys.executable, "-c", program, str(path), queue],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = path.read_text().splitlines()
    assert len(lines) == 110, child.stderr
    assert all(parse_line(line) for line in lines)
    assert "Logger" not in child.stderr
    assert spool.names(path) == []


KILLED = """
import asyncio, sys
from realtalk_async.logs import Logger
async def main():
    async with Logger(sys.argv[1]) as logger:
        number = 0
        while True:
            logger.info("a", f"sent {number}")
            if number % 7 == 0:
                assert await logger.error("a", f"acknowledged {number}")
                print(number, flush=True)
            number += 1
asyncio.run(main())
"""


def test_awaited_lines_and_all_earlier_lines_survive_sigkill(tmp_path):
    path = tmp_path / "app.log"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.communicate(timeout=120)[0].split()]
    assert child.returncode == -signal.SIGKILL
    entries = [parse_line(line) for line in path.read_text().splitlines()]
    found = [entry.message for entry in entries if entry is not None]
    assert len(found) == len(entries)
    assert {f"acknowledged {number}" for number in acknowledged} <= set(found)
    assert {f"sent {number}" for number in range(acknowledged[-1] + 1)} <= set(found)
