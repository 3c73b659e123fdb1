import inspect
import re

import pytest

from realtalk_async.cli.config.spec import InvalidSpec, describe_start_order, warnings
from realtalk_async.cli.config.toml import parse_toml
from realtalk_async.supervision import (
    GRACEFUL,
    TRANSIENT,
    Ladder,
    Limits,
    ProcessManager,
)
from realtalk_async.supervision.output.tap import ChildOutput
from realtalk_async.supervision.process import MAX_SIZE


def problems(parse, text, **rest):
    with pytest.raises(InvalidSpec) as caught:
        parse(text, "file", **rest)
    return [str(one) for one in caught.value.problems]


FULL = """
strategy = "rest_for_one"
check_interval = 0.5
max_restarts = 20
window = 90
shutdown_timeout = 20
containment = "cgroup"

[env]
LANG = "C"
LEVEL = 3

[process.app]
command = ["app", "--fast"]
cwd = "sub"
env = { LANG = "de" }
umask = 0o022
critical = true
depends_on = ["db"]
binds_to = ["db"]
restart = { mode = "permanent", max_failures = 9, success_statuses = [0, 143] }
ladder = [["INT", 0.5], ["SIGTERM", 2]]
probes = [{ line = "ready", timeout = 30 }, { silence = 5, stream = "stderr" }]
max_size = 1000
devices = ["hw:0", "hw:1"]
device_patience = 5
limits = { memory = "512M", processes = 50, cpu = 60, open_files = 256 }
containment = "group"

[process.db]
command = "exec db"
restart = "temporary"
"""


def test_every_option_of_a_process_has_a_key():
    spec = parse_toml(FULL, "file", base="/base")
    assert spec.strategy == "rest_for_one"
    assert spec.check_interval == 0.5
    assert (spec.max_restarts, spec.window, spec.shutdown_timeout) == (20, 90, 20)
    db, app = spec.processes
    assert (db.name, db.command_line, db.restart.mode) == ("db", "exec db", "temporary")
    assert db.command.env == {"LANG": "C", "LEVEL": "3"}
    assert app.command.argv == ("app", "--fast")
    assert app.command.cwd == "/base/sub"
    assert app.command.env == {"LANG": "de", "LEVEL": "3"}
    assert app.command.options == {"umask": 0o022}
    assert app.critical
    assert not db.critical
    assert app.depends_on == app.binds_to == app.needs == ("db",)
    assert app.restart.max_failures == 9
    assert app.restart.success_statuses == {0, 143}
    assert app.ladder == Ladder((2, 0.5), (15, 2.0))
    assert [probe.purpose for probe in app.probes] == ["readiness", "liveness"]
    assert app.max_size == 1000
    assert app.devices == ("hw:0", "hw:1")
    assert app.device_patience == 5
    assert app.command.limits == Limits(512 << 20, 50, 60, 256)
    assert db.command.limits is None
    assert (app.containment, db.containment, spec.containment) == (
        "group",
        None,
        "cgroup",
    )
    assert spec.needs_cgroup


def test_every_built_in_probe_has_a_key():
    text = """
[process.a]
command = "x"
probes = [
    { tcp = 5432, host = "::1", period = 0.5 },
    { http = "http://127.0.0.1:80/healthz", purpose = "liveness", failure_threshold = 5 },
    { exec = ["pg_isready", "-q"], grace = 3, timeout = 2 },
]
"""
    tcp, http, execute = parse_toml(text, "file").processes[0].probes
    assert (tcp.purpose, tcp.period) == ("readiness", 0.5)
    assert (http.purpose, http.failure_threshold) == ("liveness", 5)
    assert (execute.purpose, execute.grace, execute.timeout) == ("liveness", 3, 2)
    assert "5432" in tcp.name
    assert "healthz" in http.name
    assert "pg_isready" in execute.name


def test_a_missing_key_has_the_default_of_process_manager():
    (process,) = parse_toml('[process.a]\ncommand = "x"', "file").processes
    assert process.restart == TRANSIENT
    assert process.ladder == GRACEFUL
    assert process.max_size == MAX_SIZE
    assert process.devices == ()
    default = inspect.signature(ProcessManager.start).parameters["device_patience"]
    assert process.device_patience == default.default
    assert not process.critical


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('restart = "allways"', "process.a.restart: must be one of 'permanent', 'tra"),
        ('restrat = "permanent"', "did you mean 'restart'?"),
        ('restart = { max_failures = "x" }', "process.a.restart.max_failures: must be"),
        (
            "restart = { decay = 0 }",
            "process.a.restart.decay: must be a number of seconds greater than 0",
        ),
        ("critical = 1", "process.a.critical: must be true or false, not 1"),
        (
            'depends_on = "b"',
            "process.a.depends_on: must be a list of strings, not 'b'",
        ),
        ('depends_on = ["b"]', "no process is named 'b'; there are 'a'"),
        ('depends_on = ["a"]', "these processes wait for each other: a -> a"),
        ('binds_to = ["b"]', "a.binds_to: no process is named 'b'; there are 'a'"),
        (
            'oneshot = true\nrestart = "permanent"',
            "restart must be 'transient' or 'temporary' with oneshot=True",
        ),
        (
            'oneshot = true\nprobes = [{ line = "up" }]',
            "probes must contain no readiness probe with oneshot=True",
        ),
        ("oneshot = 1", "process.a.oneshot: must be true or false, not 1"),
        ('binds_to = ["a"]', "a.binds_to: these processes wait for each other: a -> a"),
        ('ladder = [["TERMM", 2]]', "there is no 'TERMM'"),
        ('ladder = [["TERM", -2]]', "process.a.ladder: must be a list of steps, each"),
        ('ladder = "TERM"', "process.a.ladder: must be a list of steps such as"),
        ('probes = [{ lin = "x" }]', "process.a.probes[0]: a probe has exactly one of"),
        ('probes = [{ line = "(" }]', "process.a.probes[0].line: must be a regular"),
        ('probes = [{ line = "x", tmout = 1 }]', "did you mean 'timeout'?"),
        ("probes = [{ tcp = 0 }]", "probes[0].tcp: must be a port, 1 to 65535"),
        ('probes = [{ http = "ftp://x" }]', "url must be an http:// or https:// URL"),
        (
            "probes = [{ exec = [] }]",
            "must be a string, run by a shell, or a list: the program and its arguments",
        ),
        ('probes = [{ tcp = 1, purpose = "x" }]', "must be one of 'readiness', 'liv"),
        (
            "probes = [{ tcp = 1, failure_threshold = 0 }]",
            "must be a whole number, 1 or more",
        ),
        ("probes = [{ silence = 0 }]", "must be a number of seconds greater than 0"),
        ('probes = "x"', "process.a.probes: must be a list of tables"),
        ('env = { A = ["x"] }', "process.a.env.A: must be a string or a number"),
        ('env = "A=1"', "process.a.env: must be a table, not 'A=1'"),
        ("max_size = 0", "process.a.max_size: must be a number of bytes, 1 or more"),
        ("cwd = 3", "process.a.cwd: must be a string that is not empty, not 3"),
        (
            'devices = "hw:0"',
            "process.a.devices: must be a list of strings, not 'hw:0'",
        ),
        ("umask = true", "process.a.umask: must be a whole number, 0 or more"),
        ('limits = "512M"', "process.a.limits: must be a table, not '512M'"),
        (
            'limits = { memory = "512 apples" }',
            "process.a.limits.memory: must be a number of bytes, 1 MiB or more, or",
        ),
        ("limits = { memory = 512 }", "must be a number of bytes, 1 MiB or more"),
        ("limits = { cpu = 0.5 }", "must be a whole number, 1 or more, not 0.5"),
        ("limits = { open_files = 3 }", "must be a whole number, 4 or more, not 3"),
        ("limits = { mem = 1 }", "no such key; did you mean 'memory'? the keys are"),
        (
            'containment = "jail"',
            "process.a.containment: must be one of 'group', 'cgroup'",
        ),
        (
            'containment = "cgroup"\nuser = "nobody"',
            "containment='cgroup' does not allow the option 'user'",
        ),
    ],
)
def test_a_problem_names_line_key_and_allowed_values(line, expected):
    text = f'\n[process.a]\ncommand = "x"\n\n# a problem\n{line}\n'
    (problem,) = problems(parse_toml, text)
    assert expected in problem
    assert problem.startswith("file:6: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = ", "file:1: not TOML"),
        (
            "[process.a]\ncommand = 3",
            "file:2: process.a.command: must be a string, run",
        ),
        (
            "[process.a]\ncommand = []",
            "file:2: process.a.command: must be a string, run",
        ),
        ("[process.a]\n", "file:1: process.a: the key 'command' is missing"),
        ("", "file: there is no [process.NAME] in it"),
        ("process = 1", "file:1: process: must be a table, not 1"),
        ("[proces.a]", "file:1: proces: no such key; did you mean 'process'?"),
        ('strategy = "all"', "'one_for_all'"),
        (
            "check_interval = 0",
            "file:1: check_interval: must be a number of seconds greater",
        ),
    ],
)
def test_a_problem_outside_of_the_processes_is_reported(text, expected):
    assert any(expected in one for one in problems(parse_toml, text))


def test_the_containment_of_all_is_checked_for_each_process():
    text = (
        'containment = "cgroup"\n[process.a]\ncommand = "x"\nuser = "nobody"\n'
        '[process.b]\ncommand = "x"\nuser = "nobody"\ncontainment = "group"\n'
    )
    (problem,) = problems(parse_toml, text)
    assert "process.a: containment='cgroup' does not allow the option 'user'" in problem


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2097152", 2 << 20),
        ('"1048576"', 1 << 20),
        ('"2048K"', 2 << 20),
        ('"3MiB"', 3 << 20),
        ('"512m"', 512 << 20),
        ('"2GB"', 2 << 30),
        ('"1T"', 1 << 40),
    ],
)
def test_a_memory_limit_may_have_a_unit(text, size):
    lines = f'[process.a]\ncommand = "x"\nlimits = {{ memory = {text} }}\n'
    (process,) = parse_toml(lines, "file").processes
    assert process.command.limits == Limits(memory=size)


def test_all_problems_are_reported_in_the_order_of_the_file():
    text = '[process.a]\nrestart = 1\ncommand = ""\n[process.b]\ncommand = "x"\nx = 1\n'
    found = problems(parse_toml, text)
    assert [one.split(": ")[0] for one in found] == ["file:2", "file:3", "file:6"]


def test_a_circle_of_dependencies_is_named():
    text = "".join(
        f'[process.{name}]\ncommand = "x"\ndepends_on = ["{need}"]\n'
        for name, need in [("a", "b"), ("b", "c"), ("c", "b")]
    )
    (problem,) = problems(parse_toml, text)
    assert problem.startswith(("file:6: process.b", "file:9: process.c"))
    assert problem.endswith((": b -> c -> b", ": c -> b -> c"))


def test_a_ladder_that_is_longer_than_the_shutdown_gives_a_warning():
    text = '[process.a]\ncommand = "x"\nladder = [["INT", 2], ["TERM", 14]]\n'
    (warning,) = warnings(parse_toml(text, "file"))
    assert warning == (
        "file:1: process.a: its ladder takes 16 s before SIGKILL, but the "
        "shutdown_timeout of 15 s ends it at Ctrl-C"
    )
    assert not warnings(parse_toml(f"shutdown_timeout = 16\n{text}", "file"))


def test_the_start_order_is_described_group_by_group():
    first, second = describe_start_order(parse_toml(FULL, "file"))
    assert first.split()[:2] == ["1", "db"]
    assert second.split()[:2] == ["2", "app"]
    assert "after db" in second
    assert "critical" in second


def test_stdin_is_the_output_of_a_process_that_starts_before():
    text = """
        [process.meter]
        command = "cat"
        stdin = "mic.stdout"
        [process.mic]
        command = "cat"
        stdin = "empty"
    """
    spec = parse_toml(text, "file")
    mic, meter = spec.processes
    assert warnings(spec) == []
    assert (mic.name, mic.command.stdin) == ("mic", False)
    assert meter.command.stdin == ChildOutput("mic", "stdout")
    assert meter.needs == ("mic",)
    assert meter.depends_on == ()


def test_a_process_can_have_a_terminal_of_its_own():
    text = 'process.a = { command = "top", tty = true }'
    assert parse_toml(text, "file").processes[0].command.tty
    with pytest.raises(InvalidSpec, match="tty: must be false beside this stdin"):
        parse_toml(text.replace("true", 'true, stdin = "empty"'), "file")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("tty", "file:4: process.a.stdin: must be 'open', 'empty' or the output of a"),
        ("b.stdout", "file:4: process.a.stdin: no process is named 'b'"),
        ("a.stdout", "file:4: process.a.stdin: these processes wait for each other"),
    ],
)
def test_a_mistake_in_stdin_is_named_with_its_line(value, problem):
    text = f'\n[process.a]\ncommand = "cat"\nstdin = "{value}"\n'
    with pytest.raises(InvalidSpec, match=re.escape(problem)):
        parse_toml(text, "file")
