import signal
import subprocess
import sys
import zipfile

import pytest

from realtalk_async.supervision.kernel.spawn import with_default_signals
from realtalk_async.supervision.kernel.spawning import interpreter
from realtalk_async.supervision.kernel.spawning.interpreter import (
    find_interpreter,
    script_words,
)


@pytest.mark.parametrize("attribute", ["frozen", "oxidized"])
def test_a_frozen_app_has_no_interpreter(attribute, monkeypatch):
    assert find_interpreter() == sys.executable
    monkeypatch.setattr(sys, attribute, True, raising=False)
    assert find_interpreter() is None


def test_a_compiled_package_has_no_interpreter(monkeypatch):
    monkeypatch.setitem(vars(interpreter), "__compiled__", object())  # as Nuitka does
    assert find_interpreter() is None


@pytest.mark.parametrize("name", ["uwsgi", "my-python-app", "", None])
def test_a_program_that_embeds_python_is_no_interpreter(name, monkeypatch, tmp_path):
    if name:
        tmp_path.joinpath(name).symlink_to(sys.executable)
        name = str(tmp_path / name)
    monkeypatch.setattr(sys, "executable", name)
    assert find_interpreter() is None


@pytest.mark.parametrize("name", ["python", "python3.11d", "pypy3", "python3-intel64"])
def test_an_interpreter_is_known_by_its_name(name, monkeypatch, tmp_path):
    program = tmp_path / name
    monkeypatch.setattr(sys, "executable", str(program))
    assert find_interpreter() is None
    program.symlink_to("/bin/sh")
    assert find_interpreter() == str(program)


def test_a_script_of_a_zipped_package_runs_from_its_source(monkeypatch, tmp_path):
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_script.py", "import sys\nprint(__name__, sys.argv[1:])\n")
    monkeypatch.syspath_prepend(str(archive))
    words = script_words("zipped_script")
    assert words is not None
    done = subprocess.run(
        [*words, "one", "two"], capture_output=True, check=True, text=True
    )
    assert done.stdout == "__main__ ['one', 'two']\n"


def test_a_frozen_app_never_starts_itself_to_reset_signals(monkeypatch):
    argv = ["true"]
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        assert with_default_signals(argv, {}, None)[0] == sys.executable
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        assert with_default_signals(argv, {}, None) == argv
    finally:
        signal.signal(signal.SIGUSR2, before)
