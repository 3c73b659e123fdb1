"""`run FILE` on a terminal: terminals of its processes, colours, the end."""

import sys
import termios

FILE = """
[process.plain]
command = "echo [$FORCE_COLOR]; printf '\\\\033[31mred\\\\033[?25l'"
[process.own]
command = "echo [$FORCE_COLOR]"
env = { FORCE_COLOR = "0" }
[process.screen]
tty = true
command = "trap 'stty size; exit' WINCH; stty size; while sleep 0.02; do :; done"
"""


def test_processes_get_colours_and_the_size_of_the_terminal(tmp_path, on_terminal):
    (tmp_path / "realtalk.toml").write_text(FILE)
    command = [sys.executable, "-m", "realtalk_async.cli", "run", "--no-control"]
    terminal = on_terminal(command, size=(40, 120), NO_COLOR="", FORCE_COLOR="")
    terminal.expect(r"screen.*40 120\r")
    termios.tcsetwinsize(terminal.master, (33, 111))
    terminal.expect(r"screen.*33 111\r")
    assert terminal.process.wait(60) == 0
    terminal.expect(r"\x1b\[0m\x1b\[\?25h$")
    said = terminal.said.decode()
    assert "[1]\r" in said
    assert "[0]\r" in said
    assert "\x1b[31mred\x1b[0m\r" in said
    assert "\x1b[?25l" not in said
