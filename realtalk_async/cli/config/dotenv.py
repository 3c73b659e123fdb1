"""
Parse a ``.env`` file, by the parser of python-dotenv.

No message shows a part of the file: a line that the parser refuses may belong to a secret.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dotenv.main import resolve_variables
from dotenv.parser import parse_stream

from realtalk_async.cli.config.spec import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dotenv.parser import Binding

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_LEADING_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Dotenv:
    """The content of a ``.env``."""

    values: dict[str, str]
    problems: tuple[Problem, ...]
    """The lines that are not understood; they are left out."""


def parse_dotenv(text: str, file: str) -> Dotenv:
    """
    Return the variables of a ``.env``, as python-dotenv reads it.

    A value in quotes may have several lines. ``${NAME}`` and ``${NAME:-default}`` are
    expanded by the values above, then by the own environment. ``export NAME`` without a
    value leaves the variable as it is in the own environment.

    Args:
        text: The content of the file.
        file: The file's path, for the problems.
    """
    pairs: list[tuple[str, str | None]] = []
    refused: list[int] = []
    for binding in parse_stream(io.StringIO(text)):
        if _is_assignment(binding):
            pairs.append((str(binding.key), binding.value))
        elif not _says_nothing(binding):
            refused += _lines(binding)
    expanded = resolve_variables(pairs, override=True)
    values = {name: value for name, value in expanded.items() if value is not None}
    return Dotenv(values, tuple(_problems(refused, file)))


def _is_assignment(binding: Binding) -> bool:
    if binding.error or binding.key is None or binding.value is None:
        return False
    return bool(_NAME.fullmatch(binding.key)) and "\0" not in binding.value


def _says_nothing(binding: Binding) -> bool:
    """Return whether it is a comment, empty or ``export NAME``."""
    words = binding.original.string.partition("#")[0].split()
    is_export = words[:1] == ["export"] and len(words) == 2
    is_known = binding.key is None or (is_export and binding.value is None)
    return is_known and not binding.error


def _lines(binding: Binding) -> range:
    """Return the numbers of the lines of a binding, without empty lines before it."""
    string = binding.original.string
    blank = _LEADING_BLANK.match(string)
    first = binding.original.line + (blank[0].count("\n") if blank else 0)
    return range(first, first + string.strip().count("\n") + 1)


def _problems(lines: Iterable[int], file: str) -> list[Problem]:
    """Return one problem for each run of consecutive lines."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    remedy = "a line is NAME=VALUE, and a value of several lines is in quotes"
    return [Problem(file, one[0], "", f"{_left_out(one)}: {remedy}") for one in runs]


def _left_out(lines: list[int]) -> str:
    if len(lines) == 1:
        return "not understood and left out"
    return f"lines {lines[0]} to {lines[-1]} are not understood and left out"
