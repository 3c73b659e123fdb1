"""
Every argument of every public function and constructor is checked at the call.

The table has a row for each public function, method and constructor. A row has, for each
parameter, either values that must be refused or the reason why there are none.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import math
import re
from collections.abc import Coroutine
from datetime import datetime
from importlib import import_module
from typing import Any, NamedTuple, TextIO

import pytest

from realtalk_async import (
    CLOSE_STDIN,
    PERMANENT,
    TEMPORARY,
    ChildSpec,
    Command,
    History,
    InvalidConfiguration,
    Ladder,
    Level,
    Limits,
    LogEntry,
    Logger,
    ManagedProcess,
    NotStarted,
    Probe,
    ProcessManager,
    RestartPolicy,
    Stream,
    SupervisedTask,
    UnknownProcess,
    WrongEventLoop,
    arguments,
    control,
    logs,
    offline,
    ops,
    supervision,
    voice,
)
from realtalk_async.control.protocol import Request
from realtalk_async.testing import programs, virtual_time

PACKAGES = ["", ".control", ".logs", ".offline", ".ops", ".supervision", ".voice"]
MODULES_WITHOUT_ALL = [".testing.programs", ".testing.virtual_time"]

# Values that must be refused, by the kind of the argument.
NAN, INF, HUGE = math.nan, math.inf, 10**400
NAME = ("", " ", "a\nb", 5, b"x", ["x"], None)
NAME_OR_NONE = NAME[:-1]
TEXT = (5, b"x", ["x"], None)
TEXT_OR_NONE = TEXT[:-1]
WORDS = ("", " \n", *TEXT)
FLAG = (1, "yes", None)
FLAG_OR_NONE = FLAG[:-1]
WAIT = (-1, -INF, NAN, HUGE, "1", True, [1], None)
WAIT_OR_NONE = WAIT[:-1]
SECONDS = (INF, *WAIT)
POSITIVE = (0, *SECONDS)
COUNT = (-1, 1.5, NAN, "1", True, None)
COUNT_OR_NONE = COUNT[:-1]
POSITIVE_COUNT = (0, *COUNT)
PORT = (-1, 65536, 1.5, "80", True, None)
FUNCTION = (5, "print", [print], None)
FUNCTION_OR_NONE = FUNCTION[:-1]
PATTERN = ("(", 5, b"x", re.compile(b"x"), None)
PATTERN_OR_NONE = PATTERN[:-1]
PATH = ("", "a\0b", 5, b"x", None)
JSON_OBJECT = (5, "x", [], {1: 2}, {"a": NAN}, {"a": {2}}, {"a": b"x"}, None)
PATH_OR_NONE = PATH[:-1]
MOMENT_OR_NONE = (datetime(2026, 1, 1), "12:00", 0)  # noqa: DTZ001
STREAM = ("stdin", "", 1, None, ["stdout"])
PURPOSE = ("startup", "", 1, None)
POLICY = ("always", "", "PERMANENT", 1, None, RestartPolicy, ["permanent"])
COMMAND = ("sleep 1", "sox", 5, None, [], [5], ["a\0b"], {"sox": "-d"}, b"sox")
NAMES = ("server", b"server", 5, None, {"server": 1}, [""], ["a\nb"], [5], [None])
SPECS = ("server", 5, None, [5], ["server"], [ChildSpec], {"server": 1})
PROBES = (Probe.line("x"), "line", ["line"], [Probe.line], 5, None, {"a": 1}, [None])
LADDER = ("TERM", 15, ("TERM", 2), [("TERM", 2)], None, Ladder)
LOGGER = ("app.log", None, 5, Logger)
MANAGER = ("manager", None, 5, ProcessManager)
MECHANISM = ("cgroups", "", 1, ["group"], None)
KINDS = ("Connected", int, 5, None)
OTHER_STREAM = ("stream", 5, Stream)
SIGNAL = ("NOSIGNAL", "", 999, -1, 0, 1.5, True, None)
EXCEPTIONS = (ValueError, [5], ["ValueError"], [int], 5, None)
VARIABLES = ("A=1", ["A"], {"": "x"}, {"A=B": "x"}, {5: "x"}, {"A": True}, {"A": "x\0"})
DEVICE = (7, "", [], [5], b"x", "a\0b", {"a": 1}, ("sox", None))
FAULT = (5, None, ["drop"], b"drop")
URL = ("http://x", "x", "ws://", "ws://host:port", 5, b"ws://x")

# Reasons why a parameter has no such values.
NEVER_RAISES = "a log call never raises because of its component, message or context"
CALLED_BY_LOGGING = "logging calls it"
CALLED_BY_MANAGER = "the manager calls it"
CALLED_BY_LOOP = "the event loop calls it"
AS_ASYNCIO = "asyncio's own options"
AS_COMMAND = "the arguments of Command"

RESULTS = [
    "AudioProgram",
    "Cause",
    "CombinedOutput",
    "Connected",
    "ConnectionLost",
    "ConnectionRecycled",
    "ConnectionRestored",
    "Containment",
    "DefaultDeviceChanged",
    "DeviceFailed",
    "DeviceProblem",
    "EndpointChanged",
    "Difference",
    "Entry",
    "ErrorHistory",
    "EventsMissed",
    "Explanation",
    "IncarnationReport",
    "Interrupted",
    "InterruptionPending",
    "Message",
    "SpeechIgnored",
    "LeakReport",
    "LimitReached",
    "LogEntry",
    "LogStatistics",
    "LoggedEvent",
    "Machine",
    "Metrics",
    "MicrophoneProblem",
    "OutageAnnounced",
    "Outcome",
    "SelfTalk",
    "Usage",
    "OutputLine",
    "OutputLines",
    "PlaybackCleared",
    "PlayerSwitched",
    "ProcessHistory",
    "ProcessStatus",
    "ProtocolProblem",
    "PythonWarning",
    "Question",
    "Received",
    "RecoveryAttempt",
    "ResponseFinished",
    "ResponseRequest",
    "ResponseRequested",
    "ResponseStarted",
    "ResponseText",
    "ServiceError",
    "SessionUpdated",
    "ToolLimitReached",
    "ToolsInterrupted",
    "SpeechStarted",
    "SpeechStopped",
    "Spoken",
    "Summary",
    "ToolCalled",
    "ToolFinished",
    "TranscriptionFailed",
    "TurnLatency",
    "UnknownEvent",
    "UserTranscript",
    "VoiceEvent",
]
"""Classes whose objects the package makes and an app only reads."""


class Work(Coroutine):
    """A coroutine that nobody has to await."""

    def send(self, value):
        raise StopIteration

    def throw(self, *exc):
        raise StopIteration

    def close(self):
        pass

    def __await__(self):
        yield


class World(NamedTuple):
    """The objects whose methods are called."""

    logger: Logger
    manager: ProcessManager
    process: ManagedProcess
    task: SupervisedTask
    stream: Stream
    folder: object
    finished: asyncio.subprocess.Process


class Row(NamedTuple):
    """A public function, valid arguments, and what each of its parameters refuses."""

    target: object
    """Returns the function, given the `World`."""
    good: object
    """Returns valid arguments by name, given the `World`."""
    bad: dict[str, tuple[object, ...] | str]
    """By parameter, the values to refuse, or the reason why there are none."""


async def work():
    """Do nothing."""


async def check(process):
    """Pass."""


async def a_tool(city: str) -> str:
    """Return its argument."""
    return city


def fixed(function, good, /, **bad):
    """Return the row of a function or a class."""
    return Row(lambda _: function, lambda w: good(w) if callable(good) else good, bad)


def method(get, name, good, /, **bad):
    """Return the row of a method of one of the objects of the world."""
    return Row(
        lambda w: getattr(get(w), name),
        lambda w: good(w) if callable(good) else good,
        bad,
    )


def manager_of(world):
    """Return the manager."""
    return world.manager


def process_of(world):
    """Return the process."""
    return world.process


def stream_of(world):
    """Return the session."""
    return world.stream


def logger_of(world):
    """Return the logger."""
    return world.logger


PERIODIC = {
    "purpose": PURPOSE,
    "period": POSITIVE,
    "timeout": POSITIVE,
    "grace": SECONDS,
    "failure_threshold": POSITIVE_COUNT,
}
OF_A_SERVER = PERIODIC | {
    "failure_threshold": tuple(one for one in POSITIVE_COUNT if one is not None)
}
LINES = {"most_lines": COUNT_OR_NONE}
TCP = fixed(
    supervision.tcp_probe, {"port": 80}, port=(0, *PORT), host=NAME, **OF_A_SERVER
)
HTTP = fixed(
    supervision.http_probe,
    {"url": "http://localhost"},
    url=("localhost", "ftp://x", "http://", "http://a:b", "http://a b", 5, None, b"x"),
    **OF_A_SERVER,
)
EXEC = fixed(supervision.exec_probe, {"command": ["true"]}, command=COMMAND, **PERIODIC)
POLICY_FIELDS = {
    "mode": POLICY,
    "max_failures": WAIT,
    "decay": POSITIVE,
    "first_delay": SECONDS,
    "max_delay": SECONDS,
    "jitter": FLAG,
    "success_statuses": (0, "0", None, ["0"], [True], {0: 1}),
    "fatal_statuses": (0, "0", None, ["0"], [1.5]),
}
START = {
    "name": NAME,
    "restart": POLICY,
    "critical": FLAG,
    "depends_on": NAMES,
    "binds_to": NAMES,
    "devices": NAMES,
    "device_patience": WAIT,
}
PROCESS = {
    **START,
    "command": COMMAND,
    "oneshot": FLAG,
    "probes": PROBES,
    "recover": FUNCTION_OR_NONE,
    "ladder": LADDER,
    "max_size": POSITIVE_COUNT,
    "containment": MECHANISM[:-1],
}


def old(world):
    """Return a report of the history of the process."""
    return world.process.get_history()


TABLE: dict[str, Row | str] = {
    # ---- supervision
    "Command": fixed(
        Command,
        {"program": "true"},
        program=(
            "",
            "a\0b",
            5,
            None,
            b"x",
            ["echo", "hi"],
            "echo a | tr a b",
            "sh -c x",
        ),
        args=(None, b"x", "a\0b", ["x"], True),
        env=VARIABLES,
        cwd=PATH_OR_NONE,
        stdin=FLAG,
        stdout=("text", "", 1, None),
        redirect=("stdin", ["stdin"], {"stdio": 1}, {5: 1}),
        options=("umask", ["umask"], {"preexec_fn": print}, {5: 1}),
        limits=(512, {"memory": 1 << 20}, "512M", Limits),
        tty=FLAG,
    ),
    "Limits": fixed(
        Limits,
        {},
        memory=("512M", 512, *POSITIVE_COUNT[:-1]),
        processes=POSITIVE_COUNT[:-1],
        cpu=(0.5, *POSITIVE_COUNT[:-1]),
        open_files=(3, *POSITIVE_COUNT[:-1]),
    ),
    "Command.of": fixed(Command.of, {"command": ["true"]}, command=COMMAND),
    "Command.shell": fixed(
        Command.shell, {"line": "true"}, line=WORDS, rest=AS_COMMAND
    ),
    "Command.environment": fixed(Command("true").environment, {}, extra=VARIABLES),
    "Command.replace": fixed(Command("true").replace, {}, args=(True, None, "a\0b")),
    "Ladder": fixed(
        Ladder,
        {},
        steps=(
            *("TERM", 15, None, ("TERM",), ("TERM", 2, 3), {"TERM": 2}),
            *((signal, 1) for signal in SIGNAL if type(signal) is not int or signal),
            *(("TERM", wait) for wait in SECONDS),
        ),
    ),
    "History": fixed(
        History,
        {},
        incarnations=POSITIVE_COUNT[:-1],
        names=POSITIVE_COUNT[:-1],
        output=POSITIVE_COUNT[:-1],
    ),
    "RestartPolicy": fixed(RestartPolicy, {}, **POLICY_FIELDS),
    "RestartPolicy.of": fixed(RestartPolicy.of, {}, restart=POLICY),
    "RestartPolicy.delay": fixed(
        PERMANENT.delay,
        {"failures": 1, "share": 0.5},
        failures=SECONDS,
        share=(*SECONDS, 1.1),
    ),
    "Probe": fixed(
        Probe,
        {"name": "x", "check": check},
        name=WORDS,
        check=FUNCTION,
        last_sign=FUNCTION_OR_NONE,
        once=FLAG,
        make_check=FUNCTION_OR_NONE,
        **PERIODIC,
    ),
    "Probe.silence": fixed(
        Probe.silence, {"seconds": 1}, seconds=POSITIVE, stream=STREAM, grace=SECONDS
    ),
    "Probe.rate": fixed(
        Probe.rate,
        {"bytes_per_second": 1},
        bytes_per_second=POSITIVE,
        stream=STREAM,
        window=POSITIVE,
        grace=SECONDS,
        failure_threshold=POSITIVE_COUNT,
    ),
    "Probe.line": fixed(
        Probe.line, {"pattern": "x"}, pattern=PATTERN, timeout=POSITIVE
    ),
    "Probe.call": fixed(Probe.call, {"function": print}, function=FUNCTION, **PERIODIC),
    "Probe.tcp": TCP,
    "Probe.http": HTTP,
    "Probe.exec": EXEC,
    "tcp_probe": TCP,
    "http_probe": HTTP,
    "exec_probe": EXEC,
    "ProcessManager": fixed(
        ProcessManager,
        lambda w: {"logger": w.logger},
        logger=LOGGER,
        check_interval=POSITIVE,
        guard=FLAG,
        strategy=("one", "", 1, None),
        max_restarts=COUNT_OR_NONE,
        window=POSITIVE,
        shutdown_timeout=WAIT,
        history=(100, "all", History),
        containment=MECHANISM,
    ),
    "ProcessManager.start": method(
        manager_of,
        "start",
        {"name": "x", "command": ["sleep", "60"]},
        **PROCESS,
    ),
    "ChildSpec": fixed(
        ChildSpec,
        {"name": "x", "command": Command("sleep", "60")},
        **PROCESS,
    ),
    "ProcessManager.apply": method(manager_of, "apply", {}, specs=SPECS),
    "ProcessManager.compare": method(manager_of, "compare", {}, specs=SPECS),
    "ProcessManager.start_task": method(
        manager_of,
        "start_task",
        {"name": "x", "function": work},
        function=FUNCTION,
        fatal=EXCEPTIONS,
        **START,
    ),
    "ProcessManager.register_process": method(
        manager_of,
        "register_process",
        lambda w: {"process": w.finished, "name": "x"},
        process=("sox", None, 5, Command("true"), ["true"]),
        name=NAME,
        restart=POLICY,
        restart_function=FUNCTION_OR_NONE,
        critical=FLAG,
        ladder=LADDER,
        probes=PROBES,
        max_size=POSITIVE_COUNT,
    ),
    "ProcessManager.create_subprocess_exec": method(
        manager_of,
        "create_subprocess_exec",
        {"program": "true"},
        program=(5, None, ["echo"]),
        args=(5, None, ["x"]),
        name=NAME_OR_NONE,
        stdin=("PIPE", 1.5),
        stdout=("PIPE", 1.5),
        stderr=("PIPE", 1.5),
        limit=POSITIVE_COUNT,
        restart=POLICY,
        critical=FLAG,
        options=AS_ASYNCIO,
    ),
    "ProcessManager.create_subprocess_shell": method(
        manager_of,
        "create_subprocess_shell",
        {"cmd": "true"},
        cmd=(5, None, ["true"]),
        name=NAME_OR_NONE,
        options=AS_ASYNCIO,
    ),
    "ProcessManager.stop": method(manager_of, "stop", {}, name=TEXT),
    "ProcessManager.check_process": method(manager_of, "check_process", {}, name=TEXT),
    "ProcessManager.explain": method(manager_of, "explain", {}, name=TEXT),
    "ProcessManager.get_error_history": method(
        manager_of, "get_error_history", {}, name=TEXT_OR_NONE
    ),
    "ProcessManager.restart_process": method(
        manager_of,
        "restart_process",
        {"name": "one"},
        name=TEXT,
        restart_function=FUNCTION_OR_NONE,
    ),
    "ProcessManager.restart": method(manager_of, "restart", {"name": "one"}, name=TEXT),
    "ProcessManager.run_in_background": method(
        manager_of, "run_in_background", {}, work=(5, None, work, "work")
    ),
    "ProcessManager.get_details": method(manager_of, "get_details", {}, name=TEXT),
    "ProcessManager.set_details": method(
        manager_of,
        "set_details",
        {"name": "one", "function": list},
        name=TEXT,
        function=FUNCTION,
    ),
    "ProcessManager.subscribe": method(
        manager_of,
        "subscribe",
        {"subscriber": print},
        subscriber=FUNCTION,
        kinds=KINDS,
    ),
    "ProcessManager.events": method(
        manager_of, "events", {}, kinds=KINDS, size=POSITIVE_COUNT
    ),
    "ProcessManager.print_events": method(
        manager_of, "print_events", {}, file=("events.txt", 2, b"x", TextIO)
    ),
    "ManagedProcess": fixed(
        ManagedProcess,
        lambda w: {"process": Command("true"), "name": "x", "logger": w.logger},
        process=COMMAND,
        name=NAME,
        logger=LOGGER,
        max_size=POSITIVE_COUNT,
        restart=POLICY,
        recover=FUNCTION_OR_NONE,
        ladder=LADDER,
        probes=PROBES,
        drain=SECONDS,
        devices=NAMES,
        device_patience=WAIT,
        oneshot=FLAG,
        wait_for_dependencies=FUNCTION_OR_NONE,
        earlier=COUNT,
        supervisor=("supervisor", 5),
        containment=("cgroup", *MECHANISM),
    ),
    "ManagedProcess.bytes_received": method(
        process_of, "bytes_received", {}, stream=STREAM
    ),
    "ManagedProcess.follow": method(
        process_of, "follow", {}, streams=STREAM, history=FLAG
    ),
    "ManagedProcess.follow_bytes": method(
        process_of, "follow_bytes", {}, stream=STREAM
    ),
    "ManagedProcess.get_volume": method(
        process_of, "get_volume", {"stream": "stdout"}, stream=STREAM, most=COUNT
    ),
    "ManagedProcess.count_lines": method(process_of, "count_lines", {}, stream=STREAM),
    "ManagedProcess.last_line": method(process_of, "last_line", {}, stream=STREAM),
    "ManagedProcess.silent_for": method(process_of, "silent_for", {}, stream=STREAM),
    "ManagedProcess.mark_checked": method(
        process_of, "mark_checked", {}, now=CALLED_BY_MANAGER
    ),
    "ManagedProcess.resize": method(
        process_of,
        "resize",
        {"columns": 80, "rows": 24},
        columns=(1 << 16, *POSITIVE_COUNT[:-1]),
        rows=(1 << 16, *POSITIVE_COUNT[:-1]),
    ),
    "ManagedProcess.restart": method(
        process_of, "restart", {}, restart_function=FUNCTION_OR_NONE
    ),
    "ManagedProcess.restart_with_group": method(
        process_of, "restart_with_group", {}, why=WORDS
    ),
    "ManagedProcess.send": method(
        process_of,
        "send",
        {"data": b"x"},
        data=("text", 5, None, [1]),
        timeout=WAIT,
    ),
    "ManagedProcess.send_signal": method(process_of, "send_signal", {}, number=SIGNAL),
    "ManagedProcess.wait_for_line": method(
        process_of, "wait_for_line", {"pattern": "x"}, pattern=PATTERN, timeout=WAIT
    ),
    "SupervisedTask": fixed(
        SupervisedTask,
        lambda w: {"function": work, "name": "x", "supervisor": w.manager._supervisor},
        function=FUNCTION,
        name=NAME,
        supervisor=("supervisor", None, 5),
        restart=POLICY,
        fatal=EXCEPTIONS,
        wait_for_dependencies=FUNCTION_OR_NONE,
        earlier=COUNT,
    ),
    "SupervisedTask.mark_checked": method(
        lambda w: w.task, "mark_checked", {}, now=CALLED_BY_MANAGER
    ),
    "SupervisedTask.restart_with_group": method(
        lambda w: w.task, "restart_with_group", {}, why=WORDS
    ),
    "OutputLines.between": method(
        lambda w: w.process.get_stdout(),
        "between",
        {},
        since=MOMENT_OR_NONE,
        until=MOMENT_OR_NONE,
    ),
    "ErrorHistory.filter": method(
        lambda w: w.manager.get_error_history(),
        "filter",
        {},
        process=TEXT_OR_NONE,
        since=MOMENT_OR_NONE,
        until=MOMENT_OR_NONE,
        cause=("bored", "", 5),
        failed=FLAG_OR_NONE,
    ),
    "ErrorHistory.to_dict": method(
        lambda w: w.manager.get_error_history(), "to_dict", {}, **LINES
    ),
    "ProcessHistory.to_dict": method(old, "to_dict", {}, **LINES),
    "IncarnationReport.to_dict": method(
        lambda w: w.process.get_report(), "to_dict", {}, **LINES
    ),
    "Explanation.to_dict": method(
        lambda w: w.manager.explain("one"), "to_dict", {}, **LINES
    ),
    # ---- logs
    "Logger": fixed(
        Logger,
        lambda w: {"log_path": w.folder / "new.log"},
        log_path=PATH_OR_NONE,
        max_bytes=(0, *COUNT_OR_NONE),
        backups=COUNT,
        max_waiting=POSITIVE_COUNT,
        secrets=("secret", 5, None, [5], {"a": 1}),
        line_format=("xml", "", 5, None),
        spool=FLAG,
    ),
    **{
        f"Logger.{level}": method(
            logger_of,
            level,
            {},
            component=NEVER_RAISES,
            message=NEVER_RAISES,
            context=NEVER_RAISES,
        )
        for level in ("info", "warning", "error")
    },
    "Logger.log": method(
        logger_of,
        "log",
        {"component": "x", "message": "x"},
        level=("DEBUG", "", 20, None),
        component=NEVER_RAISES,
        message=NEVER_RAISES,
        context=NEVER_RAISES,
    ),
    "Logger.bind": method(
        logger_of,
        "bind",
        {"component": "x"},
        component=TEXT,
        context=("x", 5, ["x"]),
    ),
    "Logger.hide": method(logger_of, "hide", {}, secrets=TEXT),
    "Logger.get_logs": method(
        logger_of,
        "get_logs",
        {},
        level=("DEBUG", "", 20),
        component=TEXT_OR_NONE,
        pattern=PATTERN_OR_NONE,
        n=COUNT_OR_NONE,
        since=MOMENT_OR_NONE,
        until=MOMENT_OR_NONE,
    ),
    "Logger.follow_logs": method(
        logger_of,
        "follow_logs",
        {},
        level=("DEBUG", "", 20),
        component=TEXT_OR_NONE,
        pattern=PATTERN_OR_NONE,
    ),
    "Logger.install": method(logger_of, "install", {}, level=("INFO", -1, True, 1.5)),
    "install": fixed(
        logs.install,
        lambda w: {"logger": w.logger},
        logger=LOGGER,
        level=("INFO", -1, True, 1.5),
    ),
    "Installed.on_undo": fixed(logs.Installed().on_undo, {}, undo=FUNCTION),
    "LogHandler": fixed(
        logs.LogHandler,
        lambda w: {"logger": w.logger},
        logger=LOGGER,
        level=("INFO", -1, True, None),
    ),
    "LogHandler.emit": method(
        lambda w: logs.LogHandler(w.logger), "emit", {}, record=CALLED_BY_LOGGING
    ),
    "StructlogProcessor": fixed(
        logs.StructlogProcessor,
        lambda w: {"logger": w.logger},
        logger=LOGGER,
        last=FLAG,
    ),
    **{
        f"BoundLogger.{level}": method(
            lambda w: w.logger.bind("x"),
            level,
            {},
            message=NEVER_RAISES,
            context=NEVER_RAISES,
        )
        for level in ("info", "warning", "error", "exception")
    },
    "BoundLogger.log": method(
        lambda w: w.logger.bind("x"),
        "log",
        {"message": "x"},
        level=("DEBUG", "", 20, None),
        message=NEVER_RAISES,
        context=NEVER_RAISES,
    ),
    "Level.of": Row(
        lambda _: lambda level: Level.of(level),
        lambda _: {},
        {"level": ("DEBUG", "", 20, None)},
    ),
    "format_line": fixed(
        logs.format_line,
        {"entry": LogEntry(datetime.now().astimezone(), Level.INFO, "x", "x")},
        entry=("x", None, 5),
        line_format=("text", None, 5),
    ),
    "parse_line": fixed(logs.parse_line, {}, line=(5, None, ["x"])),
    "parse_python_warning": fixed(logs.parse_python_warning, {}, line=TEXT),
    # ---- voice
    "Stream": fixed(
        Stream,
        lambda w: {"logger": w.logger, "process_manager": w.manager},
        logger=("app.log", 5, Logger),
        process_manager=("manager", 5, ProcessManager),
        url=(*URL, [], [None], ["ws://x", ""]),
        api_key=TEXT_OR_NONE,
        model=NAME,
        voice=NAME,
        instructions=TEXT_OR_NONE,
        microphone=DEVICE,
        speaker=DEVICE,
        turn_detection=("server_vad", 5, voice.ServerVad),
        transcription=NAME_OR_NONE,
        half_duplex=FLAG,
        standby=FLAG,
        interrupt_when=(5, "loud", voice.InterruptWhen),
        audio_format=(5, None, "pcm", "audio/opus"),
        prebuffer_ms=SECONDS,
        record=PATH_OR_NONE,
        tools=(a_tool, "tool", 5, None, ["tool"], [print], {"a": a_tool}),
        max_tool_steps=POSITIVE_COUNT,
        session=JSON_OBJECT[:-1],
        history=(5, None, voice.HistoryLimits),
        limits=(5, None, voice.SessionLimits),
        outage_sound=(*PATH_OR_NONE, voice.OutageSound),
        stall_after=POSITIVE,
        handle_signals=FLAG_OR_NONE,
    ),
    "Stream.start_streaming": method(
        stream_of,
        "start_streaming",
        {},
        api_key=TEXT_OR_NONE,
        model=NAME_OR_NONE,
        voice=NAME_OR_NONE,
        task_status=("ready", 5),
    ),
    "Stream.error_history": method(
        stream_of, "error_history", {}, process_name=TEXT_OR_NONE
    ),
    "Stream.events": method(stream_of, "events", {}, kinds=KINDS, size=POSITIVE_COUNT),
    "Stream.save_timeline": method(stream_of, "save_timeline", {}, path=PATH),
    "Stream.send_text": method(
        stream_of,
        "send_text",
        {"text": "Hello"},
        text=WORDS,
        role=("me", "", 5, None),
        trigger_response=FLAG,
    ),
    "Stream.reconnect": method(stream_of, "reconnect", {}, timeout=WAIT_OR_NONE),
    "Stream.update_session": method(
        stream_of, "update_session", {}, options=JSON_OBJECT
    ),
    "Stream.send_event": method(
        stream_of,
        "send_event",
        {},
        event=(*JSON_OBJECT, {}, {"type": 5}, {"type": "session.update"}),
    ),
    "Stream.send_image": method(
        stream_of,
        "send_image",
        {"image": b"\x89PNG\r\n\x1a\n"},
        image=("", "a\0b", 5, None, [], b"", b"GIF89a", "no such file.png"),
        text=WORDS[:-1],
        detail=("most", "", 5, None),
        trigger_response=FLAG,
    ),
    "Stream.set_status_message": method(stream_of, "set_status_message", {}, text=TEXT),
    "Stream.stop_talking": method(stream_of, "stop_talking", {}, discard=FLAG),
    "Stream.subscribe": method(
        stream_of,
        "subscribe",
        {"callback": print},
        callback=FUNCTION,
        kinds=KINDS,
    ),
    "Stream.view_log": method(
        stream_of,
        "view_log",
        {},
        pattern=PATTERN_OR_NONE,
        direction=("up", "", 5),
        since=MOMENT_OR_NONE,
        n=COUNT_OR_NONE,
        file=("log.txt", 5),
    ),
    "Stream.wait_for_response": method(
        stream_of, "wait_for_response", {}, timeout=WAIT_OR_NONE
    ),
    "Stream.wait_until_played": method(
        stream_of, "wait_until_played", {}, timeout=WAIT_OR_NONE
    ),
    "InterruptWhen": fixed(
        voice.InterruptWhen,
        {},
        speech_ms=SECONDS,
        level_dbfs=(1, "loud", None),
        decide=FUNCTION_OR_NONE,
        timeout=POSITIVE,
    ),
    "ServerVad": fixed(
        voice.ServerVad,
        {},
        threshold=(*SECONDS, 1.1),
        prefix_padding_ms=COUNT,
        silence_duration_ms=COUNT,
        create_response=FLAG,
        interrupt_response=FLAG,
    ),
    "SemanticVad": fixed(
        voice.SemanticVad,
        {},
        eagerness=("eager", "", 5, None),
        create_response=FLAG,
        interrupt_response=FLAG,
    ),
    "Tool": fixed(
        voice.Tool,
        {"name": "x", "description": "", "parameters": {}, "call": print},
        name=("a b", *NAME),
        description=TEXT,
        parameters=("{}", 5, None, []),
        call=FUNCTION,
        timeout=POSITIVE,
        cancel_on_interruption=FLAG,
        runs_in_thread=FLAG,
    ),
    "Tool.of": fixed(
        voice.Tool.of,
        {"function": a_tool},
        function=FUNCTION,
        name=("a b", *NAME_OR_NONE),
        description=TEXT_OR_NONE,
        timeout=POSITIVE,
        cancel_on_interruption=FLAG,
    ),
    "EventFeed": fixed(
        voice.EventFeed,
        {"kinds": (), "size": 1},
        kinds=(voice.Connected, "Connected", ["Connected"], [int], 5, None),
        size=POSITIVE_COUNT,
        gap_event=FUNCTION_OR_NONE,
    ),
    "EventFeed.push": fixed(voice.EventFeed((), 1).push, {}, event=("x", None, int)),
    "HistoryLimits": fixed(
        voice.HistoryLimits,
        {},
        replay_items=COUNT,
        replay_characters=COUNT,
        summarize=FUNCTION_OR_NONE,
        summarize_timeout=POSITIVE,
        kept_items=POSITIVE_COUNT,
        kept_outcomes=POSITIVE_COUNT,
        kept_events=POSITIVE_COUNT,
    ),
    "SessionLimits": fixed(
        voice.SessionLimits,
        {},
        tokens=POSITIVE_COUNT[:-1],
        minutes=POSITIVE[:-1],
        idle_minutes=POSITIVE[:-1],
        self_talk=POSITIVE_COUNT,
    ),
    "OutageSound": fixed(
        voice.OutageSound, {"path": "a.wav"}, path=PATH, after=SECONDS
    ),
    "EventLog": fixed(
        voice.EventLog, {}, most=POSITIVE_COUNT, most_bytes=POSITIVE_COUNT
    ),
    "EventLog.find": fixed(
        voice.EventLog().find,
        {},
        pattern=PATTERN_OR_NONE,
        direction=("up", "", 5),
        since=MOMENT_OR_NONE,
        n=COUNT_OR_NONE,
    ),
    "EventLog.record": fixed(
        voice.EventLog().record,
        {"direction": "sent", "data": {}},
        direction=("up", "", 5, None),
        data=("{}", 5, None, []),
        at=MOMENT_OR_NONE,
    ),
    "Metrics.latency": method(
        lambda w: w.stream.metrics(), "latency", {}, share=(*SECONDS, 1.1)
    ),
    # ---- offline
    "Fault": fixed(
        offline.Fault,
        {"kind": "drop"},
        kind=("fire", "", 5, None),
        argument=TEXT,
        event=TEXT,
        count=POSITIVE_COUNT,
    ),
    "Fault.parse": fixed(offline.Fault.parse, {}, text=TEXT),
    "Peer": fixed(
        offline.Peer,
        {},
        port=PORT,
        host=NAME,
        pace=SECONDS,
        lifetime=SECONDS,
        record=FLAG,
        faults=("drop:5", 5, None, [5], [None], {"drop": 5}),
        recogniser=("parrot", "", 5, None),
        answer=("yes", 5),
        script=("hello", 5, [5], [("a",)], [("a", 5)], {"a": "b"}),
        latency=(-1, "1", None, (1,), (1, 2), True),
        seed=("1", None, 1.5),
    ),
    "Peer.say": Row(
        lambda _: offline.Peer().say,
        lambda _: {"reply": "x"},
        {"reply": (5, None, [5], {}), "connection": (0, *COUNT_OR_NONE)},
    ),
    "Peer.send": Row(
        lambda _: offline.Peer().send,
        lambda _: {"event": {"type": "x"}},
        {
            "event": ("x", 5, None, {}, {"type": 5}, {"type": "x", "a": object()}),
            "connection": (0, *COUNT_OR_NONE),
        },
    ),
    "ReceivedEvents.find": fixed(
        offline.ReceivedEvents().find,
        {},
        event_type=("", 5),
        connection=(0, *COUNT_OR_NONE),
        where=("x", 5),
    ),
    "ToolCall": fixed(
        offline.ToolCall,
        {"name": "f"},
        name=NAME,
        arguments=(5, None, [1], {"a": object()}),
    ),
    "Failure": fixed(offline.Failure, {}, code=NAME, message=(5, None)),
    "Peer.fault": Row(lambda _: offline.Peer().fault, lambda _: {}, {"fault": FAULT}),
    "Peer.types": Row(
        lambda _: offline.Peer().types,
        lambda _: {},
        {"connection": (0, *COUNT_OR_NONE)},
    ),
    "Peer.wait_received": Row(
        lambda _: offline.Peer().wait_received,
        lambda _: {"event_type": "x"},
        {
            "event_type": NAME,
            "count": POSITIVE_COUNT,
            "timeout": WAIT,
            "connection": (0, *COUNT_OR_NONE),
            "where": ("x", 5),
        },
    ),
    "PeerThread": fixed(offline.PeerThread, {}, peer=("peer", 5, offline.Peer)),
    "PeerThread.fault": "calls Peer.fault in the thread of the peer",
    "PeerThread.say": "calls Peer.say in the thread of the peer",
    "PeerThread.send": "calls Peer.send in the thread of the peer",
    "PeerThread.types": Row(
        lambda _: offline.PeerThread().types,
        lambda _: {},
        {"connection": (0, *COUNT_OR_NONE)},
    ),
    "PeerThread.wait_received": "calls Peer.wait_received in the thread of the peer",
    **{
        name: fixed(
            function,
            lambda w: {"sentences": [("Hello", 1)], "path": w.folder / "new.wav"},
            sentences=(
                *("Hello", 5, None, ["Hello"], [("Hello",)], [("", 1)], [(5, 1)]),
                *([("Hello", wait)] for wait in SECONDS),
            ),
            path=PATH,
            lead_in=SECONDS,
        )
        for name, function in (
            ("render", offline.render),
            ("render_async", offline.render_async),
        )
    },
    # ---- ops
    "Collector": fixed(
        ops.Collector,
        lambda w: {"manager": w.manager},
        manager=MANAGER,
        stream=OTHER_STREAM,
        max_lag=POSITIVE,
    ),
    "Collector.check": method(
        lambda w: ops.Collector(w.manager), "check", {}, kind=("health", "", 5, None)
    ),
    "application": fixed(ops.application, {}, collector=("x", None, 5)),
    "export_metrics": fixed(
        ops.export_metrics,
        lambda w: {"manager": w.manager},
        manager=MANAGER,
        stream=OTHER_STREAM,
        provider=("provider", 5),
    ),
    "export_traces": fixed(
        ops.export_traces,
        lambda w: {"manager": w.manager},
        manager=MANAGER,
        stream=("stream", 5),
        provider=("provider", 5),
        record_words=FLAG,
    ),
    "export_logs": fixed(
        ops.export_logs,
        lambda w: {"logger": w.logger},
        logger=LOGGER,
        provider=("provider", 5),
    ),
    "notify_systemd": fixed(
        ops.notify_systemd,
        lambda w: {"manager": w.manager},
        manager=MANAGER,
        stream=OTHER_STREAM,
    ),
    "serve_metrics": fixed(
        ops.serve_metrics,
        lambda w: {"manager": w.manager},
        manager=MANAGER,
        stream=OTHER_STREAM,
        host=NAME,
        port=PORT,
        max_lag=POSITIVE,
    ),
    # ---- control
    "ControlClient": fixed(control.ControlClient, {}, path=PATH),
    **{
        f"ControlClient.{name}": method(
            lambda w: control.ControlClient(w.folder / "none"), name, {}, name=TEXT
        )
        for name in ("explain", "restart", "stop")
    },
    "ControlClient.get_history": method(
        lambda w: control.ControlClient(w.folder / "none"),
        "get_history",
        {},
        name=TEXT_OR_NONE,
    ),
    "ControlClient.get_logs": method(
        lambda w: control.ControlClient(w.folder / "none"),
        "get_logs",
        {},
        n=(10_001, *COUNT_OR_NONE),
        level=TEXT_OR_NONE,
        component=TEXT_OR_NONE,
        pattern=TEXT_OR_NONE,
        follow=FLAG,
    ),
    "ControlClient.tail": method(
        lambda w: control.ControlClient(w.folder / "none"),
        "tail",
        {"name": "x"},
        name=TEXT,
        n=(10_001, *COUNT_OR_NONE),
        follow=FLAG,
    ),
    "ControlClient.send": method(
        lambda w: control.ControlClient(w.folder / "none"),
        "send",
        {},
        request=("ps", None, {"method": "ps"}),
    ),
    "ControlClient.send_async": method(
        lambda w: control.ControlClient(w.folder / "none"),
        "send_async",
        {},
        request=("ps", None, {"method": "ps"}),
    ),
    "Request": fixed(
        Request,
        {"method": "logs"},
        method=("sing", "", 5, None),
        name=TEXT_OR_NONE,
        n=(10_001, *COUNT_OR_NONE),
        follow=FLAG,
        level=TEXT_OR_NONE,
        component=TEXT_OR_NONE,
        pattern=TEXT_OR_NONE,
        width=COUNT_OR_NONE,
        period=(0, INF, *WAIT_OR_NONE),
    ),
    "Request.decode": fixed(Request.decode, {}, line=("{}", 5, None)),
    "find_app": fixed(
        control.find_app, {}, process=TEXT_OR_NONE, app=(0, -1, True, 1.5, b"x", "")
    ),
    "find_apps": fixed(control.find_apps, {}, app=(0, -1, True, 1.5, b"x", "")),
    "serve_control": fixed(
        control.serve_control,
        lambda w: {"manager": w.manager},
        manager=MANAGER,
        path=PATH_OR_NONE,
        on_reload=FUNCTION_OR_NONE,
    ),
    # ---- testing
    "python": fixed(
        programs.python,
        {"source": "1"},
        source=WORDS,
        args=TEXT[1:],
        options=AS_COMMAND,
    ),
    "shell": fixed(programs.shell, {}, line=WORDS, options=AS_COMMAND),
    "exits": fixed(programs.exits, {}, status=(256, *COUNT)),
    "prints": fixed(programs.prints, {}, lines=TEXT, status=(256, *COUNT)),
    "crashes": fixed(
        programs.crashes, {"status": 1}, status=(256, -65, "1", None), lines=TEXT
    ),
    "cleans_up": fixed(programs.cleans_up, {}, seconds=SECONDS),
    "forks": fixed(programs.forks, {}, count=COUNT),
    "leaves_a_grandchild": fixed(
        programs.leaves_a_grandchild, {}, ignoring_sigterm=FLAG
    ),
    "bursts": fixed(programs.bursts, {}, count=COUNT),
    "fails_first": fixed(
        programs.fails_first,
        {"times": 1, "counter": "x"},
        times=COUNT,
        counter=PATH,
    ),
    "binds": fixed(programs.binds, {}, port=(0, *PORT)),
    "VirtualTimeSelector": fixed(
        virtual_time.VirtualTimeSelector, {}, real_wait=SECONDS
    ),
    "VirtualTimeSelector.select": CALLED_BY_LOOP,
    "VirtualTimeLoop": fixed(virtual_time.VirtualTimeLoop, {}, real_wait=SECONDS),
    "VirtualTimeLoop.run_in_executor": AS_ASYNCIO,
    "run": fixed(
        virtual_time.run,
        {"work": Work()},
        work=(work, 5, None, "work"),
        real_wait=SECONDS,
    ),
}


# ---- the public functions, methods and constructors


def ours(function):
    """Return whether a function is of this package."""
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] == "realtalk_async"


def parameters_of(function):
    """Return the names of the parameters of a function or class."""
    found = inspect.signature(function).parameters
    return [name for name in found if name not in ("self", "cls")]


def methods_of(cls):
    """Yield the names of public methods of this package and their parameters."""
    for name in {name for base in cls.__mro__ for name in vars(base)}:
        attribute = inspect.getattr_static(cls, name)
        function = getattr(attribute, "__func__", attribute)
        if not name.startswith("_") and inspect.isfunction(function) and ours(function):
            parameters = parameters_of(function)
            if parameters:
                yield f"{cls.__name__}.{name}", parameters


def public_things():
    """Yield the public functions and classes by name."""
    for package in PACKAGES:
        module = import_module(f"realtalk_async{package}")
        yield from ((name, getattr(module, name)) for name in module.__all__)
    for path in MODULES_WITHOUT_ALL:
        module = import_module(f"realtalk_async{path}")
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) == module.__name__:
                yield name, thing


def public_functions():
    """Return the parameters of each public function, method and constructor."""
    found = {}
    for name, thing in public_things():
        if not callable(thing) or not ours(thing) or name.startswith("_"):
            continue
        if not inspect.isclass(thing):
            found[name] = parameters_of(thing)
            continue
        found |= methods_of(thing)
        made_by_app = name not in RESULTS and not issubclass(thing, BaseException)
        if made_by_app and not issubclass(thing, enum.Enum) and ours(thing.__init__):
            found[name] = parameters_of(thing)
    return {name: parameters for name, parameters in found.items() if parameters}


FUNCTIONS = public_functions()


def test_each_public_function_has_a_row_and_each_parameter_a_place_in_it():
    assert set(TABLE) == set(FUNCTIONS)
    for name, parameters in FUNCTIONS.items():
        row = TABLE[name]
        if isinstance(row, Row) and name != "Level.of":
            assert set(row.bad) == set(parameters), name


def test_each_class_that_an_app_only_reads_exists():
    assert set(RESULTS) <= {name for name, _ in public_things()}


# ---- the refusals


@pytest.fixture
async def world(logger, tmp_path):
    async with ProcessManager(logger, guard=False) as manager:
        process = await manager.start("one", programs.runs())
        task = await manager.start_task("two", asyncio.Event().wait)
        finished = await asyncio.create_subprocess_exec("true")
        await finished.wait()
        stream = Stream(logger=logger, process_manager=manager, microphone=None)
        yield World(logger, manager, process, task, stream, tmp_path, finished)


def state_of(world):
    """Return what a call could change."""
    manager = world.manager
    return (
        [(name, one.incarnation) for name, one in manager.processes.items()],
        [(name, one.incarnation) for name, one in manager.tasks.items()],
        manager.critical.keys(),
        sorted(path.name for path in world.folder.iterdir()),
        len(asyncio.all_tasks()),
        str(world.process.state),
    )


async def call(function, parameter, value, good):
    """Call a function with one more argument, and begin with what it returns."""
    kinds = inspect.signature(function).parameters
    given = {**good}
    first = []
    if kinds[parameter].kind is inspect.Parameter.VAR_POSITIONAL:
        for name, kind in kinds.items():
            if kind.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and name in given:
                first.append(given.pop(name))
        first.append(value)
    else:
        given[parameter] = value
    result = function(*first, **given)
    if inspect.isawaitable(result):
        await result
    elif hasattr(result, "__aenter__"):
        async with result:
            pass


REFUSING = [name for name, row in TABLE.items() if isinstance(row, Row)]


@pytest.mark.parametrize("thing", sorted({name.split(".")[0] for name in REFUSING}))
async def test_a_value_that_is_not_allowed_is_refused_at_the_call(thing, world):
    for name in REFUSING:
        if name.split(".")[0] == thing:
            await check_refusals(name, world)


async def check_refusals(name, world):
    """Check each value that a function must refuse, and that its call changed nothing."""
    row = TABLE[name]
    function, good = row.target(world), row.good(world)
    before = state_of(world)
    for parameter, values in row.bad.items():
        if isinstance(values, str):
            continue
        for value in values:
            case = f"{name}({parameter}={value!r:.60})"
            try:
                await asyncio.wait_for(call(function, parameter, value, good), 5)
            except InvalidConfiguration as error:
                found = re.search(rf"(?<!\w){parameter}(?!\w)", str(error))
                assert found, f"{case}: {error}"
            except BaseException as error:
                raise AssertionError(f"{case}: {error!r}") from error
            else:
                raise AssertionError(f"{case} is accepted")
            assert state_of(world) == before, case


# ---- what is allowed


@pytest.mark.parametrize(
    ("word", "policy"),
    [("permanent", PERMANENT), ("temporary", TEMPORARY), (PERMANENT, PERMANENT)],
)
async def test_a_policy_may_be_given_as_its_word(word, policy, logger):
    async with ProcessManager(logger, guard=False) as manager:
        process = await manager.start("x", ["sleep", "60"], restart=word)
        assert process.policy == policy
        assert process.command == Command("sleep", "60")
        task = await manager.start_task("y", asyncio.Event().wait, restart=word)
        assert task.state == "running"


async def test_another_word_is_refused_with_the_three_named(world):
    with pytest.raises(InvalidConfiguration) as caught:
        await world.manager.start("x", ["true"], restart="always")
    for word in ("permanent", "transient", "temporary", "always"):
        assert repr(word) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"probes": Probe.line("x")}, "write probes=[…]"),
        ({"depends_on": "server"}, "write depends_on=['server']"),
        ({"binds_to": "server"}, "write binds_to=['server']"),
        ({"devices": "hw:0"}, "write devices=['hw:0']"),
    ],
)
async def test_one_value_where_several_are_meant_is_refused_with_a_list(
    world, options, hint
):
    with pytest.raises(InvalidConfiguration) as caught:
        await world.manager.start("x", ["true"], **options)
    assert hint in str(caught.value)
    assert "x" not in world.manager.processes


def test_a_single_secret_is_refused_without_its_text(tmp_path):
    with pytest.raises(InvalidConfiguration, match="a list of texts") as caught:
        Logger(tmp_path / "app.log", secrets="hunter2")
    assert "hunter2" not in str(caught.value)


async def test_an_iterator_of_several_values_is_read_once(logger):
    async with ProcessManager(logger, guard=False) as manager:
        await manager.start("server", programs.runs())
        process = await manager.start(
            "x",
            programs.runs(),
            probes=(Probe.line(pattern) for pattern in ["ready"]),
            depends_on=iter(["server"]),
            devices=iter(["hw:0"]),
        )
        assert len(process._lifecycle.probes.runners) == 1


def test_a_limit_is_shown_with_all_its_digits():
    with pytest.raises(InvalidConfiguration, match="1048576 or more"):
        Limits(memory=4096)
    with pytest.raises(InvalidConfiguration, match="a whole number from 1 to 65535"):
        Probe.tcp("localhost:80")


def test_a_signal_may_be_given_by_its_name():
    ladder = Ladder(("close stdin", 1), ("int", 0.5), ("SIGTERM", 2), ["KILL", 1])
    assert ladder == Ladder((CLOSE_STDIN, 1), (2, 0.5), (15, 2), (9, 1))


async def test_a_process_gets_a_signal_by_its_name(logger):
    process = ManagedProcess(["sleep", "60"], "x", logger)
    await process.start()
    process.send_signal("TERM")
    assert (await process.wait()).exit_status == -15


@pytest.mark.parametrize(
    "line",
    [
        *("echo a | tr a b", "sleep 5", "no-such-program -d", "ls /tmp"),
        *("$HOME/x", "~/bin/x", "a&&b", "A=1 true&"),
    ],
)
def test_a_line_for_a_shell_is_refused_as_a_program(line):
    with pytest.raises(InvalidConfiguration, match=r"Command\.shell"):
        Command(line)


def test_a_program_with_a_blank_in_its_name_is_no_line_for_a_shell(tmp_path):
    program = tmp_path / "sleep 5"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert Command(program).argv == (str(program),)
    assert Command("./sleep 5", cwd=tmp_path).argv == ("./sleep 5",)
    assert Command("my-tool/no such program").argv == ("my-tool/no such program",)


async def test_asyncios_function_takes_a_line_for_a_shell_as_asyncio_does(world):
    with pytest.raises(FileNotFoundError):
        await world.manager.create_subprocess_exec("sleep 5")


def test_no_message_quotes_a_secret():
    wrong: Any = ["hunter2"]
    for call_with_secret in (
        lambda: Logger(secrets=[wrong]),
        lambda: Stream(api_key=wrong),
        lambda: Command("true", env={"KEY": wrong}),
        lambda: Command("true", env={"KEY": "hunter2\0"}),
    ):
        with pytest.raises(InvalidConfiguration) as caught:
            call_with_secret()
        assert "hunter2" not in str(caught.value)


def test_the_message_survives_a_value_that_cannot_be_shown():
    class Rude:
        def __repr__(self):
            raise ZeroDivisionError

    with pytest.raises(InvalidConfiguration, match="an object of type Rude"):
        arguments.text("name", Rude())
    with pytest.raises(InvalidConfiguration) as caught:
        arguments.integer("n", "x" * 10_000)
    assert len(str(caught.value)) < 300


# ---- calls that would wait for ever


async def test_receive_needs_a_binary_stdout(world):
    for process in (world.process, ManagedProcess(["true"], "x", world.logger)):
        with pytest.raises(InvalidConfiguration, match="stdout='binary'"):
            await asyncio.wait_for(process.receive(), 5)


async def first_line(world):
    """Return the first line from now on."""
    return await anext(world.process.follow())


CALLS = {
    "process.stop": lambda w: w.process.stop(),
    "process.kill": lambda w: w.process.kill(),
    "process.wait": lambda w: w.process.wait(),
    "process.start": lambda w: w.process.start(),
    "process.check": lambda w: w.process.check(),
    "process.restart": lambda w: w.process.restart(),
    "process.send": lambda w: w.process.send(b"x"),
    "process.wait_for_line": lambda w: w.process.wait_for_line("never"),
    "process.wait_until_running": lambda w: w.process.wait_until_running(),
    "process.wait_until_settled": lambda w: w.process.wait_until_settled(),
    "process.follow": lambda w: first_line(w),
    "task.start": lambda w: w.task.start(),
    "task.stop": lambda w: w.task.stop(),
    "manager.start": lambda w: w.manager.start("x", ["sleep", "60"]),
    "manager.start_task": lambda w: w.manager.start_task("x", work),
    "manager.stop": lambda w: w.manager.stop("one"),
    "manager.check_process": lambda w: w.manager.check_process("one"),
    "manager.check_processes": lambda w: w.manager.check_processes(),
    "manager.restart_process": lambda w: w.manager.restart_process("one"),
    "manager.wait_until_settled": lambda w: w.manager.wait_until_settled(),
    "manager.create_subprocess_exec": (
        lambda w: w.manager.create_subprocess_exec("sleep", "60")
    ),
    "manager.aclose": lambda w: w.manager.aclose(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_another_event_loop_is_refused(name, world):
    before = state_of(world)
    with pytest.raises(WrongEventLoop, match="run_coroutine_threadsafe") as caught:
        await asyncio.to_thread(lambda: asyncio.run(CALLS[name](world)))
    assert "this manager lives in another event loop" in str(caught.value)
    assert isinstance(caught.value, NotStarted | RuntimeError)
    assert state_of(world)[:4] == before[:4]


def test_a_settled_process_answers_in_every_event_loop(log_path):
    logger = Logger(log_path)

    async def run():
        async with ProcessManager(logger, guard=False) as manager:
            process = await manager.start("x", ["true"])
            await process.wait_until_settled()
            return manager, process

    manager, process = asyncio.run(run())
    assert asyncio.run(process.stop()).status == "dead"
    assert asyncio.run(process.check()).status == "dead"
    assert asyncio.run(manager.check_process("x")).status == "dead"
    with pytest.raises(UnknownProcess):
        asyncio.run(manager.stop("y"))
