"""What a pattern demands is there wherever it is found; nothing more is promised."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.logs.prefilter import Needle, is_plain, needles_of


def demanded(pattern):
    """The texts of each needle, for people."""
    return [
        "|".join(sorted(text.decode() for text in needle.texts))
        for needle in needles_of(re.compile(pattern))
    ]


@pytest.mark.parametrize(
    ("pattern", "demands"),
    [
        ("died", ["died"]),
        ("process died$", ["process died"]),
        (r"^Gave up on \w+ after", ["Gave up on ", " after"]),
        (r'"exit_status":1\}', ["exit_status"]),
        (r"pid=\d+ (vanished|exploded)", ["pid=", "exploded|vanished"]),
        ("(?:died|failed) of", ["died|failed", " of"]),
        ("died|no", []),
        ("died|failed", ["died|failed"]),
        ("(died)+ed", ["died"]),
        ("(died)?then", ["then"]),
        ("colou?red", ["colo", "red"]),
        ("abca*bcd", ["abc", "bcd"]),
        ("abca+bcd", ["abca", "bcd"]),
        ("abcd{2}efg", ["abcd", "efg"]),
        ("abcd{0,3}efg", ["abc", "efg"]),
        ("abcd{,3}efg", ["abc", "efg"]),
        ("abc[def]ghi", ["abc", "ghi"]),
        (r"abc[]\]xyz]ghi", ["abc", "ghi"]),
        ("(?P<what>died).*(?P=what)", ["died"]),
        ("(?=here)there(?!where)", ["there"]),
        ("(?#hello there)died", ["died"]),
        (r"1\.25 ms", ["1.25 ms"]),
        (r"\bdied\b", ["died"]),
        ("(?i)DIED", ["died"]),
        ("(?s)died", ["died"]),
        # Of what is not understood nothing is demanded.
        (r"died\x41", []),
        (r"(died)\1", []),
        ("(?i:died)", []),
        ("(?x) died", []),
        ("(a)?(?(1)died|gone)", []),
        ("", []),
        # Nor what a line may hold in another form.
        (r"C:\\dir", ["dir"]),
        ("größe", []),
        ('a"bcd', ["bcd"]),
    ],
)
def test_what_a_pattern_demands(pattern, demands):
    """Only text that every match has."""
    assert demanded(pattern) == demands


ATOMS = st.sampled_from(
    ["abc", "de", "f", "K", ".", r"\d", r"\b", "[a-e]", "[^b]", "^", "$", r"\.", " "]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,1}", "{,2}"])).map(
            lambda both: f"(?:{both[0]}){both[1]}"
        ),
        inner.map("({})".format),
        inner.map("(?={})".format),
        inner.map("(?!{})".format),
    ),
    max_leaves=12,
)
TEXTS = st.lists(
    st.sampled_from(["abc", "de", "f", "k", "\u212a", ".", "1", " ", "ABC", "x"]),
    max_size=15,
).map("".join)


@given(pattern=PATTERNS, text=TEXTS, flags=st.sampled_from([0, re.IGNORECASE]))
def test_every_text_in_which_a_pattern_is_found_has_its_needles(pattern, text, flags):
    """The one promise that the search relies on."""
    compiled = re.compile(pattern, flags)
    if compiled.search(text):
        line = text.encode()
        for needle in needles_of(compiled):
            assert needle.lines(line, 0, len(line)) == [0], needle


@given(
    lines=st.lists(st.text('ab[]"', max_size=6), max_size=8),
    texts=st.sets(st.sampled_from(["a", "ab", "ba"]), min_size=1),
    whole=st.booleans(),
)
def test_each_line_is_found_once_and_in_order(lines, texts, whole):
    """Several texts, several times in a line."""
    block = "\n".join(lines).encode()
    needle = Needle(tuple(text.encode() for text in texts), whole=whole)
    starts = [len("\n".join([*lines[:n], ""])) for n in range(len(lines))]
    alone = "|".join(rf'["\[]{text}["\]]' for text in texts)
    pattern = re.compile(alone if whole else "|".join(texts))
    expected = [
        start for start, line in zip(starts, lines, strict=True) if pattern.search(line)
    ]
    assert needle.lines(block, 0, len(block)) == expected


def test_plain_names_are_those_that_stand_in_a_line_as_they_are():
    """And are not too short to be worth it."""
    assert is_plain("sox_bg")
    assert is_plain("a.b-c d")
    assert not is_plain("ab")
    assert not is_plain("a]bc")
    assert not is_plain("größe")
