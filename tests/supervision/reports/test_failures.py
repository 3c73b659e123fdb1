"""The text of an error of the app's own code."""

import asyncio
import errno
import socket

import pytest

from realtalk_async.exceptions import ServiceUnreachable
from realtalk_async.supervision.reports.failures import describe_error, format_failure

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")
ONE_LINE = "ConnectionRefusedError: [Errno 111] Connection refused\n"


class ConnectError(Exception):
    """As libraries of HTTP have it."""


def raised(error, cause=None):
    try:
        try:
            if cause is not None:
                raise cause
        except BaseException as exc:
            raise error from exc
        raise error
    except BaseException as exc:
        return exc


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (REFUSED, ONE_LINE),
        (UNREACHABLE, "OSError: [Errno 101] Network is unreachable\n"),
        (
            TimeoutError(errno.ETIMEDOUT, "Connect call failed"),
            "TimeoutError: [Errno 110] Connect call failed\n",
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            "socket.gaierror: [Errno -2] Name or service not known\n",
        ),
        (  # asyncio, for a name with several addresses
            OSError("Multiple exceptions: [Errno 111] Connect call, [Errno 101] no"),
            "OSError: Multiple exceptions: [Errno 111] Connect call, [Errno 101] no\n",
        ),
        (ExceptionGroup("tasks", [REFUSED, REFUSED]), ONE_LINE),
        (
            ExceptionGroup("tasks", [ExceptionGroup("more", [REFUSED]), UNREACHABLE]),
            f"{ONE_LINE}OSError: [Errno 101] Network is unreachable\n",
        ),
    ],
)
def test_an_error_of_the_network_is_one_line(error, text):
    assert format_failure(raised(error)) == text


def test_an_error_that_was_raised_from_it_has_its_cause_in_the_same_line():
    error = raised(ConnectError("all attempts failed"), REFUSED)
    text = format_failure(error)
    assert text.endswith(
        "ConnectError: all attempts failed (from ConnectionRefusedError: [Errno 111] "
        "Connection refused)\n"
    )
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no number"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        ConnectionError("raised by the app"),
        OSError("Multiple exceptions: [Errno 111] x, [Errno 13] Permission denied"),
        ExceptionGroup("tasks", [REFUSED, ValueError("no number")]),
    ],
)
def test_any_other_error_has_its_traceback(error):
    assert "Traceback (most recent call last)" in format_failure(raised(error))


def test_an_error_while_one_of_the_network_is_handled_has_its_traceback():
    try:
        try:
            raise REFUSED
        except OSError:
            {}["name"]  # a mistake in the app's code
    except KeyError as error:
        assert "in test_an_error_while" in format_failure(error)


async def test_the_reason_of_a_group_is_that_of_its_errors(manager):
    async def connect():
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.open_connection("127.0.0.1", port))

    task = await manager.start_task("client", connect, restart="temporary")
    status = await task.wait_until_settled()
    assert status.reason.startswith("ConnectionRefusedError: [Errno 111]")
    (line,) = task.get_report().last_lines
    assert line.text.startswith("ConnectionRefusedError: [Errno 111]")


def test_an_error_of_a_session_is_one_line():
    error = raised(ServiceUnreachable("no answer"))
    assert format_failure(error).endswith("ServiceUnreachable: no answer\n")
    assert "Traceback" not in format_failure(error)


def test_a_group_of_several_errors_is_described_by_each():
    text = describe_error(ExceptionGroup("x", [ValueError("a"), KeyError("b")]))
    assert text == "ValueError: a; KeyError: 'b'"
