import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.dotenv import parse_dotenv, parse_port
from realtalk_async.cli.config.spec import InvalidSpec


def problems(parse, text, **rest):
    with pytest.raises(InvalidSpec) as caught:
        parse(text, "file", **rest)
    return [str(one) for one in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b c ", "b c"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b # why", "b"),
        ("A=b#c", "b#c"),
        ("A=# why", ""),
        ("A='b # c' # why", "b # c"),
        (r"A='\n'", r"\n"),
        (r'A="b\n\"c\" \\ $D"', 'b\n"c" \\ $D'),
        ("A=x=y", "x=y"),
    ],
)
def test_an_assignment_gives_its_value(line, value):
    assert parse_dotenv(f"# all\n\n{line}\n", "file") == {"A": value}


def test_each_problem_has_its_line_and_variable():
    found = problems(parse_dotenv, 'A=1\nB\nC=\'x\nD="x" y\n')
    assert [line.split(": ")[0] for line in found] == ["file:2", "file:3", "file:4"]
    assert "C" in found[1]


@given(st.text(st.characters(blacklist_characters="\0", codec="utf-8")))
def test_an_escaped_text_in_double_quotes_is_read_back(value):
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert parse_dotenv(f'A="{escaped}"', "file") == {"A": value}


@pytest.mark.parametrize("text", ["", "0", "65536", "http", "٣", "-1"])
def test_a_text_that_is_not_a_port_is_refused(text):
    with pytest.raises(InvalidSpec, match="65535"):
        parse_port(text, ".env")
