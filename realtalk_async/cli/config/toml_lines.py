"""Find the line of a key in a TOML text: `tomllib` does not tell."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]
"""The keys from the top to a key; the tables of an array are counted from 0."""

_KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*""")
_TRIPLE = ('"""', "'''")
_STRING = re.compile(r"""'[^'\n]*'|"(?:[^"\\\n]|\\.)*\"""")


def dotted(path: Path) -> str:
    """Return a path as users write it: ``process.web.probes[0].line``."""
    text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
    return text.removeprefix(".")


class TomlLines:
    """
    The line of each key of a TOML text.

    Args:
        text: Valid TOML.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        self._table: Path = ()
        nesting = Nesting()
        for number, line in enumerate(text.split("\n"), 1):
            if not nesting.is_open:
                self._note(line, number)
            nesting.read(line)

    def line_of(self, path: Path) -> int | None:
        """Return the line of a key, or of the nearest table around it; None at the top."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines[path] if path else None

    def _note(self, line: str, number: int) -> None:
        bare = line.strip()
        if bare.startswith("[["):
            self._enter_element(self._resolve(split_key(bare[2:])), number)
        elif bare.startswith("["):
            self._table = self._resolve(split_key(bare[1:]))
            for length in range(1, len(self._table) + 1):
                self._lines.setdefault(self._table[:length], number)
        elif keys := split_key(bare):
            for length in range(1, len(keys) + 1):
                self._lines.setdefault((*self._table, *keys[:length]), number)

    def _enter_element(self, array: Path, number: int) -> None:
        index = self._counts.get(array, 0)
        self._counts[array] = index + 1
        self._lines.setdefault(array, number)
        self._table = (*array, index)
        self._lines[self._table] = number

    def _resolve(self, keys: list[str]) -> Path:
        """Return the path of a header: the key of an array means its last table."""
        path: Path = ()
        for place, key in enumerate(keys):
            path = (*path, key)
            if path in self._counts and place < len(keys) - 1:
                path = (*path, self._counts[path] - 1)
        return path


def split_key(text: str) -> list[str]:
    """Return the parts of the dotted key at the beginning of a text."""
    keys: list[str] = []
    place = 0
    while found := _KEY.match(text, place):
        double, single, bare = found.groups()
        keys.append(double if double is not None else single or bare or "")
        place = found.end()
        if text[place : place + 1] != ".":
            break
        place += 1
    return keys


class Nesting:
    """Tells, line by line, whether a string or an array continues in the next line."""

    def __init__(self) -> None:
        self._depth = 0
        self._quotes = ""

    @property
    def is_open(self) -> bool:
        """Whether the next line continues a string or an array."""
        return bool(self._depth or self._quotes)

    def read(self, line: str) -> None:
        """Process the next line."""
        place = 0
        while place < len(line):
            place = (
                self._end_of_string(line, place)
                if self._quotes
                else self._step(line, place)
            )

    def _end_of_string(self, line: str, place: int) -> int:
        """Return the end of the multi-line string in this line, or the line's end."""
        while place < len(line):
            if line[place] == "\\" and self._quotes == '"""':
                place += 2
            elif line.startswith(self._quotes, place):
                self._quotes = ""
                # Up to two more quotes belong to the string: """a""""" ends in two.
                return place + len(line[place:]) - len(line[place:].lstrip(line[place]))
            else:
                place += 1
        return place

    def _step(self, line: str, place: int) -> int:
        """Return the place after the next token outside of strings."""
        if line[place] == "#":
            return len(line)
        if line.startswith(_TRIPLE, place):
            self._quotes = line[place : place + 3]
            return place + 3
        if string := _STRING.match(line, place):
            return string.end()
        self._depth += (line[place] in "[{") - (line[place] in "]}")
        return place + 1
