"""Reports, histories and the recognition of known failures."""

import json
from datetime import timedelta

import pytest

from realtalk_async.events import Cause
from realtalk_async.supervision.kernel.exit_status import describe_exit, signal_name
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.line import Clock
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.policy.restart import RestartPolicy
from realtalk_async.supervision.reports.report import (
    ErrorHistory,
    IncarnationReport,
    ProcessHistory,
    RecoveryAttempt,
    recognise,
)
from realtalk_async.supervision.reports.status import ProcessStatus, State
from realtalk_async.testing import programs
from realtalk_async.times import format_duration, format_hms, now_local

NOON = now_local().replace(hour=12, minute=0, second=0, microsecond=0)


def lines(*texts, stream="stderr"):
    """Return the lines of a buffer that contains these texts."""
    buffer = OutputBuffer(stream, clock=Clock())
    buffer.begin(1)
    for text in texts:
        buffer.append(f"{text}\n".encode(), 0.0)
    return OutputLines(buffer)


def report(number, cause=Cause.FAILED, began=0, ended=60, **changes):
    """
    Return the report of an incarnation that began and ended so many seconds after noon.
    """
    fields = {
        "process": "mic",
        "incarnation": number,
        "command": "sox -d",
        "pid": 100 + number,
        "started_at": NOON + timedelta(seconds=began),
        "ended_at": None if ended is None else NOON + timedelta(seconds=ended),
        "uptime": 60.0,
        "exit_status": 1,
        "cause": cause,
        "summary": "exit status 1 after 00:01:00",
        "sign": None,
        "last_lines": tuple(lines("last")),
        "stdout": lines("a", "b", "c", stream="stdout"),
        "stderr": lines("last"),
        "capture": "end of file",
        "usage": None,
        "timeline": ((NOON, "starting"), (NOON, "dead")),
    }
    return IncarnationReport(**{**fields, **changes})


def history(name, *records):
    status = ProcessStatus(
        name, 1, "dead", State.EXITED, len(records), NOON, None, 1.0, 1, 1, None, "why"
    )
    attempts = tuple(
        RecoveryAttempt(NOON, one.incarnation, "policy", succeeded=True, detail="pid 9")
        for one in records[:-1]
    )
    return ProcessHistory(status, records, attempts, ((NOON, "refused", "it runs"),))


# ---- signs of known failures


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("arecord: main:831: audio open error: Device or resource busy", "device busy"),
        ("parec: Connection failure: Connection refused", "no sound server"),
        (
            "sox FAIL formats: can't open input: can not open audio device",
            "no such device",
        ),
        ("Error opening input files: No such process", "no sound server"),
        ("[PulseAudio outdev] Cannot connect context: Refused", "no sound server"),
        ("Stream error: Entity killed", "no such device"),
        ("Stream error: No such entity", "no such device"),
        ("OSError: [Errno 98] Address already in use", "address in use"),
        ("MemoryError", "out of memory"),
        ("bash: ./x: Permission denied", "permission denied"),
    ],
)
def test_known_failures_are_recognised_with_advice(line, kind):
    """By the newest matching line."""
    sign = recognise(list(lines("something busy", line, "exiting")))
    assert (sign.kind, sign.line) == (kind, line)
    assert sign.advice


def test_an_unknown_failure_has_no_sign():
    assert recognise(list(lines("all is well", "busy as a bee"))) is None
    assert recognise([]) is None


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-15, "killed by SIGTERM"),
        (-11, "killed by SIGSEGV"),
        ("unknown", "exit status unknown: other code reaped the process"),
        (None, "never ran"),
    ],
)
def test_an_exit_status_is_described_by_the_name_of_the_signal(status, text):
    assert describe_exit(status) == text


def test_durations_and_signals_are_formatted_for_people():
    assert format_hms(3725.9) == "01:02:05"
    assert format_hms(400 * 3600) == "400:00:00"
    assert (format_duration(0.296), format_duration(60)) == ("0.30 s", "00:01:00")
    assert signal_name(99) == "signal 99"


# ---- reports and histories


def test_a_report_is_ready_for_json_with_the_requested_number_of_lines():
    result = report(1).to_dict()
    assert [line["text"] for line in result["stdout"]] == ["a", "b", "c"]
    assert [line["text"] for line in report(1).to_dict(most_lines=2)["stdout"]] == [
        "b",
        "c",
    ]
    assert report(1).to_dict(most_lines=0)["stdout"] == []
    json.dumps(result)


def test_the_text_of_a_report_contains_cause_output_and_usage():
    text = str(report(2, sign=recognise(list(lines("resource busy")))))
    for part in (
        "mic, incarnation 2: exit status 1",
        "sox -d",
        "pid       102",
        "00:01:00",
        "looks like device busy",
        "starting 12:00:00.000 → dead 12:00:00.000",
        "capture   end of file",
        "last",
    ):
        assert part in text
    assert "last lines (none)" in str(report(1, last_lines=()))


@pytest.mark.parametrize(
    ("cause", "failed"),
    [
        (None, False),
        (Cause.FINISHED, False),
        (Cause.STOPPED, False),
        (Cause.ESCALATED, True),
        (Cause.FAILED, True),
        (Cause.SIGNALLED, True),
        (Cause.UNHEALTHY, True),
        (Cause.SPAWN_FAILED, True),
        (Cause.UNKNOWN, True),
    ],
)
def test_only_some_causes_are_failures(cause, failed):
    assert report(1, cause).failed is failed


def test_a_history_contains_incarnations_attempts_and_refusals():
    one = history("mic", report(1), report(2, Cause.FINISHED, exit_status=0))
    assert one.name == "mic"
    assert one.exit_statuses == [1, 0]
    assert [failure.incarnation for failure in one.failures] == [1]
    result = one.to_dict(most_lines=1)
    assert result["exit_statuses"] == [1, 0]
    assert result["attempts"][0]["asked_by"] == "policy"
    assert result["errors"] == [[NOON.isoformat(), "refused", "it runs"]]
    json.dumps(result)
    assert "restarted by policy: pid 9" in str(one)
    assert "refused: it runs" in str(one)


HISTORY = history(
    "mic",
    report(1, Cause.FAILED, 0, 60),
    report(2, Cause.SIGNALLED, 60, 120),
    report(3, None, 120, None, exit_status=None),
)
ALL = ErrorHistory(
    {"mic": HISTORY, "player": history("player", report(1, Cause.FINISHED))}
)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, {"mic": [1, 2, 3], "player": [1]}),
        ({"process": "mic"}, {"mic": [1, 2, 3]}),
        ({"process": "unknown"}, {}),
        ({"failed": True}, {"mic": [1, 2]}),
        ({"failed": False}, {"mic": [3], "player": [1]}),
        ({"cause": "signalled"}, {"mic": [2]}),
        ({"cause": Cause.FINISHED}, {"player": [1]}),
        ({"since": NOON + timedelta(seconds=61)}, {"mic": [2, 3], "player": []}),
        ({"until": NOON + timedelta(seconds=60)}, {"mic": [1], "player": [1]}),
        (
            {"since": NOON + timedelta(seconds=61), "failed": True, "process": "mic"},
            {"mic": [2]},
        ),
    ],
    ids=str,
)
def test_histories_are_filtered_by_process_time_and_cause(conditions, expected):
    found = ALL.filter(**conditions)
    assert {
        name: [one.incarnation for one in part.incarnations]
        for name, part in found.items()
    } == expected
    for part in found.values():
        assert {one.after for one in part.attempts} <= {
            one.incarnation for one in part.incarnations
        }


def test_the_error_history_is_a_read_only_mapping():
    assert list(ALL) == ["mic", "player"]
    assert len(ALL) == 2
    assert ALL["mic"] is HISTORY
    json.dumps(ALL.to_dict())
    assert "mic: dead (exited)" in str(ALL)
    assert str(ErrorHistory()) == "nothing happened yet"


async def test_the_report_of_a_real_crash_has_usage_and_a_timeline(manager):
    command = programs.shell(
        "echo working; echo 'Device or resource busy' >&2; kill -11 $$"
    )
    policy = RestartPolicy("temporary")
    one = await manager.start("mic", command, restart=policy)
    await one.wait()
    report = one.get_report()
    assert (report.exit_status, report.cause) == (-11, "signalled")
    assert report.sign.kind == "device busy"
    assert report.usage.user + report.usage.system >= 0
    assert report.usage.peak_memory > 100_000
    assert {line.text for line in report.last_lines} == {
        "working",
        "Device or resource busy",
    }
    await one._lifecycle.until(lambda: one.is_settled)
    result = [what for _, what in one.get_report().timeline]
    assert result == ["starting", "running", "dead", "exited"]
    assert "killed by SIGSEGV after 00:00:00" in str(report)
    combined = one.get_combined_output()
    assert "stdout [" in str(combined)
    json.dumps(combined.to_dict())
