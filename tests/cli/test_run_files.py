"""`realtalk-async run` with the files that people bring."""

import os
import subprocess
import sys

import pytest

TIMEOUT = 120


@pytest.fixture
def folder(tmp_path):
    """Return the working folder of the command line."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def realtalk(folder):
    """Return a function that runs the command line and returns what it did."""

    def go(*arguments, **files):
        for name, text in files.items():
            (folder / name).write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "realtalk_async.cli", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "NO_COLOR": "1",
                "FORCE_COLOR": "",
                "TMPDIR": str(folder.parent),
                "XDG_RUNTIME_DIR": str(folder.parent),
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    return go


def test_a_failed_release_starts_nothing_else_and_gives_its_exit_code(realtalk, folder):
    procfile = "web: touch web\nrelease: echo >> runs; echo no table >&2; exit 3\n"
    done = realtalk("run", Procfile=procfile)
    assert done.returncode == 3, done.stdout
    assert (folder / "runs").read_text() == "\n"
    assert not (folder / "web").exists()
    assert "no table" in done.stdout


def test_the_others_start_after_a_release_that_succeeds(realtalk, folder):
    procfile = "web: cat done\nrelease: echo >> runs; echo yes > done\n"
    done = realtalk("run", Procfile=procfile)
    assert (done.returncode, "| yes" in done.stdout) == (0, True)
    assert (folder / "runs").read_text() == "\n"


def test_the_variables_of_dotenv_reach_the_command(realtalk):
    names = (
        'KEY="-----BEGIN\nMII\n-----END"\nspring.profile=dev\nHOST=a\nURL=${HOST}:1\n'
    )
    done = realtalk(
        "run",
        "--env-file",
        "own",
        own=f"{names}this is s3cret\n",
        Procfile="web: printenv KEY spring.profile URL PORT\n",
    )
    assert done.returncode == 0, done.stderr
    said = [line.partition("| ")[2] for line in done.stdout.splitlines()]
    for text in ("-----BEGIN", "MII", "-----END", "dev", "a:1", "5000"):
        assert text in said
    assert done.stderr.startswith("own:7: not understood")
    assert "s3cret" not in done.stdout + done.stderr


MAX_RESTARTS = """
max_restarts = 2
[process.a]
command = "echo dying words >&2; exit 7"
restart = { mode = "permanent", first_delay = 0.0, max_failures = 100 }
[process.b]
command = "seq 1 20000; exec sleep 100"
"""


def test_too_many_restarts_give_the_code_of_the_process_and_all_its_output(realtalk):
    done = realtalk("run", "--stamp=none", "r.toml", **{"r.toml": MAX_RESTARTS})
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.count("| dying words\n") == 3
    (end,) = [one for one in done.stdout.splitlines() if "a failed: " in one]
    assert "dying words" in end
    assert "max_restarts=2" in end


def test_the_summary_says_what_failed_and_what_was_not_started(realtalk):
    procfile = "web: true\nrelease: echo no table >&2; exit 3\n"
    lines = realtalk("run", "--stamp=none", Procfile=procfile).stdout.splitlines()
    said = [line.partition("| ")[2] for line in lines]
    place = said.index("summary: 1 of 2 failed")
    assert said[place + 1].startswith("release failed: no table; exit status 3")
    assert said[place + 2] == "web was not started: it needs release"


def test_a_run_without_a_failure_has_no_summary(realtalk):
    assert "summary" not in realtalk("run", Procfile="web: true\n").stdout


@pytest.mark.parametrize(
    ("mode", "code"), [(0o644, 126), (None, 127)], ids=["not executable", "not there"]
)
def test_a_program_that_cannot_be_run_gives_the_code_of_a_shell(
    realtalk, folder, mode, code
):
    if mode:
        (folder / "program").write_text("true\n")
        (folder / "program").chmod(mode)
    app = (
        '[process.a]\ncommand = ["./program"]\ncritical = true\nrestart = "temporary"\n'
    )
    done = realtalk("run", "app.toml", **{"app.toml": app})
    assert done.returncode == code, done.stdout


BASH_ONLY = ["source env", "[[ 1 == 1 ]]", "cat <<< hi", "set -o pipefail", "a=(1 2)"]


@pytest.mark.skipif(
    not os.path.realpath("/bin/sh").endswith("dash"), reason="/bin/sh is not dash"
)
@pytest.mark.parametrize("line", BASH_ONLY)
def test_a_line_for_bash_gives_the_words_of_the_shell_and_a_hint(realtalk, line):
    done = realtalk("run", "--restart=temporary", Procfile=f"web: {line}\n")
    (end,) = [one for one in done.stdout.splitlines() if "web failed: " in one]
    assert "/bin/sh: 1: " in end
    assert "bash -c" in end


def test_a_missing_program_gives_no_hint_at_bash(realtalk):
    done = realtalk("run", "--restart=temporary", Procfile="web: no-such-program\n")
    assert done.returncode == 127
    assert "not found" in done.stdout
    assert "bash" not in done.stdout


def test_check_gives_the_words_of_the_shell_about_a_line_that_it_cannot_parse(realtalk):
    procfile = "a: touch ran\nb: if true; then\n"
    done = realtalk("run", "--check", Procfile=procfile)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("warning: Procfile:2: b: ")


CHAIN = """
[process.db]
command = "echo db"
oneshot = true
[process.web]
command = "echo web"
depends_on = ["db"]
[process.other]
command = "echo other"
[process.worker]
command = "echo worker $INSTANCE"
instances = 3
depends_on = ["db"]
"""


def names_that_ran(done):
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.partition("|") for line in done.stdout.splitlines()]
    return {name.strip() for name, _, _ in lines} - {"system"}


@pytest.mark.parametrize(
    ("names", "ran"),
    [
        (["web"], {"db", "web"}),
        (["other"], {"other"}),
        (["worker-2"], {"db", "worker-2"}),
        (["worker"], {"db", "worker-1", "worker-2", "worker-3"}),
        (["other", "web"], {"db", "other", "web"}),
    ],
)
def test_names_run_some_processes_and_what_they_depend_on(realtalk, names, ran):
    files = {"app.toml": CHAIN}
    done = realtalk("run", "--stamp=none", "app.toml", *names, **files)
    assert names_that_ran(done) == ran


def test_an_unknown_name_runs_nothing(realtalk):
    done = realtalk("run", "Procfile", "wev", Procfile="web: touch ran\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no process is named 'wev'; there are 'web'" in done.stderr


def test_instances_are_numbered_processes(realtalk):
    done = realtalk("run", "--stamp=none", "app.toml", **{"app.toml": CHAIN})
    for number in (1, 2, 3):
        assert f"worker-{number} | worker {number}\n" in done.stdout


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ('[process.a]\ncommand = "x"\ninstances = 0\n', "app.toml:3"),
        ('[process.a]\ncommand = "x"\ninstances = 1001\n', "1000"),
        (
            '[process.a]\ncommand = "x"\ninstances = 2\n[process.a-1]\ncommand = "x"\n',
            "rename one",
        ),
    ],
)
def test_impossible_instances_are_refused(realtalk, app, words):
    done = realtalk("run", "app.toml", "--check", **{"app.toml": app})
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["status"], "realtalk-async ps"),
        (["logs", "-f", "web"], "realtalk-async tail -f web"),
        (["logs", "web"], "realtalk-async tail web"),
        (["run", "sh", "script.sh"], "realtalk-async run -- sh script.sh"),
        (["run", "sh", "-c", "exit 1"], "realtalk-async run -- sh -c 'exit 1'"),
    ],
)
def test_a_command_of_other_tools_is_answered_by_that_of_this_one(
    realtalk, arguments, hint
):
    done = realtalk(*arguments)
    assert done.returncode == 2
    assert hint in done.stderr
