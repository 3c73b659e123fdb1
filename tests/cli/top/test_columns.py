import re

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from realtalk_async.cli.top.columns import format_bytes, layout, printable
from realtalk_async.cli.top.rows import Row

TEXT = st.text(max_size=40)


@given(
    st.lists(TEXT, min_size=1, max_size=3),
    st.integers(40, 250),
    st.integers(0, 10**15),
    st.text(max_size=300),
)
def test_columns_are_aligned_with_their_headings(names, width, count, last):
    columns = layout(names, width)
    row = Row(names[0], "running", 4194304, 99, 0.0, None, 7, bytes=1, last=last)
    row.rate, row.cpu, row.memory = float(count), 99.9, count
    cells = columns.cells(row, 100.0)
    assert sum(map(cell_len, cells[:3])) == len(columns.heading()) - len("last line")
    if width >= 80:
        assert sum(map(cell_len, cells[:3])) <= width - 10


@given(st.floats(0, 1e15))
def test_bytes_take_at_most_five_characters(count):
    assert len(format_bytes(count)) <= 5


@given(st.text())
def test_no_output_of_a_process_moves_the_cursor(text):
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", printable(text))


def test_escape_sequences_of_a_process_are_removed():
    assert (
        printable("\x1b[1;31mred\x1b[0m\tand \x1b]0;title\x07plain") == "red and plain"
    )
