"""`Logger` in tasks, threads and signal handlers, inside and outside its block."""

import asyncio
import dataclasses
import gc
import os
import signal
import subprocess
import threading
import time
from datetime import datetime, timedelta

import anyio
import pytest

from realtalk_async.exceptions import InvalidConfiguration, LogUnavailable
from realtalk_async.logs import Level, Logger, parse_line


def messages(path):
    """Return the messages of a log in order; each line must be an entry."""
    entries = [parse_line(line) for line in path.read_bytes().splitlines()]
    assert None not in entries
    return [entry.message for entry in entries if entry is not None]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


# Paths


def test_without_a_path_a_file_is_created_in_the_temporary_directory(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    logger = Logger()
    assert logger.path.parent == tmp_path
    assert logger.path.read_bytes() == b""
    assert Logger().path != logger.path


def unnamed_log(folder, number, pid, text="entry\n", end=""):
    path = folder / f"realtalk-20261101-{number:06d}-{pid}-abc_{number}.log{end}"
    path.write_text(text)
    return path


@pytest.fixture
def ended():
    """Return the pid of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_logs_without_a_path_of_apps_that_were_killed_do_not_add_up(
    tmp_path, monkeypatch, ended
):
    """The newest ten stay, with their rotated files; empty ones do not."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old = [unnamed_log(tmp_path, number, ended) for number in range(5)]
    old.append(unnamed_log(tmp_path, 4, ended, end=".1"))
    empty = unnamed_log(tmp_path, 99, ended, text="")
    newest = [unnamed_log(tmp_path, number, ended) for number in range(20, 30)]
    newest.append(unnamed_log(tmp_path, 29, ended, end=".1"))
    logger = Logger()
    assert not any(path.exists() for path in (*old, empty))
    assert set(tmp_path.iterdir()) == {*newest, logger.path}


def test_other_files_stay_in_the_temporary_directory(tmp_path, monkeypatch, ended):
    """Those of running apps, of other programs and of other users; links."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("realtalk_async.logs.output.log_path.KEPT_LOGS", 0)
    running = unnamed_log(tmp_path, 1, os.getpid(), text="")
    others = [
        tmp_path / name
        for name in (
            "realtalk-20261101-000000.log",
            f"realtalk-20261101-000000-{ended}-x.log.gz",
            "realtalk-recording.wav",
        )
    ]
    for path in others:
        path.write_text("x")
    target = tmp_path / "target"
    target.write_text("x")
    link = tmp_path / f"realtalk-20261101-000001-{ended}-link.log"
    link.symlink_to(target)
    Logger(tmp_path / "app.log")
    Logger()
    assert all(path.exists() for path in (running, *others, target, link))
    own = unnamed_log(tmp_path, 2, ended)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    Logger()
    assert own.exists()


def test_an_existing_file_is_appended_to(path):
    Logger(path).info("a", "first")
    Logger(str(path)).info("a", "second")
    assert messages(path) == ["first", "second"]


def test_a_missing_directory_is_refused_by_the_constructor(tmp_path):
    with pytest.raises(LogUnavailable, match="No such file or directory") as caught:
        Logger(tmp_path / "missing" / "app.log")
    assert caught.value.path == str(tmp_path / "missing" / "app.log")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_directory_as_path_is_refused_by_the_constructor(tmp_path):
    with pytest.raises(LogUnavailable, match="Is a directory"):
        Logger(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_write_permission_is_refused_by_the_constructor(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LogUnavailable, match="Permission denied"):
        Logger(tmp_path / "app.log")


def test_a_relative_path_ignores_later_changes_of_the_working_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    logger = Logger("app.log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    logger.info("a", "b")
    assert messages(tmp_path / "app.log") == ["b"]


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"backups": -1}])
def test_an_invalid_rotation_is_refused_before_a_file_is_created(path, wrong):
    with pytest.raises(InvalidConfiguration):
        Logger(path, **wrong)
    assert not path.exists()


# Calls


def test_a_written_line_has_exactly_the_documented_format(path):
    before = datetime.now().astimezone().replace(microsecond=0)
    context = {"exit_status": 1, "uptime": "00:03:22"}
    Logger(path).error("sox_bg", "Process died unexpectedly", context)
    after = datetime.now().astimezone()
    line = path.read_text()
    assert line[0] == "["
    written = datetime.strptime(line[1:20], "%Y-%m-%d %H:%M:%S").astimezone()
    assert before <= written <= after
    assert line[20:] == (
        "] [ERROR] [sox_bg] Process died unexpectedly "
        '{"exit_status":1,"uptime":"00:03:22"}\n'
    )


def test_each_level_has_a_method_and_log_takes_the_level_by_name(path):
    logger = Logger(path)
    logger.info("a", "1")
    logger.warning("a", "2")
    logger.error("a", "3")
    logger.log("info", "a", "4")
    logger.log(Level.WARNING, "a", "5")
    logger.log("ERROR", "a", "6")
    entries = [parse_line(line) for line in path.read_text().splitlines()]
    assert [entry.level for entry in entries if entry] == [*Level] * 2


def test_an_unknown_level_raises_a_value_error_that_names_the_three(path):
    logger = Logger(path)
    with pytest.raises(ValueError, match="'INFO', 'WARNING' or 'ERROR', not 'DEBUG'"):
        logger.log("DEBUG", "a", "b")
    assert path.read_bytes() == b""


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __format__ = __str__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Sly(str):
    """A string that equals a harmless string but formats as another one."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "\n[2025-05-13 14:30:22] [ERROR] [x] forged"


@pytest.mark.parametrize(
    "value",
    [None, 3, b"x", ["list"], {"a": 1}, object(), Unprintable(), "\ud800", Sly("ok")],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("place", ["component", "message", "context"])
def test_no_argument_except_the_level_makes_a_call_raise(path, value, place):
    logger = Logger(path)
    logger.info("ok", "ok")
    given = {"component": "ok", "message": "ok", "context": {"a": 1}} | {place: value}
    logger.info(**given)
    logger.info(**(given | {"context": {"value": value, 1: 2}}))
    assert len(messages(path)) == 3


def test_a_context_is_written_as_it_was_during_the_call(path):
    context = {"n": 1}

    async def main():
        async with Logger(path) as logger:
            logger.info("a", "b", context)
            context["n"] = 2

    asyncio.run(main())
    assert '{"n":1}' in path.read_text()


def test_each_line_has_the_second_of_its_call(path):
    """The timestamp is cached for one second."""
    logger = Logger(path)
    end = time.monotonic() + 120
    while len({line[:21] for line in path.read_text().splitlines()}) < 3:
        before = int(time.time())
        logger.info("a", "b")
        after = int(time.time())
        last = parse_line(path.read_text().splitlines()[-1])
        assert last is not None
        assert before <= last.timestamp.timestamp() <= after
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("line_format", ["text", "iso", "json"])
async def test_get_logs_reads_all_formats_mixed_in_one_file(path, line_format):
    hostile = 'a] [ERROR] [b "level":"ERROR",\n{"x":1} \\'
    Logger(path, line_format="json").warning(hostile, hostile, {"n": 0})
    Logger(path, line_format="iso").warning(hostile, hostile, {"n": 1})
    async with Logger(path, line_format=line_format) as logger:
        logger.warning(hostile, hostile, {"n": 2})
        logger.info("a", "plain")
        found = await logger.get_logs("WARNING", hostile)
        assert [entry.context["n"] for entry in found] == [0, 1, 2]
        assert {entry.message for entry in found} == {hostile}
        assert await logger.get_logs(level="ERROR") == []
        (entry,) = await logger.get_logs(component="a", level="INFO")
        assert entry.context == {}


def test_the_iso_format_has_the_millisecond_of_the_call(path):
    logger = Logger(path, line_format="iso")
    for _ in range(200):
        before = time.time()
        logger.info("a", "b")
        after = time.time()
        entry = parse_line(path.read_bytes().splitlines()[-1])
        assert entry is not None
        assert before - 0.002 <= entry.timestamp.timestamp() <= after


def test_an_unknown_format_is_refused(path):
    with pytest.raises(InvalidConfiguration, match="'text', 'iso' or 'json'"):
        Logger(path, line_format="xml")


# The block


async def test_lines_before_inside_and_after_the_block_are_written_in_order(path):
    logger = Logger(path)
    logger.info("a", "before")
    assert messages(path) == ["before"]
    async with logger:
        logger.info("a", "inside")
    assert messages(path) == ["before", "inside"]
    logger.info("a", "after")
    assert messages(path) == ["before", "inside", "after"]


async def test_after_an_awaited_call_its_line_and_all_earlier_lines_are_on_disk(path):
    async with Logger(path) as logger:
        for number in range(20):
            logger.info("a", f"{number}")
            assert await logger.info("a", f"{number} awaited") is True
            assert len(messages(path)) == 2 * (number + 1)


async def test_a_call_before_or_after_the_block_can_be_awaited(path):
    logger = Logger(path)
    assert await logger.info("a", "1") is True
    async with logger:
        pass
    assert await logger.error("a", "2") is True
    assert messages(path) == ["1", "2"]


async def test_many_awaiting_tasks_share_writes(path):
    async with Logger(path) as logger:

        async def work(number):
            for index in range(5):
                assert await logger.info("a", f"{number}.{index}")

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(work, number)
    assert len(messages(path)) == 1000


async def test_a_call_that_is_not_awaited_causes_no_warning(path):
    async with Logger(path) as logger:
        for _ in range(10):
            logger.info("a", "b")
        gc.collect()
    assert len(messages(path)) == 10


async def test_lines_are_written_soon_without_an_await(path):
    async with Logger(path) as logger:
        logger.info("a", "b")
        with anyio.fail_after(120):
            while not path.stat().st_size:
                await asyncio.sleep(0.001)


async def test_a_cancelled_await_affects_neither_its_line_nor_other_awaits(path):
    async with Logger(path) as logger:

        async def wait(number):
            return await logger.info("a", str(number))

        tasks = [asyncio.create_task(wait(number)) for number in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        with anyio.fail_after(120):
            results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, bool] * 5
    assert sorted(messages(path)) == [str(number) for number in range(10)]


async def test_aclose_is_idempotent_and_the_block_can_be_entered_again(path):
    logger = Logger(path)
    async with logger:
        logger.info("a", "1")
        await logger.aclose()
        await logger.aclose()
        logger.info("a", "2")
    async with logger:
        logger.info("a", "3")
    assert messages(path) == ["1", "2", "3"]


async def test_the_inner_of_two_nested_blocks_does_not_close_the_log(path):
    logger = Logger(path)
    async with logger:
        async with logger:
            logger.info("a", "1")
        assert "writing" in repr(logger)
        assert await logger.info("a", "2")
    assert "direct" in repr(logger)
    assert messages(path) == ["1", "2"]


async def test_closing_that_is_cancelled_at_any_step_writes_everything(path):
    """No line, task, thread or descriptor may remain."""
    for steps in range(12):
        logger = Logger(path)

        async def main(logger=logger):
            async with logger:
                logger.info("a", "line")
                await asyncio.sleep(0)

        task = asyncio.create_task(main())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with anyio.fail_after(120):
            await asyncio.wait([task])
        logger.info("a", "end")
        count = messages(path).count("line")
        assert messages(path)[-1] == "end"
        path.unlink()
        # Before the first step the task has not begun.
        assert count == (1 if steps else 0)
    with anyio.fail_after(120):
        while {task.get_name() for task in asyncio.all_tasks()} & {
            "realtalk log writer"
        }:
            await asyncio.sleep(0.001)


async def test_closing_in_a_cancelled_anyio_scope_writes_everything(path):
    with anyio.CancelScope() as scope:
        async with Logger(path) as logger:
            logger.info("a", "b")
            scope.cancel()
    assert messages(path) == ["b"]


# Threads, signals, loops


async def test_lines_of_threads_keep_their_order_while_the_loop_runs(path):
    async with Logger(path) as logger:

        def work(number):
            component = f"t{number}"
            for index in range(500):
                logger.info(component, str(index), {"n": index})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(120):
            while any(thread.is_alive() for thread in threads):
                logger.info("loop", "tick")
                await asyncio.sleep(0.001)
        for number in range(8):
            entries = await logger.get_logs(component=f"t{number}")
            assert [int(entry.message) for entry in entries] == list(range(500))


async def test_threads_that_fill_the_queue_wait_and_lose_nothing(path):
    """Lines are dropped only if the disk is too slow."""
    async with Logger(path, max_waiting=20_000) as logger:

        def work(number):
            component = f"t{number}"
            for index in range(2_000):
                logger.info(component, str(index), {"some": "context"})

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(120):
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.001)
        for number in range(8):
            found = await logger.get_logs(component=f"t{number}")
            assert [int(entry.message) for entry in found] == list(range(2_000))


def test_without_a_loop_each_call_of_a_thread_writes_its_line(path):
    logger = Logger(path)

    def work(number):
        component = f"t{number}"
        for index in range(200):
            logger.info(component, str(index))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(messages(path)) == sorted(map(str, list(range(200)) * 8))


async def test_a_signal_handler_can_log_while_it_interrupts_a_log_call(path):
    async with Logger(path) as logger:
        before = signal.signal(
            signal.SIGUSR1, lambda *_: (logger.error("signal", "got it"), None)[1]
        )
        try:
            for _ in range(200):
                logger.info("a", "b")
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert len(await logger.get_logs(component="signal")) == 200
    assert len(messages(path)) == 400


async def test_a_line_of_a_signal_handler_is_written_while_the_loop_is_idle(path):
    async with Logger(path) as logger:
        await logger.flush()
        before = signal.signal(
            signal.SIGUSR1, lambda *_: (logger.error("signal", "got it"), None)[1]
        )
        written = asyncio.Event()
        loop = asyncio.get_running_loop()

        def interrupt():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            end = time.monotonic() + 120
            while not path.stat().st_size and time.monotonic() < end:
                time.sleep(0.005)
            found.append(path.read_bytes())
            loop.call_soon_threadsafe(written.set)

        found: list[bytes] = []
        thread = threading.Thread(target=interrupt)
        loop.call_later(0.05, thread.start)
        try:
            with anyio.fail_after(120):
                await written.wait()
        finally:
            signal.signal(signal.SIGUSR1, before)
            thread.join(120)
    assert b"got it" in found[0]


def test_lines_logged_after_the_end_of_the_loop_are_written(path):
    logger = Logger(path)

    async def main():
        await logger.__aenter__()
        logger.info("a", "inside")

    asyncio.run(main())
    assert messages(path) == ["inside"]
    logger.info("a", "after")
    assert messages(path) == ["inside", "after"]


def test_lines_logged_between_two_runs_of_a_loop_are_written(path):
    logger = Logger(path)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(logger.__aenter__())
        logger.info("a", "between")
        assert messages(path) == ["between"]
        loop.run_until_complete(logger.aclose())
    finally:
        loop.close()
    assert messages(path) == ["between"]


def test_a_loop_that_is_closed_before_the_writer_ends_loses_nothing(path):
    logger = Logger(path)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(logger.__aenter__())
    loop.close()
    logger.info("a", "1")
    gc.collect()
    logger.info("a", "2")
    assert messages(path) == ["1", "2"]


def test_one_logger_can_be_entered_in_one_loop_after_another(path):
    logger = Logger(path)

    async def leave():
        async with logger:
            assert await logger.info("a", "1")

    async def stay():
        await logger.__aenter__()
        assert await logger.info("a", "2")

    asyncio.run(leave())
    asyncio.run(stay())
    asyncio.run(stay())
    asyncio.run(logger.aclose())
    assert messages(path) == ["1", "2", "2"]


async def test_a_call_can_be_awaited_in_the_loop_of_another_thread(path):
    async with Logger(path) as logger:

        async def elsewhere():
            return await logger.error("b", "another loop")

        with anyio.fail_after(120):
            assert await asyncio.to_thread(asyncio.run, elsewhere())
        assert "another loop" in messages(path)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_task_that_logs_without_awaiting_does_not_fill_the_memory(path):
    """The caller writes the lines, because the writer task cannot run."""
    async with Logger(path, max_waiting=50_000) as logger:
        for number in range(5_000):
            logger.info("a", str(number), {"some": "context"})
    assert messages(path) == [str(number) for number in range(5_000)]


async def test_a_stalled_disk_does_not_block_the_loop(path, monkeypatch):
    stalled = threading.Event()
    go_on = threading.Event()
    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        stalled.set()
        assert go_on.wait(120)
        return write(descriptor, data)

    async with Logger(path) as logger:
        monkeypatch.setattr("realtalk_async.logs.queue.os.write", slow)
        pending = logger.error("a", "first")
        with anyio.fail_after(120):
            while not stalled.is_set():
                await asyncio.sleep(0.001)
        for number in range(1_000):  # a call that waits would never return
            logger.info("a", str(number))
        await asyncio.sleep(0)
        go_on.set()
        assert await pending
    assert messages(path) == ["first", *map(str, range(1_000))]


async def test_a_timestamp_is_local_time_in_every_time_zone(path, monkeypatch):
    for zone in ("Asia/Kolkata", "America/St_Johns", "UTC"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        logger = Logger(path)
        now = datetime.now().astimezone()
        await logger.info("a", zone)
        (entry,) = await logger.get_logs(pattern=zone)
        assert timedelta(0) <= entry.timestamp - now.replace(microsecond=0)
        assert entry.timestamp - now <= timedelta(seconds=5)
    monkeypatch.undo()
    time.tzset()


# Secrets


KEY = "sk-proj-0123456789abcdefghij"


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR"])
@pytest.mark.parametrize(
    "given",
    [
        {"message": f"the key is {KEY}"},
        {"message": f"GET /?api_key={KEY[3:]}"},
        {"context": {"anything": KEY}},
        {"context": {"api_key": KEY[3:]}},
        {"context": {"anything": None, "Authorization": KEY[3:]}},
        {"context": {"headers": {"x-api-key": KEY[3:]}}},
        {"context": {"line": f"Authorization: Bearer {KEY[3:]}"}},
        {"context": {"error": ValueError(f"wrong key {KEY}")}},
        {"context": {1: {"nested": {"password": KEY[3:]}}}},
    ],
)
def test_secrets_are_redacted_in_the_file_and_their_neighbours_are_not(
    path, level, given
):
    logger = Logger(path)
    for _ in range(3):
        logger.log(level, "net", **({"message": "connecting"} | given))
    text = path.read_text()
    assert KEY[3:] not in text
    assert text.count("[redacted]") == 3
    assert len(messages(path)) == 3


def test_texts_given_to_hide_are_redacted_also_in_cached_messages(path):
    logger = Logger(path, secrets=["hunter2"])
    logger.info("a", "hunter2", {"x": "my hunter2"})
    logger.info("a", "swordfish")
    logger.hide("swordfish")
    logger.info("a", "swordfish", {"x": ["swordfish"]})
    text = path.read_text()
    assert "hunter2" not in text
    assert text.count("swordfish") == 1
    assert text.count("[redacted]") == 4


@pytest.mark.parametrize("spool", [False, True])
async def test_statistics_count_calls_by_level(path, spool):
    async with Logger(path, spool=spool) as logger:

        def work():
            for _ in range(100):
                logger.info("a", "b")
                logger.warning("a", "b")
                logger.log("error", "a", "b")
                logger.info("a", "b")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(120):
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.001)
        if spool:
            await logger.flush()
        counted = logger.statistics()
        assert counted.logged == {"INFO": 800, "WARNING": 400, "ERROR": 400}
    assert logger.statistics() == dataclasses.replace(counted, waiting=0)
