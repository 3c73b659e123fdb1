"""Asking the log: parsed fields decide, the newest are found by reading backwards."""

import asyncio
import contextlib
import fcntl
import os
import re
import threading
import time
from datetime import datetime, timedelta

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs import Level, LogEntry, Logger
from realtalk_async.logs.entry import format_line, parse_line
from realtalk_async.logs.query import make_query, may_match, search

START = datetime.fromisoformat("2025-05-13 14:30:22").astimezone()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


def ask(path, stop=None, index=None, **wanted):
    """Search without a logger."""
    names = ("level", "component", "pattern", "n", "since", "until")
    query = make_query(*(wanted.get(name) for name in names))
    stop = stop or threading.Event()
    return search(path, query, stop, {} if index is None else index)


def write(path, *entries):
    path.write_text("".join(format_line(entry) + "\n" for entry in entries))


def numbered(count, **fields):
    levels = list(Level)
    return [
        LogEntry(
            START + timedelta(seconds=number),
            fields.get("level", levels[number % 3]),
            f"part{number % 5}",
            f"message {number}",
            {"number": number} if number % 2 else {},
        )
        for number in range(count)
    ]


def test_without_conditions_all_entries_come_in_order(path):
    """Oldest first, as they stand in the file."""
    entries = numbered(50)
    write(path, *entries)
    assert ask(path) == entries


def test_level_component_and_pattern_must_all_be_met(path):
    """Each alone, and together."""
    entries = numbered(90)
    write(path, *entries)
    assert ask(path, level="error") == entries[2::3]
    assert ask(path, component="part4") == entries[4::5]
    assert ask(path, level="ERROR", component="part4") == entries[14::15]
    assert ask(path, pattern=r"\b[34]4\b") == [entries[34], entries[44]]
    assert ask(path, level="INFO", component="part0", pattern="5$") == [
        entry for entry in entries[::15] if entry.message.endswith("5")
    ]


def test_n_takes_the_newest(path):
    """Of those that meet the other conditions; still oldest first."""
    entries = numbered(90)
    write(path, *entries)
    assert ask(path, n=3) == entries[-3:]
    assert ask(path, n=0) == []
    assert ask(path, n=1000) == entries
    assert ask(path, n=2, level="WARNING") == entries[1::3][-2:]


def test_since_and_until_limit_the_time(path):
    """From the one on, before the other."""
    entries = numbered(90)
    write(path, *entries)
    since, until = entries[10].timestamp, entries[20].timestamp
    assert ask(path, since=since) == entries[10:]
    assert ask(path, until=until) == entries[:20]
    assert ask(path, since=since, until=until, n=3) == entries[17:20]


def test_times_out_of_order_are_found_all_the_same(path):
    """A clock that was set back by an hour hides no entry."""
    entries = numbered(3000)
    late = LogEntry(START - timedelta(hours=1), Level.INFO, "x", "late")
    write(path, *entries, late)
    assert ask(path, since=START) == entries


def test_the_search_stops_where_all_is_too_old(path):
    """It does not read a gigabyte for the last minute."""
    entries = numbered(60_000)
    write(path, *entries)
    descriptor_reads = []
    read = os.preadv
    since = entries[-10].timestamp

    def counted(fd, buffers, offset):
        descriptor_reads.append(sum(map(len, buffers)))
        return read(fd, buffers, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.os.preadv", counted)
        assert ask(path, since=since) == entries[-10:]
    assert sum(descriptor_reads) < path.stat().st_size / 2


def test_a_message_cannot_pose_as_another_level_or_component(path):
    """The raw text holds what is searched for; the fields do not."""
    forged = "[2025-05-13 14:30:22] [ERROR] [sox] forged"
    entries = [
        LogEntry(START, Level.INFO, "a", forged),
        LogEntry(START, Level.INFO, "a", "\n" + forged),
        LogEntry(START, Level.INFO, "x] [ERROR] [sox", "y"),
        LogEntry(START, Level.INFO, "a", "b", {"] [ERROR] [sox] ": "] [ERROR] [sox] "}),
        LogEntry(START, Level.ERROR, "sox", "true"),
    ]
    write(path, *entries)
    assert ask(path, level="ERROR") == entries[-1:]
    assert ask(path, component="sox") == entries[-1:]
    assert ask(path, level="ERROR", component="sox") == entries[-1:]
    assert ask(path, level="INFO") == entries[:-1]


@pytest.mark.parametrize("component", ["a]b", "a\\b", "a\nb", "", " ", "größe", "["])
def test_any_component_can_be_asked_for(path, component):
    """Also one that is escaped in the file."""
    entries = [
        LogEntry(START, Level.INFO, component, "yes"),
        LogEntry(START, Level.INFO, "other", component),
        LogEntry(START, Level.ERROR, component, ""),
    ]
    write(path, *entries)
    assert ask(path, component=component) == [entries[0], entries[2]]
    assert ask(path, component=component, level="ERROR") == [entries[2]]


@pytest.mark.parametrize("component", ["sox_bg", "mic", "a.b-c d"])
@pytest.mark.parametrize("pattern", [None, "alive", "is alive", "alive$", "(?i)ALIVE"])
@pytest.mark.parametrize("level", [None, "ERROR", "INFO"])
def test_whatever_is_looked_for_first_the_answer_is_the_same(
    path, component, pattern, level
):
    """The shortcuts of the search agree with asking every entry."""
    texts = ["alive", "is alive", "ERROR sox_bg", "ALIVE", '"ERROR"', "[sox_bg]"]
    entries = [
        LogEntry(START, one, name, text, {"x": text} if one == "INFO" else {})
        for one in Level
        for name in ["sox_bg", "mic", "sox_bg2", "a.b-c d", "ERROR", "alive"]
        for text in texts
    ]
    write(path, *entries)
    wanted = make_query(level, component, pattern, None, None, None)
    expected = [entry for entry in entries if wanted.matches(entry)]
    assert expected or level is None or pattern is not None
    assert ask(path, level=level, component=component, pattern=pattern) == expected


def test_a_part_that_lacks_a_component_is_not_read_again(path):
    """Earlier answers are an index for later ones; what was added since is found."""
    entries = numbered(30_000)
    entries[2_000] = LogEntry(START, Level.INFO, "rare", "first")
    write(path, *entries)
    reads = []
    read = os.preadv

    def counted(fd, buffers, offset):
        reads.append(offset)
        return read(fd, buffers, offset)

    index = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.os.preadv", counted)
        first = ask(path, index=index, component="rare")
        whole = len(reads)
        reads.clear()
        new = LogEntry(START, Level.INFO, "rare", "second")
        with path.open("a") as file:
            file.write(format_line(new) + "\n")
        second = ask(path, index=index, component="rare")
    assert first == entries[2_000:2_001]
    assert second == [*first, new]
    assert whole > 7
    assert len(reads) < whole - 3
    assert ask(path, index=index, component="part1") == entries[1::5]


def test_what_was_learned_of_a_file_is_forgotten_when_it_is_begun_anew(path):
    """The same file, the same size, another content."""
    entries = numbered(20_000)
    write(path, *entries)
    index = {}
    assert ask(path, index=index, component="rare") == []
    rare = [LogEntry(START, Level.INFO, "rare", f"{n} " + "x" * 30) for n in range(9)]
    anew = sorted([*entries, *(rare * 3_000)], key=lambda entry: len(entry.message))
    write(path, *anew)
    assert len(ask(path, index=index, component="rare")) == 27_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=st.lists(st.lists(st.sampled_from("abcd"), max_size=30), max_size=4),
    block=st.integers(64, 200),
)
def test_an_index_never_changes_an_answer(path, files, block):
    """Whatever is asked first, and however often the file is begun anew."""
    index = {}
    names = {"a": "alpha", "b": "beta", "c": "gamma", "d": "delta"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.SMALLEST", block)
        patch.setattr("realtalk_async.logs.reverse_reader.LARGEST", block * 2)
        for number, letters in enumerate(files):
            entries = [
                LogEntry(
                    START + timedelta(minutes=number),
                    Level.INFO,
                    names[letter],
                    f"{number}.{place}",
                )
                for place, letter in enumerate(letters)
            ]
            write(path, *entries)
            for name in [*names.values(), *names.values()]:
                expected = [entry for entry in entries if entry.component == name]
                assert ask(path, index=index, component=name) == expected


def test_the_pattern_sees_message_and_context_but_no_other_field(path):
    """The context as it is written; the message as it was logged."""
    entries = [
        LogEntry(START, Level.ERROR, "sox", "died", {"exit_status": 1}),
        LogEntry(START, Level.ERROR, "sox", "a\nb"),
    ]
    write(path, *entries)
    assert ask(path, pattern="died$") == entries[:1]
    assert ask(path, pattern=r'"exit_status":1\}') == entries[:1]
    assert ask(path, pattern=re.compile("DIED", re.IGNORECASE)) == entries[:1]
    assert ask(path, pattern="a\nb") == entries[1:]
    for absent in ("sox", "ERROR", "2025", r"\\n"):
        assert ask(path, pattern=absent) == []


def test_what_is_no_entry_is_passed_over(path):
    """Foreign lines, empty lines, bytes that are no text."""
    entry = LogEntry(START, Level.INFO, "a", "b")
    line = format_line(entry).encode() + b"\n"
    path.write_bytes(b"\n\nhello\n" + line + b"\xff\xfe\x00\n" + line + b"[x] [ERROR]")
    assert ask(path) == [entry, entry]
    assert ask(path, level="INFO") == [entry, entry]
    assert ask(path, level="ERROR") == []


def test_json_with_spaces_is_read(path):
    """As the note's own example has it."""
    path.write_text(
        "[2025-05-13 14:30:22] [ERROR] [sox_bg] Process died unexpectedly "
        '{"exit_status": 1, "uptime": "00:03:22"}\n'
    )
    (entry,) = ask(path, level="ERROR", component="sox_bg", pattern="died")
    assert entry.context == {"exit_status": 1, "uptime": "00:03:22"}


def test_a_file_of_many_blocks_is_read_whole(path):
    """Lines that lie across two blocks, lines longer than a block."""
    entries = [
        LogEntry(START, Level.INFO, "a", f"{number} " + "x" * (number * 997 % 5000))
        for number in range(300)
    ]
    entries[100] = LogEntry(START, Level.ERROR, "a", "y" * 3_000_000)
    write(path, *entries)
    assert ask(path) == entries
    assert ask(path, level="ERROR") == [entries[100]]
    assert ask(path, n=250) == entries[-250:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=60),
    block=st.integers(1, 120),
    n=st.none() | st.integers(0, 70),
)
def test_blocks_of_any_size_give_the_same_answer(path, lengths, block, n):
    """Reading backwards in blocks loses, doubles and splits nothing."""
    entries = [
        LogEntry(START, Level.INFO, "a", f"{index}" + "x" * length)
        for index, length in enumerate(lengths)
    ]
    write(path, *entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.SMALLEST", block)
        patch.setattr("realtalk_async.logs.reverse_reader.LARGEST", block * 2)
        found = ask(path, n=n)
    assert found == (
        entries if n is None else entries[len(entries) - min(n, len(entries)) :]
    )


@given(st.binary() | st.text().map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_whatsoever_makes_the_search_raise(path, content):
    """Fuzz: it answers with the entries there are."""
    path.write_bytes(content)
    assert all(isinstance(entry, LogEntry) for entry in ask(path))
    ask(path, level="ERROR", component="a", n=1)


def test_rotated_files_are_searched_too(path):
    """The whole history, oldest first, and n across files."""
    entries = numbered(90)
    write(path.with_name("app.log.2"), *entries[:30])
    write(path.with_name("app.log.1"), *entries[30:60])
    write(path, *entries[60:])
    assert ask(path) == entries
    assert ask(path, n=40) == entries[-40:]
    assert ask(path, level="ERROR") == entries[2::3]


def test_a_file_seen_under_two_names_counts_once(path):
    """As in the middle of a rotation."""
    entries = numbered(10)
    write(path, *entries)
    os.link(path, path.with_name("app.log.1"))
    assert ask(path) == entries


def test_the_moment_without_a_present_file_hides_nothing(path):
    """Between the two steps of a rotation only the old files are there."""
    entries = numbered(10)
    write(path.with_name("app.log.1"), *entries)
    assert ask(path) == entries


def test_a_log_that_was_removed_has_no_entries(path):
    """Nor is it an error to ask."""
    assert ask(path) == []


def test_a_last_line_without_newline_is_an_entry_if_nobody_writes(path):
    """Somebody wrote it by hand."""
    entries = numbered(3)
    path.write_text("\n".join(map(format_line, entries)))
    assert ask(path) == entries
    assert ask(path, n=1) == entries[-1:]


def test_a_line_that_is_being_written_is_waited_for(path):
    """A reader sees it whole."""
    entry = LogEntry(START, Level.INFO, "a", "whole")
    line = format_line(entry).encode() + b"\n"
    path.write_bytes(line[:30])
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        def finish():
            time.sleep(0.02)
            writer.write(line[30:])
            fcntl.flock(writer, fcntl.LOCK_UN)

        thread = threading.Thread(target=finish)
        thread.start()
        found = ask(path)
        thread.join()
    assert found == [entry]


def test_a_search_that_nobody_wants_any_more_ends(path):
    """It looks at its flag before every block."""
    write(path, *numbered(20_000))
    stop = threading.Event()
    stop.set()
    assert ask(path, stop) == []


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"level": "FATAL"}, "INFO, WARNING, ERROR"),
        ({"pattern": "("}, "no regular expression"),
        ({"n": -1}, "n is -1"),
        ({"since": START.replace(tzinfo=None)}, "since lacks a time zone"),
        ({"until": START.replace(tzinfo=None)}, "until lacks a time zone"),
    ],
)
async def test_a_senseless_question_is_refused(path, wanted, match):
    """With what is wrong about it."""
    logger = Logger(path)
    with pytest.raises(InvalidConfiguration, match=match):
        await logger.get_logs(**wanted)


async def test_the_logger_finds_what_it_has_just_logged(path):
    """Nothing has to be awaited first; arguments by position as in the note."""
    async with Logger(path) as logger:
        for number in range(100):
            logger.info("a", str(number))
        logger.error("b", "no", {"number": 1})
        assert len(await logger.get_logs()) == 101
        (entry,) = await logger.get_logs("ERROR", "b", "no", 10)
        assert (entry.message, entry.context) == ("no", {"number": 1})
        assert entry.timestamp.tzinfo is not None
        assert datetime.now().astimezone() - entry.timestamp < timedelta(minutes=1)


async def test_asking_after_the_block_and_without_it_works(path):
    """The file is what is read."""
    logger = Logger(path)
    logger.info("a", "1")
    assert [entry.message for entry in await logger.get_logs()] == ["1"]
    async with logger:
        logger.info("a", "2")
    assert [entry.message for entry in await logger.get_logs()] == ["1", "2"]


async def test_a_cancelled_question_leaves_no_thread(path):
    """It ends within a block; others are answered meanwhile."""
    write(path, *numbered(60_000, level=Level.INFO))
    async with Logger(path) as logger:
        with anyio.move_on_after(0.01) as scope:
            await logger.get_logs(pattern="[^m]e[^s]")
        assert scope.cancelled_caught
        with anyio.fail_after(20):
            assert len(await logger.get_logs(n=5)) == 5
            while any("query" in t.name for t in threading.enumerate()):
                await asyncio.sleep(0.001)


async def test_questions_while_others_write_and_rotate_see_only_whole_entries(path):
    """A live file: no torn entry, none twice, no gap."""
    async with Logger(path, max_bytes=20_000, backups=50) as logger:
        done = threading.Event()

        def work():
            for number in range(3_000):
                logger.info("w", str(number))
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        with anyio.fail_after(40):
            while not done.is_set():
                found = [int(e.message) for e in await logger.get_logs(component="w")]
                assert found == list(range(len(found)))
        thread.join()
        found = [int(entry.message) for entry in await logger.get_logs(component="w")]
    assert found == list(range(3_000))


# Following


async def collect(entries, count):
    """The messages of the next entries."""
    return [(await anext(entries)).message for _ in range(count)]


async def test_following_yields_what_is_logged_from_now_on(path):
    """Not what was there before; only what is wanted; other writers' lines too."""
    async with Logger(path) as logger:
        await logger.error("a", "before")
        followed = logger.follow_logs(level="ERROR", pattern="^[0-9]")
        for number in range(10):
            logger.error("a", str(number))
            logger.info("a", str(number))
            logger.error("a", "no number")
        with anyio.fail_after(10):
            assert await collect(followed, 10) == [str(n) for n in range(10)]
            await Logger(path).error("b", "99")
            assert await collect(followed, 1) == ["99"]


@pytest.mark.parametrize("free", [0, 1, 2])
async def test_no_file_is_overlooked_in_the_middle_of_a_rotation(path, free):
    """Regression test: where a number was free for a moment, older files were not seen."""
    logger = Logger(path)
    followed = logger.follow_logs()
    files = [path, *(path.with_name(f"{path.name}.{n}") for n in (1, 2, 3, 4))]
    for number in range(4):
        with path.open("a") as file:
            file.write(f"[2025-05-13 14:30:22] [INFO] [a] {number}\n")
        for place in (3, 2, 1, 0):
            if place >= free or number < 3:
                with contextlib.suppress(FileNotFoundError):
                    files[place].rename(files[place + 1])
    assert [file.exists() for file in files].count(False) == 1
    assert not files[free].exists()
    found = await logger.get_logs()
    assert [entry.message for entry in found] == ["0", "1", "2", "3"]
    with anyio.fail_after(10):
        assert await collect(followed, 4) == ["0", "1", "2", "3"]


async def test_following_goes_on_through_rotation(path):
    """Across as many new files as there were between two looks."""
    async with Logger(path, max_bytes=2_000, backups=99) as logger:
        followed = logger.follow_logs()
        for number in range(500):
            logger.info("a", str(number))
        with anyio.fail_after(10):
            assert await collect(followed, 500) == [str(n) for n in range(500)]


@pytest.mark.parametrize("how", ["removed", "truncated"])
async def test_following_goes_on_when_the_file_is_begun_anew(path, how):
    """By whoever thought that it was too long."""
    logger = Logger(path)
    logger.info("a", "x" * 1000)
    followed = logger.follow_logs(pattern="^[0-9]$")
    logger.info("a", "1")
    with anyio.fail_after(10):
        assert await collect(followed, 1) == ["1"]
        if how == "removed":
            path.unlink()
        else:
            os.truncate(path, 0)
        logger.info("a", "2")
        assert await collect(followed, 1) == ["2"]


async def test_following_waits_for_the_end_of_a_line(path):
    """Half a line is no entry."""
    logger = Logger(path)
    followed = logger.follow_logs()
    line = format_line(LogEntry(START, Level.INFO, "a", "whole")) + "\n"
    with path.open("a", buffering=1) as writer:
        writer.write(line[:30])
        writer.flush()
        with anyio.move_on_after(0.3) as scope:
            await anext(followed)
        assert scope.cancelled_caught
        writer.write(line[30:])
    logger.info("a", "next")
    with anyio.fail_after(10):
        assert await collect(followed, 2) == ["whole", "next"]


def test_a_senseless_wish_to_follow_is_refused_at_once(path):
    """Before anything is awaited."""
    with pytest.raises(InvalidConfiguration):
        Logger(path).follow_logs("FATAL")


PIECES = st.sampled_from(
    ["a", "1", " ", "] ", "[", "{", "}", '"', ' {"', '{"a":1}', ' {"a": [1, 2]}', "\\n"]
)
PATTERNS = [
    "^a",
    "a$",
    r"\b1\b",
    "^$",
    r"^\{",
    r"\}$",
    "a.?.?.?[{]",
    r"\[1,2\]",
    r'":1',
]


@given(body=st.lists(PIECES, max_size=8).map("".join))
def test_no_line_in_which_a_pattern_is_found_is_passed_over(body):
    """Without parsing it: whatever stands in it, whoever wrote it."""
    line = f"[2025-05-13 14:30:22] [INFO] [a] {body}"
    entry = parse_line(line)
    assert entry is not None
    for pattern in map(re.compile, PATTERNS):
        if make_query(None, None, pattern, None, None, None).matches(entry):
            assert may_match(line.encode(), pattern), pattern


def test_lines_are_passed_over_unparsed_where_nothing_is_escaped(path, monkeypatch):
    """A pattern without any text in it does not have each line parsed."""
    entries = numbered(3_000)
    entries[7] = LogEntry(START, Level.INFO, "a", "44\n")
    write(path, *entries)
    parsed = []

    def counted(line):
        parsed.append(line)
        return parse_line(line)

    monkeypatch.setattr("realtalk_async.logs.query.parse_line", counted)
    assert ask(path, pattern=r"\b[4]4\b") == [entries[7], entries[44]]
    assert len(parsed) < 20
