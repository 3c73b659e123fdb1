import os

import pytest

from realtalk_async.cli.config.loader import (
    CommandNotFound,
    RestartOptions,
    load_command,
    load_file,
)
from realtalk_async.exceptions import InvalidConfiguration


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads a Procfile with its .env."""
    monkeypatch.delenv("PORT", raising=False)

    def load_procfile(procfile, dotenv=None, port=None):
        (tmp_path / "Procfile").write_bytes(procfile)
        if dotenv is not None:
            (tmp_path / ".env").write_bytes(dotenv)
        return load_file(str(tmp_path / "Procfile"), RestartOptions(), port, None)

    return load_procfile


def ports(spec):
    return [one.command.env["PORT"] for one in spec.processes]


def test_port_is_that_of_the_option_then_of_dotenv_then_of_the_environment(
    load, monkeypatch
):
    two = b"a: x\nb: y\n"
    assert ports(load(two)) == ["5000", "5100"]
    monkeypatch.setenv("PORT", "4000")
    assert ports(load(two)) == ["4000", "4100"]
    assert ports(load(two, b"PORT=3000\n")) == ["3000", "3100"]
    assert ports(load(two, b"PORT=3000\n", 80)) == ["80", "180"]
    assert ports(load(two, b"PORT=\n")) == ["4000", "4100"]


@pytest.mark.parametrize("text", ["0", "65536", "http", "tcp://s3cret", "-1", "9" * 9])
def test_a_port_that_is_none_is_said_without_its_value(load, text):
    spec = load(b"a: x\n", f"PORT={text}\n".encode())
    assert ports(spec) == ["5000"]
    (notice,) = map(str, spec.notices)
    assert "PORT" in notice
    assert "65535" in notice
    assert "s3cret" not in notice


def test_lines_end_as_on_any_system_and_a_byte_order_mark_is_no_text(load):
    spec = load(b"\xef\xbb\xbfa: x\r\nb: y \\\r\n z\r\n", b"\xef\xbb\xbfA=1\r\nB=2\r\n")
    assert [one.command_line for one in spec.processes] == ["x", "y  z"]
    assert spec.processes[0].command.env["A"] == "1"
    assert spec.notices == ()


def test_bytes_of_a_variable_reach_the_command_as_they_stand_in_the_file(load):
    spec = load(b"a: x\n", b"NAME=M\xfcller\n")
    assert os.fsencode(spec.processes[0].command.env["NAME"]) == b"M\xfcller"


def test_a_procfile_that_is_not_utf_8_is_refused_by_its_line(load):
    with pytest.raises(InvalidConfiguration, match=r"Procfile:2: .*save .* as UTF-8"):
        load(b"a: x\nb: M\xfcller\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_of_powershell_is_named_as_what_it_is(load, encoding):
    text = "A=1\r\n".encode(encoding)
    with pytest.raises(InvalidConfiguration, match=r"Procfile:1: it is UTF-16 text"):
        load("web: serve\r\n".encode(encoding))
    with pytest.raises(InvalidConfiguration, match=r"\.env:1: it is UTF-16 text"):
        load(b"web: serve\n", text)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_of_dotenv_has_the_number_that_an_editor_shows(load, end):
    lines = [b"A=1", b"no line", b"B=2", b"", b"[section]", b"C=3"]
    spec = load(b"web: serve\n", end.join(lines))
    places = [str(one).partition(" ")[0] for one in spec.notices]
    assert [place.rsplit(":", 2)[1] for place in places] == ["2", "5"]
    assert spec.processes[0].command.env["C"] == "3"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("cat a | sort",), "; for a line of a shell: run -- sh -c 'cat a | sort'"),
        (("no-such-program", "a | b"), ""),
    ],
)
def test_a_line_of_a_shell_in_place_of_a_command_is_named_as_one(argv, hint):
    with pytest.raises(CommandNotFound) as caught:
        load_command(argv, RestartOptions())
    message = f"realtalk-async: {argv[0]}: there is no such program{hint}"
    assert str(caught.value) == message
