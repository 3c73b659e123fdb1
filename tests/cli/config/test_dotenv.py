import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.dotenv import parse_dotenv

KEY = """\
-----BEGIN RSA PRIVATE KEY-----
MIIEpAIBAAKCAQEAsecret1
b2s+secret2/xyz==
-----END RSA PRIVATE KEY-----"""


def values(text):
    found = parse_dotenv(text, "file")
    assert found.problems == ()
    return found.values


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b c ", "b c"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b # why", "b"),
        ("A=b#c", "b#c"),
        ("A=$2y$10$abc", "$2y$10$abc"),
        ("A='b # c' # why", "b # c"),
        (r"A='\n'", r"\n"),
        (r'A="b\n\"c\" \\ $D"', 'b\n"c" \\ $D'),
        ("A=x=y", "x=y"),
        ('A="{\n  \\"key\\": 1\n}"', '{\n  "key": 1\n}'),
        (f'A="{KEY}"', KEY),
        (f"A='{KEY}'", KEY),
        ("A=b\r", "b"),
    ],
)
def test_an_assignment_gives_its_value(line, value):
    assert values(f"# all\n\n{line}\n") == {"A": value}


def test_names_may_have_dots_and_exports_without_value_change_nothing():
    assert values("spring.profile=dev\nexport HOME\nexport B=1 # c\nPORT=\n") == {
        "spring.profile": "dev",
        "B": "1",
        "PORT": "",
    }


def test_values_are_expanded_by_those_above_and_by_the_environment(monkeypatch):
    monkeypatch.setenv("OUTER", "out")
    monkeypatch.setenv("HOST", "other")
    text = "HOST=db\nURL=pg://${HOST}:${PORT:-5432}/${OUTER}${NOT_THERE}\n"
    assert values(text)["URL"] == "pg://db:5432/out"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A=1\nB\nC=2\n", [2]),
        ("A=1\n\n\nnot this one\nC=2\n", [4]),
        ('A=1\nC="two" three\n', [2]),
        (f"A=1\nC=2\n{KEY}\n", [3]),
        ("A=1\nC=2\n=secret\n{\n", [3]),
        ("A=1\nC=2\n1two+three=secret\n", [3]),
        ("A=1\nC=2\nD=\0\n", [3]),
    ],
)
def test_what_is_not_understood_is_named_by_its_line_and_stops_nothing(text, lines):
    found = parse_dotenv(text, "some.env")
    assert found.values["A"] == "1"
    assert [one.line for one in found.problems] == lines
    assert all(str(one).startswith("some.env:") for one in found.problems)
    for word in ("secret", "three", "RSA", "MII"):
        assert word not in " ".join(map(str, found.problems))


def test_consecutive_lines_are_one_problem():
    found = parse_dotenv("A=1\n{\n  two,\n}\nB=2\n", "file")
    assert found.values == {"A": "1", "B": "2"}
    (one,) = found.problems
    assert (one.line, "lines 2 to 4" in str(one)) == (2, True)


@given(st.text(st.characters(blacklist_characters="\0", codec="utf-8")))
def test_an_escaped_text_in_double_quotes_is_read_back(value):
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$ {")
    assert values(f'A="{escaped}"') == {"A": value.replace("${", "$ {")}


@given(st.text())
def test_no_text_stops_the_parser_and_no_problem_shows_it(text):
    secret = "".join(one for one in text if one in string.digits)
    found = parse_dotenv(text, "file")
    for one in found.problems:
        assert one.line is not None
        assert len(secret) < 6 or secret not in str(one)
