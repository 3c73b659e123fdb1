import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.cli.config.toml_lines import TomlLines, split_key

KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
VALUES = st.sampled_from(
    [
        "1",
        '"a # b"',
        "'[x]'",
        '["a",\n  "b = 1",\n]',
        '"""\nk = 1\n[t]\n"""',
        "{ q = 1 }",
    ]
)


@given(
    st.dictionaries(
        KEYS, st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), max_size=4
    )
)
def test_every_key_has_its_line_whatever_strings_and_arrays_come_before(tables):
    lines: list[str] = []
    expected = {}
    for table, keys in tables.items():
        lines.append(f"[{table}]  # its keys")
        expected[(table,)] = len(lines)
        for key, value in keys.items():
            expected[table, key] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    tomllib.loads(text)
    toml_lines = TomlLines(text)
    for path, line in expected.items():
        assert toml_lines.line_of(path) == line


def test_the_tables_of_an_array_have_their_own_lines():
    text = "[[a.b]]\nc = 1\n[[a.b]]\n[a.b.d]\ne.f = 2\n"
    toml_lines = TomlLines(text)
    assert toml_lines.line_of(("a", "b", 0, "c")) == 2
    assert toml_lines.line_of(("a", "b", 1)) == 3
    assert toml_lines.line_of(("a", "b", 1, "d", "e", "f")) == 5
    assert toml_lines.line_of(("a", "b", 1, "missing")) == 3


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a.b = 1", ["a", "b"]),
        ('"x y" . b=1', ["x y", "b"]),
        ("'a.b'.c", ["a.b", "c"]),
        ("# no", []),
    ],
)
def test_dotted_and_quoted_keys_are_split(text, keys):
    assert split_key(text) == keys
