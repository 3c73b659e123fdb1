"""
The checks of arguments at the top of each public function and constructor.

Every check raises `InvalidConfiguration` with the same text: ``ARGUMENT must be …, not
VALUE``. With ``optional=True`` the value None is allowed.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from numbers import Integral, Real
from typing import TypeVar, cast

from realtalk_async.exceptions import InvalidConfiguration, WrongEventLoop

T = TypeVar("T")

MAX_SHOWN = 200
"""Characters of a refused value that a message quotes."""


def refused(argument: str, allowed: str, value: object) -> InvalidConfiguration:
    """Return the error for a value that is not allowed."""
    return InvalidConfiguration(f"{argument} must be {allowed}, not {_show(value)}")


def _show(value: object) -> str:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - foreign code: its __repr__
        shown = f"an object of type {type(value).__name__}"
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"


def instance(
    argument: str,
    value: object,
    kind: type | tuple[type, ...],
    allowed: str,
    *,
    optional: bool = False,
) -> None:
    """Check that *value* is an instance of *kind*, which *allowed* names."""
    if not (isinstance(value, kind) or (optional and value is None)):
        raise refused(argument, _or_none(allowed, optional=optional), value)


def subclass(argument: str, value: object, kind: type, allowed: str) -> None:
    """Check that *value* is *kind* or a class derived from it, which *allowed* names."""
    given = value
    if not (isinstance(given, type) and issubclass(given, kind)):
        raise refused(argument, allowed, value)


def like(
    argument: str,
    value: object,
    allowed: str,
    *methods: str,
    optional: bool = False,
) -> None:
    """Check that *value* has these methods, where its class cannot be imported."""
    is_class = isinstance(value, type)
    if optional and value is None:
        return
    if is_class or not all(callable(getattr(value, name, None)) for name in methods):
        raise refused(argument, _or_none(allowed, optional=optional), value)


def a_logger(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a `Logger`, or an object with the same methods."""
    allowed = "a Logger, such as Logger('app.log')"
    like(argument, value, allowed, "info", "warning", "error", optional=optional)


def a_manager(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a `ProcessManager`, or an object with the same methods."""
    methods = "get_statuses", "subscribe"
    like(argument, value, "a ProcessManager", *methods, optional=optional)


def a_stream(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a `Stream`, or an object with the same methods."""
    like(argument, value, "a Stream", "is_ready", "subscribe", optional=optional)


# ---- texts


def text(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a text; it may be empty."""
    instance(argument, value, str, "text", optional=optional)


def words(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a text that is not blank."""
    if not ((isinstance(value, str) and value.strip()) or (optional and value is None)):
        raise refused(argument, _or_none("text, not blank", optional=optional), value)


def secret(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a text that no message may quote."""
    if not (isinstance(value, str) or (optional and value is None)):
        allowed = _or_none("text", optional=optional)
        raise InvalidConfiguration(
            f"{argument} must be {allowed}, not an object of type {type(value).__name__}"
        )


def one_line(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a name: one line of printable text."""
    is_line = isinstance(value, str) and value.strip() and value.isprintable()
    if not (is_line or (optional and value is None)):
        allowed = _or_none("one line of printable text", optional=optional)
        raise refused(argument, allowed, value)


def choice(argument: str, value: object, choices: Iterable[str]) -> None:
    """Check that *value* is one of some words."""
    known = tuple(choices)
    if not (isinstance(value, str) and value in known):
        raise refused(argument, any_of(known), value)


def any_of(choices: Sequence[str]) -> str:
    """Return words for people: ``'a', 'b' or 'c'``."""
    shown = [repr(str(one)) for one in choices]
    return " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def pattern(argument: str, value: object) -> re.Pattern[str]:
    """Check a regular expression, as text or compiled, and return it compiled."""
    allowed = "a regular expression"
    if isinstance(value, re.Pattern):
        compiled = cast("re.Pattern[str]", value)
        instance(argument, cast("object", compiled.pattern), str, f"{allowed} for text")
        return compiled
    if not isinstance(value, str):
        raise refused(argument, allowed, value)
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise refused(argument, f"{allowed} ({error})", value) from error


def path(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a path: text or an `os.PathLike` of text."""
    if optional and value is None:
        return
    try:
        found = os.fspath(cast("str | bytes", value))
    except TypeError:
        found = ""
    if not isinstance(found, str) or not found or "\0" in found:
        raise refused(argument, _or_none("a path", optional=optional), value)


# ---- numbers


def number(
    argument: str,
    value: object,
    *,
    of: str = "",
    minimum: float | None = None,
    more_than: float | None = None,
    maximum: float | None = None,
    infinite: bool = False,
    optional: bool = False,
) -> None:
    """
    Check a number; a bool is none, and neither is NaN.

    Args:
        argument: The name of the argument.
        value: The value.
        of: The unit, such as ``seconds``.
        minimum: The least allowed number.
        more_than: A number that it must exceed.
        maximum: The greatest allowed number.
        infinite: Whether `math.inf` is allowed.
        optional: Whether None is allowed.
    """
    if optional and value is None:
        return
    if not (
        not isinstance(value, bool)
        and isinstance(value, (int, float, Real))
        and _fits(value, minimum, more_than, maximum, infinite=infinite)
    ):
        kind = f"a number of {of}" if of else "a number"
        allowed = kind + _limits(minimum, more_than, maximum)
        if infinite:
            allowed += " (also math.inf)"
        raise refused(argument, _or_none(allowed, optional=optional), value)


def seconds(
    argument: str, value: object, *, infinite: bool = False, optional: bool = False
) -> None:
    """Check a number of seconds, 0 or more."""
    options = {"infinite": infinite, "optional": optional}
    number(argument, value, of="seconds", minimum=0, **options)


def integer(
    argument: str,
    value: object,
    *,
    of: str = "",
    minimum: int | None = None,
    maximum: int | None = None,
    optional: bool = False,
) -> None:
    """Check a whole number; a bool is none."""
    if optional and value is None:
        return
    if not (
        not isinstance(value, bool)
        and isinstance(value, (int, Integral))
        and (minimum is None or int(value) >= minimum)
        and (maximum is None or int(value) <= maximum)
    ):
        kind = f"a whole number of {of}" if of else "a whole number"
        allowed = kind + _limits(minimum, None, maximum)
        raise refused(argument, _or_none(allowed, optional=optional), value)


def port(argument: str, value: object, *, minimum: int = 1) -> None:
    """Check the number of a TCP port."""
    if isinstance(value, bool) or not (
        isinstance(value, Integral) and minimum <= int(value) <= 65535
    ):
        raise refused(argument, f"a whole number from {minimum} to 65535", value)


def _fits(
    value: float | Real,
    minimum: float | None,
    more_than: float | None,
    maximum: float | None,
    *,
    infinite: bool,
) -> bool:
    try:
        exact = float(value)
    except OverflowError:
        return False
    return (
        (math.isfinite(exact) or (infinite and exact == math.inf))
        and (minimum is None or exact >= minimum)
        and (more_than is None or exact > more_than)
        and (maximum is None or exact <= maximum)
    )


def _limits(
    minimum: float | None, more_than: float | None, maximum: float | None
) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum:.15g} to {maximum:.15g}"
    if more_than is not None and maximum is not None:
        return f" greater than {more_than:.15g}, {maximum:.15g} at most"
    if minimum is not None:
        return f", {minimum:.15g} or more"
    if maximum is not None:
        return f", {maximum:.15g} at most"
    return "" if more_than is None else f" greater than {more_than:.15g}"


# ---- other values


def flag(argument: str, value: object, *, optional: bool = False) -> None:
    """Check True or False."""
    instance(argument, value, bool, "True or False", optional=optional)


def function(
    argument: str,
    value: object,
    allowed: str = "a function",
    *,
    optional: bool = False,
) -> None:
    """Check a function: anything that can be called."""
    if not (callable(value) or (optional and value is None)):
        close = getattr(value, "close", None)
        if asyncio.iscoroutine(value) and callable(close):
            close()  # it is never awaited: Python would warn
        raise refused(argument, _or_none(allowed, optional=optional), value)


def several(
    argument: str,
    value: Iterable[T],
    check: Callable[[str, object], None],
    of: str,
) -> tuple[T, ...]:
    """
    Check an argument of several values, and return them; an iterator is read once.

    Args:
        argument: The name of the argument.
        value: A list or another iterable; neither a text nor a mapping.
        check: The check of each value.
        of: The values in words, such as ``names``.
    """
    one = cast("object", value)
    if not isinstance(one, tuple | list) and (
        isinstance(one, str | bytes | Mapping) or not isinstance(one, Iterable)
    ):
        raise _no_list(argument, cast("object", value), check, of)
    found = tuple(value)
    for index, each in enumerate(found):
        check(f"{argument}[{index}]", each)
    return found


def _no_list(
    argument: str, value: object, check: Callable[[str, object], None], of: str
) -> InvalidConfiguration:
    """Return the error for an argument of several values that is no list of them."""
    if check is secret:
        kind = type(value).__name__
        return InvalidConfiguration(
            f"{argument} must be a list of {of}, not an object of type {kind}"
        )
    error = refused(argument, f"a list of {of}", value)
    try:
        check(argument, value)
    except InvalidConfiguration:
        return error
    shown = repr(value) if isinstance(value, str | int) else "…"
    return InvalidConfiguration(f"{error}; write {argument}=[{shown}]")


def mapping(
    argument: str, value: object, allowed: str = "a dict", *, optional: bool = False
) -> None:
    """Check a mapping, such as a dict."""
    instance(argument, value, (dict, Mapping), allowed, optional=optional)


def moment(argument: str, value: object, *, optional: bool = False) -> None:
    """Check a time that has its time zone."""
    if optional and value is None:
        return
    if not isinstance(value, datetime) or value.utcoffset() is None:
        hint = "a datetime with its time zone, such as datetime.now().astimezone()"
        raise refused(argument, _or_none(hint, optional=optional), value)


def _or_none(allowed: str, *, optional: bool) -> str:
    return f"{allowed} or None" if optional else allowed


# ---- the event loop of the caller


def check_loop(home: asyncio.AbstractEventLoop | None, what: str) -> None:
    """
    Check that the caller runs in the event loop in which an object lives.

    Args:
        home: That event loop; None if it lives in none yet.
        what: The object, in words.

    Raises:
        WrongEventLoop: If another event loop runs in this thread, or none.
    """
    if home is None or home.is_closed():
        return
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not home:
        raise WrongEventLoop(
            f"{what} lives in another event loop: use "
            f"asyncio.run_coroutine_threadsafe(…, loop) with its loop"
        )
