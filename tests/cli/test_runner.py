"""`realtalk-async run`, as users run it: real processes, real signals, real terminals."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from realtalk_async.cli import exit_codes
from realtalk_async.cli.line_format import COLOURS, LineFormatter, wants_colour
from realtalk_async.supervision import Cause, ProcessStatus, State

TIMEOUT = 120
"""Seconds that a run may take on a busy machine."""

NO_COLOUR_SETTINGS = {"NO_COLOR": "", "FORCE_COLOR": ""}


@pytest.fixture
def folder(tmp_path):
    """Return the working folder of the command line."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    return tmp_path / "here"


@pytest.fixture
def begin(folder):
    """Return a function that begins `realtalk-async run`; kill all runs at the end."""
    begun = []

    def start(*arguments, env=None, **options):
        command = [sys.executable, "-m", "realtalk_async.cli", "run", *arguments]
        environment = {
            **os.environ,
            **NO_COLOUR_SETTINGS,
            "TMPDIR": str(folder.parent / "temporary"),
            "XDG_RUNTIME_DIR": str(folder.parent),
            **(env or {}),
        }
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        one = subprocess.Popen(command, cwd=folder, env=environment, **options)
        begun.append(one)
        return one

    yield start
    for one in begun:
        if one.poll() is None:
            one.kill()
        for stream in (one.stdin, one.stdout, one.stderr):
            if stream:
                stream.close()
        one.wait()


@pytest.fixture
def run(begin):
    """Return a function that runs to the end and returns code, stdout and stderr."""

    def go(*arguments, given=None, **options):
        if given is not None:
            options["stdin"] = subprocess.PIPE
        one = begin(*arguments, **options)
        out, err = one.communicate(given, timeout=TIMEOUT)
        return one.returncode, out, err.decode()

    return go


def read_until(stream, wanted):
    """Read a pipe or terminal up to a text; return everything that was read."""
    descriptor = stream if isinstance(stream, int) else stream.fileno()
    said, deadline = b"", time.monotonic() + TIMEOUT
    while wanted not in said:
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, f"{wanted!r} did not come: {said!r}"
        data = b""
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            data = os.read(descriptor, 65536)
        assert data, f"it ended without {wanted!r}: {said!r}"
        said += data
    return said


def is_gone(pid):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


# ---- one command


def test_the_output_of_a_single_command_is_passed_through(run):
    script = r"printf 'no end \377'; printf err >&2"
    code, out, err = run("--", "sh", "-c", script)
    assert (code, out, err) == (0, b"no end \xff", "err")


def test_a_single_command_reads_standard_input(run):
    assert run("--", "tr", "a-z", "A-Z", given=b"loud")[:2] == (0, b"LOUD")


def test_arguments_after_the_dashes_belong_to_the_command(run):
    assert run("--", "echo", "--check", "--", "-h")[1] == b"--check -- -h\n"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -USR1 $$", 128 + signal.SIGUSR1)]
)
def test_the_exit_code_is_that_of_the_command(run, script, code):
    done, _, err = run("--restart", "temporary", "--", "sh", "-c", script)
    assert done == code
    assert "realtalk-async: sh died" in err


def test_a_command_is_restarted_until_it_succeeds(run, folder):
    script = "echo >> n; [ $(wc -l < n) -gt 2 ] || exit 1; echo made it"
    code, out, err = run("--", "sh", "-c", script)
    assert (code, out) == (0, b"made it\n")
    assert err.count("sh died: exit status 1") == 2
    assert err.count("sh was restarted") == 2


def test_a_run_goes_on_without_a_control_socket(run, folder):
    (folder.parent / "realtalk-async").write_text("in the way")
    code, out, err = run("--", "sh", "-c", "sleep 2; echo hi")
    assert (code, out) == (0, b"hi\n")
    assert "no control socket" in err
    (folder / "Procfile").write_text("a: echo hi\n")
    assert b"no control socket" in run()[1]
    assert b"no control socket" not in run("--no-control")[1]


def test_quiet_prints_only_the_output_of_the_command(run):
    code, out, err = run("-q", "--max-failures", "0", "--", "sh", "-c", "exit 9")
    assert (code, out, err) == (9, b"", "")


@pytest.mark.parametrize(("mode", "code"), [(0o644, 126), (None, 127)])
def test_a_command_that_cannot_be_run_is_reported_at_once(run, folder, mode, code):
    if mode:
        (folder / "thing").touch(mode)
    done, out, err = run("--", "./thing")
    assert (done, out) == (code, b"")
    assert "./thing" in err


def test_a_temporary_log_is_kept_only_after_a_failure(run, folder):
    temporary = folder.parent / "temporary"
    assert run("--", "true")[0] == 0
    assert list(temporary.iterdir()) == []
    err = run("--restart", "temporary", "--", "false")[2]
    (log,) = temporary.iterdir()
    assert str(log) in err
    assert "Process died" in log.read_text()


def test_a_stopped_run_leaves_no_log(begin, folder):
    one = begin("--", "sh", "-c", "echo ready; exec sleep 1000")
    read_until(one.stdout, b"ready\n")
    one.send_signal(signal.SIGINT)
    assert one.wait(TIMEOUT) == 130
    assert list((folder.parent / "temporary").iterdir()) == []
    assert one.stderr.read() == b""


def test_a_log_of_a_given_path_is_kept(run, folder):
    assert run("--log", "a.log", "--", "true")[0] == 0
    assert "Process finished" in (folder / "a.log").read_text()


def test_a_log_that_cannot_be_written_is_reported_before_the_start(run):
    code, out, err = run("--log", "no/such/folder/a.log", "--", "echo", "ran")
    assert (code, out) == (2, b"")
    assert "no/such/folder" in err


def test_more_than_a_pipe_holds_is_passed_on(run):
    line = "head -c 1000000 /dev/zero | tr '\\0' x"
    code, out, _ = run("--", "sh", "-c", line)
    assert (code, len(out)) == (0, 1_000_000)


def test_a_command_that_always_fails_is_given_up_after_six_failures(run):
    code, _, err = run("--", "sh", "-c", "exit 3")
    assert code == 3
    assert err.count("sh died: exit status 3") == 6
    assert err.count("sh was restarted") == 5


def test_descendants_in_a_session_of_their_own_are_ended(run):
    line = "setsid sleep 61 >/dev/null 2>&1 & echo $!; sleep 0.001"
    code, out, _ = run("--", "sh", "-c", line)
    assert code == 0
    assert is_gone(int(out))


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_a_signal_right_after_the_start_ends_the_run(run, name, code):
    assert run("--", "sh", "-c", f"kill -{name} $PPID; exec sleep 60")[0] == code


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.1])
def test_a_run_that_is_killed_right_after_the_start_leaves_no_process(
    begin, folder, delay
):
    pids = folder / "pids"
    started = begin("--", "sh", "-c", f"echo $$ >> {pids}; exec sleep 62")
    deadline = time.monotonic() + TIMEOUT
    while not (pids.exists() and pids.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    started.kill()
    assert is_gone(int(pids.read_text()))


# ---- signals


def test_ctrl_c_stops_the_command_by_its_ladder(begin):
    script = "trap 'echo clean; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    one = begin("--", "sh", "-c", script)
    read_until(one.stdout, b"ready\n")
    one.send_signal(signal.SIGINT)
    out, _ = one.communicate(timeout=TIMEOUT)
    assert out == b"clean\n"
    assert one.returncode == 130


def test_sigterm_stops_the_command(begin):
    one = begin("--", "sh", "-c", "echo ready; exec sleep 1000")
    read_until(one.stdout, b"ready\n")
    one.terminate()
    assert one.wait(TIMEOUT) == 143


def press_ctrl_c_until_it_ends(one):
    """Return the exit code. Two signals at once count as one, so send further signals."""
    deadline = time.monotonic() + TIMEOUT
    while one.poll() is None:
        assert time.monotonic() < deadline, "it runs its ladder to the end"
        one.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(0.2)
    return one.returncode


def test_ctrl_c_twice_kills(begin, folder):
    stubborn = "trap '' TERM INT; echo ready $$; while :; do sleep 0.05; done"
    (folder / "app.toml").write_text(
        "".join(
            f'[process.p{n}]\ncommand = "{stubborn}"\nladder = [["TERM", 1000]]\n'
            for n in range(3)
        )
    )
    one = begin("app.toml")
    said = b""
    while len(pids := re.findall(rb"ready (\d+)\n", said)) < 3:
        said += read_until(one.stdout, b"\n")
    assert press_ctrl_c_until_it_ends(one) == 137
    assert all(is_gone(int(pid)) for pid in pids)


def test_the_guard_kills_the_command_if_we_are_killed(begin):
    one = begin("--", "sh", "-c", "echo $$ ready; exec sleep 1000")
    pid = int(read_until(one.stdout, b"ready\n").split()[0])
    one.kill()
    assert is_gone(pid)


def test_a_closed_output_ends_the_run(begin):
    one = begin("--", "sh", "-c", "echo $$; exec yes")
    pid = int(read_until(one.stdout, b"y\n").split()[0])
    one.stdout.close()
    assert one.wait(TIMEOUT) == 141
    assert is_gone(pid)


def test_supervision_goes_on_while_the_output_is_not_read(begin, folder):
    (folder / "Procfile").write_text(
        "flood: exec yes\n"
        "other: echo >> starts; [ $(wc -l < starts) -gt 2 ] || exit 1; "
        "touch restarted; exec sleep 1000\n"
    )
    one = begin()
    deadline = time.monotonic() + TIMEOUT
    while not (folder / "restarted").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert press_ctrl_c_until_it_ends(one) == 137


# ---- a Procfile


def test_a_procfile_runs_with_names_ports_and_dotenv(run, folder):
    (folder / ".env").write_text('GREETING="hello world"\nPORT=7000\n')
    (folder / "Procfile").write_text(
        "web: echo $GREETING on $PORT from $PS\nlong-worker: echo err >&2\n"
    )
    code, out, _ = run()
    lines = out.decode().splitlines()
    stamp = r"\d\d:\d\d:\d\d "
    assert code == 0
    assert any(
        re.fullmatch(f"{stamp}web         \\| hello world on 7000 from web", one)
        for one in lines
    )
    assert any(re.fullmatch(f"{stamp}long-worker \\| err", one) for one in lines)
    assert any("system      | web finished: exit status 0" in one for one in lines)
    assert b"\x1b" not in out


def test_the_time_stamp_can_be_chosen(run, folder):
    (folder / "Procfile").write_text("a: echo hi\n")
    out = run("-q", "--stamp", "none")[1]
    assert out == b"a      | hi\n"
    out = run("-q", "--stamp", "iso")[1]
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT[0-9:.+-]+ a      \| hi\n", out)


def test_no_line_is_torn(run, folder):
    pieces = textwrap.dedent("""\
        import os, sys
        name = sys.argv[1].encode()
        for n in range(300):
            os.write(1, name * 5)
            os.write(1, name * 3000 + b"\\n")
            os.write(2, name * 7 + b"\\n")
        os.write(1, name * 2)
        """)
    (folder / "pieces.py").write_text(pieces)
    python = sys.executable
    (folder / "Procfile").write_text(
        "".join(f"{name}: {python} -IS pieces.py {name}\n" for name in "xyz")
    )
    code, out, _ = run("-q", "--stamp", "none")
    assert code == 0
    lines = out.decode().splitlines()
    for name in "xyz":
        mine = [line for line in lines if line.startswith(f"{name}      | ")]
        counts = [len(line) - 9 for line in mine]
        assert {line[9:].strip(name) for line in mine} == {""}
        assert sorted(counts) == sorted([3005] * 300 + [7] * 300 + [2])
    assert len(lines) == 3 * 601


def test_all_processes_of_a_procfile_end_when_one_is_given_up(run, folder):
    (folder / "Procfile").write_text("a: exec sleep 1000\nb: exit 7\n")
    code, out, _ = run("--restart", "temporary")
    assert code == 7
    assert b"shutting down because of b" in out
    assert b"a stopped (SIGTERM) after" in out


def test_an_exit_is_reported_after_the_last_output(run, folder):
    script = "echo one; echo two >&2; echo last words >&2; exit 3"
    (folder / "Procfile").write_text(f"a: {script}\n")
    _, out, _ = run("--max-failures", "1", "--stamp", "none")
    lines = [line.split(": ")[0] for line in out.decode().splitlines()]
    a, system = "a      |", "system |"
    speech = [f"{a} one", f"{a} two", f"{a} last words", f"{system} a died"]
    first = lines[1:5]
    assert sorted(first[:3]) == sorted(speech[:3])
    assert first[3] == speech[3]
    assert lines[5].startswith(f"{system} a is restarted in")
    assert lines[6].startswith(f"{system} a was restarted")


def test_an_invalid_file_is_reported_before_anything_runs(run, folder):
    (folder / "Procfile").write_text("a: touch ran\nwhat\n")
    code, out, err = run()
    assert (code, out) == (2, b"")
    assert err.startswith("Procfile:2: ")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no realtalk.toml and no Procfile"),
        (["nosuchfile"], "nosuchfile"),
        (["--"], "either a FILE or -- COMMAND"),
        (["Procfile", "--", "true"], "either a FILE or -- COMMAND"),
        (["--port", "0"], "65535"),
        (["sleep", "10"], "-- sleep 10"),
    ],
)
def test_invalid_arguments_give_code_2(run, arguments, expected):
    code, out, err = run(*arguments)
    assert (code, out) == (2, b"")
    assert expected in err


# ---- TOML


def test_a_process_starts_after_its_dependency_is_ready(run, folder):
    (folder / "realtalk.toml").write_text("""\
        [process.second]
        command = "cat state"
        depends_on = ["first"]

        [process.first]
        command = "sleep 0.3; echo up > state; echo ready; exec sleep 0.5"
        probes = [{ line = "ready" }]
        """)
    code, out, _ = run()
    assert code == 0
    assert b"second | up" in out
    assert out.index(b"first is ready") < out.index(b"second started")


def test_independent_processes_start_and_stop_at_the_same_time(begin, folder):
    """Each waits for the others, which would take for ever one after the other."""
    names = "abcdef"
    wait = "until [ $(ls *.up | wc -l) -ge 6 ]; do sleep 0.01; done"
    (folder / "app.toml").write_text(
        "".join(
            f"""
            [process.{name}]
            command = "trap 'sleep 1; exit 0' TERM; touch {name}.up; {wait}; \
            echo all here; while :; do sleep 0.05; done"
            probes = [{{ line = "all here" }}]
            """.replace("\\\n", "")
            for name in names
        )
    )
    one = begin("app.toml")
    said = b""
    for name in names:
        if f"{name} is ready".encode() not in said:
            said += read_until(one.stdout, f"{name} is ready".encode())
    one.send_signal(signal.SIGINT)
    began = time.monotonic()
    one.communicate(timeout=TIMEOUT)
    assert time.monotonic() - began < 4, "the sum of all is 6 s"


def test_ctrl_c_kills_what_is_left_at_the_shutdown_timeout(begin, folder):
    (folder / "app.toml").write_text("""\
        shutdown_timeout = 0.3
        [process.deaf]
        command = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
        ladder = [["TERM", 60]]
        """)
    one = begin("app.toml")
    read_until(one.stdout, b"| ready")
    one.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, _ = one.communicate(timeout=TIMEOUT)
    assert time.monotonic() - began < 5
    assert b"killed after 0.3 s of shutdown: 'deaf'" in out
    assert one.returncode == 130


def test_a_process_restarts_with_the_one_that_it_is_bound_to(run, folder):
    (folder / "app.toml").write_text("""\
        [process.db]
        command = "echo >> starts; echo ready; sleep 0.3; [ $(wc -l < starts) -gt 1 ]"
        probes = [{ line = "ready" }]
        restart = { first_delay = 0 }

        [process.api]
        command = "echo api runs; exec sleep 100"
        binds_to = ["db"]
        """)
    code, out, _ = run("app.toml", "--check")
    assert b"bound to db" in out
    code, out, _ = run("app.toml")
    assert code == 0, "both end when db has finished"
    assert out.count(b"| api runs") == 2


def test_a_oneshot_finishes_before_its_dependants_start(run, folder):
    (folder / "app.toml").write_text("""\
        [process.migrate]
        command = "sleep 0.2; touch migrated"
        oneshot = true

        [process.app]
        command = "ls migrated"
        depends_on = ["migrate"]

        [process.late]
        command = "true"
        depends_on = ["app"]
        """)
    code, out, err = run("app.toml", "--check")
    assert (code, b"oneshot" in out) == (0, True)
    why = "process.app has no readiness probe and is not oneshot"
    then = "late will start as soon as it runs"
    assert err.splitlines() == [f"warning: app.toml:5: {why}: {then}"]
    code, out, _ = run("app.toml")
    assert code == 0
    assert b"app     | migrated" in out


def test_a_oneshot_that_fails_blocks_its_dependants_with_its_last_words(run, folder):
    (folder / "app.toml").write_text("""\
        [process.migrate]
        command = "echo table users is locked >&2; exit 3"
        oneshot = true
        restart = "temporary"

        [process.app]
        command = "echo never"
        depends_on = ["migrate"]
        """)
    code, out, _ = run("app.toml")
    assert code == 3
    assert b"| never" not in out
    [line] = [one for one in out.splitlines() if b"degraded: app" in one]
    assert b"'migrate' is dead" in line
    assert b"table users is locked" in line


def test_a_device_has_one_owner_at_a_time(run, folder):
    (folder / "app.toml").write_text("""\
        [process.one]
        command = "mkdir lock && sleep 0.3 && rmdir lock"
        devices = ["hw:0"]

        [process.two]
        command = "mkdir lock && sleep 0.3 && rmdir lock"
        devices = ["hw:0"]
        """)
    code, out, _ = run("app.toml")
    assert code == 0, out
    assert b"died" not in out, "two had it at a time: mkdir fails then"


def test_the_run_goes_on_without_a_process_that_is_not_critical(run, folder):
    (folder / "app.toml").write_text("""\
        [process.lost]
        command = ["/no/such/program"]
        restart = "temporary"

        [process.behind]
        command = "echo never"
        depends_on = ["lost"]

        [process.other]
        command = "sleep 0.5; echo still here"
        """)
    code, out, _ = run("app.toml")
    assert code == 127
    assert b"other  | still here" in out
    assert b"degraded: lost" in out
    assert b"degraded: behind" in out
    assert b"| never" not in out


@pytest.mark.parametrize("program", ["/no/such/program", "./none", "no-such-program"])
def test_a_missing_program_is_given_up_at_once(run, folder, program):
    (folder / "app.toml").write_text(f"""\
        [process.a]
        command = ["{program}", 5]
        restart = {{ mode = "permanent", first_delay = 60, max_delay = 60 }}
        """)
    code, out, _ = run("--log", "a.log", "app.toml")
    assert code == 127
    assert program.encode() in out
    assert (folder / "a.log").read_text().count("could not be started") == 1


def test_a_missing_program_of_a_procfile_gives_127_at_once(run, folder):
    (folder / "Procfile").write_text("web: exec ./none\n")
    code, out, _ = run("--log", "a.log", "--max-failures", "3", "Procfile")
    assert code == 127
    assert b"not found" in out
    assert (folder / "a.log").read_text().count("Process died") == 1


def test_check_prints_the_order_and_runs_nothing(run, folder):
    (folder / "app.toml").write_text("""\
        [process.b]
        command = "touch ran"
        depends_on = ["a"]
        [process.a]
        command = "touch ran"
        """)
    code, out, _ = run("app.toml", "--check")
    assert code == 0
    assert out.decode().splitlines() == [
        "app.toml: 2 processes, no problems",
        " 1  a  touch ran  (transient)",
        " 2  b  touch ran  (after a; transient)",
    ]
    assert not (folder / "ran").exists()
    (folder / "app.toml").write_text("[process.a]\nrestart = 3\n")
    code, _, err = run("app.toml", "--check")
    assert code == 2
    assert "app.toml:2: process.a.restart: must be one of" in err


def test_restart_options_are_refused_for_toml(run, folder):
    (folder / "app.toml").write_text('[process.a]\ncommand = "true"\n')
    code, _, err = run("app.toml", "--restart", "permanent")
    assert code == 2
    assert "--restart" in err


# ---- colours


def on_a_terminal(begin, *arguments, env=None):
    """Return the output of a run on a terminal."""
    ours, theirs = pty.openpty()
    try:
        one = begin(*arguments, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        said = read_until(ours, b"finished")
        assert one.wait(TIMEOUT) == 0
    finally:
        os.close(ours)
    return said


def test_names_have_colours_on_a_terminal(begin, folder):
    (folder / "Procfile").write_text("a: echo hi\nb: sleep 1000\n")
    (folder / "Procfile").write_text("a: echo hi; sleep 0.1\n")
    env = {"TERM": "xterm"}
    assert b"\x1b[36m" in on_a_terminal(begin, env=env)


def test_no_color_is_respected(begin, folder):
    (folder / "Procfile").write_text("a: echo hi; sleep 0.1\n")
    env = {"TERM": "xterm", "NO_COLOR": "1"}
    assert b"\x1b" not in on_a_terminal(begin, env=env)


@pytest.mark.parametrize(
    ("environment", "is_terminal", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_depend_on_environment_and_terminal(environment, is_terminal, colour):
    assert wants_colour(environment, is_terminal=is_terminal) is colour


def test_colours_repeat_when_there_are_more_processes_than_colours():
    names = [f"p{n}" for n in range(len(COLOURS) + 1)]
    formatter = LineFormatter(names, colour=True)
    assert formatter._colours["p0"] == formatter._colours[names[-1]]
    assert formatter._colours["p0"] != formatter._colours["p1"]


# ---- the exit code


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_a_run_with_closed_standard_streams_ends_with_its_command(closed, tmp_path):
    run = f"{sys.executable} -m realtalk_async run -- sh -c 'echo x; echo $0 > done'"
    done = subprocess.run(
        ["sh", "-c", f"{run} {closed}"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "done").read_text() == "sh\n"


@pytest.mark.parametrize(
    ("cause", "exit_status", "reason", "code"),
    [
        (Cause.FAILED, 7, "", 7),
        (Cause.SIGNALLED, -9, "", 137),
        (Cause.SPAWN_FAILED, None, "No such file or directory: 'a'", 127),
        (Cause.SPAWN_FAILED, None, "Too many open files: 'a'", 126),
        (Cause.UNHEALTHY, -15, "", 1),
        (Cause.FINISHED, 0, "", 1),
        (Cause.UNKNOWN, "unknown", "", 1),
    ],
)
def test_a_lost_process_gives_its_exit_code(cause, exit_status, reason, code):
    status = ProcessStatus(
        "a", 1, "dead", State.FATAL, 1, None, None, 0.0, 0, exit_status, cause, reason
    )
    assert exit_codes.of_loss(status) == code
