"""Prefilters never reject a line that matches; they may pass others."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.logs.prefilter import (
    LiteralPrefilter,
    is_literal,
    prefilters_of_pattern,
)


def literals_of(pattern):
    """Return the texts of each prefilter, readable."""
    return [
        "|".join(sorted(text.decode() for text in prefilter.texts))
        for prefilter in prefilters_of_pattern(re.compile(pattern))
    ]


@pytest.mark.parametrize(
    ("pattern", "literals"),
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
        # Unsupported patterns have no literals.
        (r"died\x41", []),
        (r"(died)\1", []),
        ("(?i:died)", []),
        ("(?x) died", []),
        ("(a)?(?(1)died|gone)", []),
        ("", []),
        # Nor does text that a line may contain in an escaped form.
        (r"C:\\dir", ["dir"]),
        ("größe", []),
        ('a"bcd', ["bcd"]),
    ],
)
def test_the_prefilters_of_a_pattern_are_texts_of_every_match(pattern, literals):
    assert literals_of(pattern) == literals


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
def test_every_text_that_a_pattern_matches_passes_its_prefilters(pattern, text, flags):
    """Searches rely on this."""
    compiled = re.compile(pattern, flags)
    if compiled.search(text):
        line = text.encode()
        for prefilter in prefilters_of_pattern(compiled):
            assert prefilter.lines(line, 0, len(line)) == [0], prefilter


@given(
    lines=st.lists(st.text('ab[]"', max_size=6), max_size=8),
    texts=st.sets(st.sampled_from(["a", "ab", "ba"]), min_size=1),
    whole=st.booleans(),
)
def test_each_line_that_passes_is_returned_once_and_in_order(lines, texts, whole):
    block = "\n".join(lines).encode()
    prefilter = LiteralPrefilter(tuple(text.encode() for text in texts), whole=whole)
    starts = [len("\n".join([*lines[:n], ""])) for n in range(len(lines))]
    alone = "|".join(rf'["\[]{text}["\]]' for text in texts)
    pattern = re.compile(alone if whole else "|".join(texts))
    expected = [
        start for start, line in zip(starts, lines, strict=True) if pattern.search(line)
    ]
    assert prefilter.lines(block, 0, len(block)) == expected


def test_a_literal_name_is_long_enough_and_never_escaped():
    assert is_literal("sox_bg")
    assert is_literal("a.b-c d")
    assert not is_literal("ab")
    assert not is_literal("a]bc")
    assert not is_literal("größe")
