"""How `run` and `tail -f` show unfinished lines, and lines that are overwritten."""

import os
import re
import select
import time

import pytest

from realtalk_async.cli.line_format import Continuation

TIMEOUT = 60


def read_until(source, pattern):
    said = b""
    while not re.search(pattern, said):
        assert select.select([source], [], [], TIMEOUT)[0], said
        data = os.read(source, 65536)
        assert data, f"it ended without {pattern!r}: {said!r}"
        said += data
    return said


@pytest.mark.parametrize("text", ["Continue? [y/N] ", "Password:"])
def test_a_prompt_beside_another_process_is_shown(begin, tmp_path, text):
    (tmp_path / "Procfile").write_text(
        f"ask: printf '{text}'; sleep 1000\nother: echo up; sleep 1000\n"
    )
    run = begin("run", "--no-control", "Procfile")
    said = read_until(run.stdout.fileno(), rb"ask .*\| " + re.escape(text).encode())
    run.terminate()
    said += run.communicate(timeout=TIMEOUT)[0]
    assert said.count(text.encode()) == 1
    assert re.search(rb"\| " + re.escape(text).encode() + rb"\n", said)


def test_the_rest_of_a_line_follows_the_part_that_was_shown(begin, tmp_path):
    (tmp_path / "Procfile").write_text(
        "a: printf 'load'; sleep 0.5; printf 'ing'; sleep 0.5; echo ' done'\n"
    )
    out, _ = begin("run", "--no-control", "Procfile").communicate(timeout=TIMEOUT)
    assert out.count(b"| loading done\n") == 1


def test_a_line_of_another_process_ends_a_prompt_first(begin, tmp_path):
    (tmp_path / "Procfile").write_text(
        "a: printf 'sure? '; while [ ! -e go ]; do sleep 0.05; done; echo yes\n"
        "b: while [ ! -e next ]; do sleep 0.05; done; echo between; touch go; sleep 9\n"
    )
    run = begin("run", "--no-control", "Procfile")
    said = read_until(run.stdout.fileno(), rb"sure\? ")
    (tmp_path / "next").touch()
    said += read_until(run.stdout.fileno(), rb"yes\n")
    shown = [
        line.split(b" | ")[1] for line in said.splitlines() if b"system" not in line
    ]
    assert shown == [b"sure? ", b"between", b"yes"]


def test_a_prompt_is_shown_by_tail_and_continued(begin, tmp_path):
    (tmp_path / "Procfile").write_text(
        "ask: printf 'Name? '; while [ ! -e go ]; do sleep 0.05; done; echo Ann; sleep 9"
    )
    run = begin("run", "Procfile")
    read_until(run.stdout.fileno(), rb"Name\?")
    tail = begin("tail", "-f", "ask", "--app", str(run.pid))
    said = read_until(tail.stdout.fileno(), rb"Name\? ")
    (tmp_path / "go").touch()
    said += read_until(tail.stdout.fileno(), rb"Ann\n")
    assert re.fullmatch(rb"\S+ stdout \| Name\? Ann\n", said)


@pytest.mark.parametrize("form", [r"\r%s%%", r"%s%%\r"])
def test_a_progress_bar_is_limited_and_its_last_state_is_shown(begin, tmp_path, form):
    count = "for i in $(seq 300); do printf '{}' $i; sleep 0.001; done; sleep 1000"
    (tmp_path / "Procfile").write_text(f"bar: {count.format(form)}\n")
    began = time.monotonic()
    run = begin("run", "--no-control", "Procfile")
    said = read_until(run.stdout.fileno(), rb"\| 300%")
    states = re.findall(rb"\| (\d+)%", said)
    assert b"\r" not in said
    assert len(states) <= 3 + 10 * (time.monotonic() - began)
    assert states[-1] == b"300"
    assert [*map(int, states)] == sorted(map(int, states))


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([("a", b"x\n"), ("b", b"y\n")], b"a|x\nb|y\n"),
        ([("a", b"x"), ("a", b"y\n")], b"a|xy\n"),
        ([("a", b"x"), ("b", b"z\n"), ("a", b"y\n")], b"a|x\nb|z\na|y\n"),
        ([("a", b"x"), ("b", b"z")], b"a|x\nb|z\n"),
        ([("a", b"x\r"), ("a", b"\n"), ("a", b"\n")], b"a|x\na|\n"),
        ([("a", b"\r"), ("a", b"1"), ("a", b"\r"), ("a", b"2")], b"a|1\na|2\n"),
    ],
)
def test_lines_of_several_sources_are_joined_on_one_screen(lines, shown):
    screen, said = Continuation(), b""
    for source, raw in lines:
        text = raw.strip(b"\r\n")
        said += screen.join(source, raw, source.encode() + b"|" + text, text)
    assert said + screen.close() == shown
