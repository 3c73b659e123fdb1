"""
What is different in a frozen app: its interpreter, and the libraries of its children.

Not every host has an interpreter for a script of this package. In a frozen app
(PyInstaller, cx_Freeze, Nuitka) and in a program that embeds Python, `sys.executable` is
the app itself: to run it would start the app again.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys

_NAME = re.compile(r"(python|pypy|graalpy)[\w.-]*", re.IGNORECASE)
_FROZEN = "frozen", "oxidized"
"""Attributes that PyInstaller, cx_Freeze, py2exe and PyOxidizer give to `sys`."""


def find_interpreter() -> str | None:
    """Return the path of a Python that is not the app itself; None if there is none."""
    program = sys.executable or ""
    if (
        any(getattr(sys, name, False) for name in _FROZEN)
        or "__compiled__" in globals()
    ):
        return None
    if not _NAME.fullmatch(os.path.basename(program)):
        return None
    return program if os.access(program, os.X_OK) else None


def script_words(module: str, *options: str) -> tuple[str, ...] | None:
    """
    Return the words that run a module of this package as ``__main__``.

    In a zipped app, where no file has its source, the words contain it.

    Args:
        module: Its full name.
        options: Of the interpreter; by default those for a module that needs only the
            standard library, which start it in a few milliseconds.

    Returns:
        None if no interpreter or no source is there.
    """
    program = find_interpreter()
    spec = importlib.util.find_spec(module) if program else None
    if program is None or spec is None:
        return None
    words = (program, *(options or ("-I", "-S")))
    if spec.origin and os.path.isfile(spec.origin):
        return (*words, spec.origin)
    get_source = getattr(spec.loader, "get_source", None)
    source = get_source(module) if get_source else None
    return (*words, "-c", source) if source else None


def without_bundle(environment: dict[str, str]) -> dict[str, str]:
    """
    Take the libraries inside an app of PyInstaller out of the search path.

    Its programs have them first by ``LD_LIBRARY_PATH``; those of the system, such as sox,
    fail with them.
    """
    bundle, path = getattr(sys, "_MEIPASS", None), environment.get("LD_LIBRARY_PATH")
    if bundle and path:
        kept = [folder for folder in path.split(":") if folder != bundle]
        del environment["LD_LIBRARY_PATH"]
        if kept:
            environment["LD_LIBRARY_PATH"] = ":".join(kept)
    return environment
