"""
posix_spawn(3) of the GNU C library, with the extensions that Python does not offer.

A child inherits the signal mask of the thread that starts it, and the ignored signals of
the app. `subprocess` cannot change either without running Python code in the child.
posix_spawn can; `os.posix_spawn` in turn has no working directory and cannot close the
app's inheritable descriptors. The C library's own function has both.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SETPGROUP, SETSIGDEF, SETSIGMASK, SETSID = 0x02, 0x04, 0x08, 0x80
"""Flags of posix_spawnattr_setflags(3), from glibc's ``spawn.h``."""

NO_SIGNALS = bytes(128)
ALL_SIGNALS = b"\xff" * 128
"""Values of glibc's ``sigset_t``: one bit for each signal."""

OPAQUE_SIZE = 1024
"""Bytes for ``posix_spawnattr_t`` (336) and ``posix_spawn_file_actions_t`` (80)."""

INHERITED = -1
"""In place of a descriptor: the child has the app's own."""

DEVNULL = -3
"""In place of a descriptor: ``/dev/null``, as in `subprocess`."""

NEEDED = (
    "posix_spawn",
    "posix_spawnp",
    "posix_spawn_file_actions_addchdir_np",  # since glibc 2.29
    "posix_spawn_file_actions_addclosefrom_np",  # since glibc 2.34
)


def _load() -> Any:  # noqa: ANN401 - ctypes has no types for functions
    """Return the C library if it has all functions; None if not."""
    try:
        # ValueError: a system without this C library
        is_glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (OSError, ValueError):
        return None
    # As in `subprocess`, the thread keeps Python's lock: otherwise another busy thread
    # could keep the event loop from it for 5 ms after each start.
    library = ctypes.PyDLL(None)
    has_all = all(hasattr(library, name) for name in NEEDED)
    return library if is_glibc and has_all else None


_libc = _load()

available: bool = _libc is not None
"""Whether this system has glibc 2.34 or newer."""


def spawn(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: str | None,
    streams: Sequence[int],
    new_session: bool,
    process_group: int | None,
) -> int:
    """
    Start a program with an empty signal mask and the default disposition of all signals.

    The child has no descriptors but *streams*.

    Args:
        argv: The program and its arguments.
        environment: Its whole environment; its ``PATH`` is searched.
        cwd: Its working directory; the app's own if None.
        streams: Its stdin, stdout and stderr: descriptors, `INHERITED` or `DEVNULL`.
        new_session: Whether it leads a session of its own.
        process_group: The group that it joins; 0 for one of its own.

    Returns:
        The pid.

    Raises:
        OSError: If the operating system refuses.
        ValueError: If a text contains a NUL byte.
    """
    flags = SETSIGDEF | SETSIGMASK | (SETSID if new_session else 0)
    attributes = ctypes.create_string_buffer(OPAQUE_SIZE)
    _check(_libc.posix_spawnattr_init(attributes))
    actions = ctypes.create_string_buffer(OPAQUE_SIZE)
    copies: list[int] = []
    try:
        _check(_libc.posix_spawn_file_actions_init(actions))
        try:
            if process_group is not None:
                flags |= SETPGROUP
                _check(_libc.posix_spawnattr_setpgroup(attributes, process_group))
            _check(_libc.posix_spawnattr_setflags(attributes, flags))
            _check(_libc.posix_spawnattr_setsigmask(attributes, NO_SIGNALS))
            _check(_libc.posix_spawnattr_setsigdefault(attributes, ALL_SIGNALS))
            _add_streams(actions, streams, copies)
            if cwd is not None:
                add_chdir = _libc.posix_spawn_file_actions_addchdir_np
                _check(add_chdir(actions, _encode(cwd)))
            _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, 3))
            return _spawn_first(argv, environment, attributes, actions)
        except OSError:
            _check_folder(cwd)
            raise
        finally:
            _libc.posix_spawn_file_actions_destroy(actions)
    finally:
        for copy in copies:
            os.close(copy)
        _libc.posix_spawnattr_destroy(attributes)


def _add_streams(
    actions: ctypes.Array[ctypes.c_char], streams: Sequence[int], copies: list[int]
) -> None:
    """Give the child its streams; *copies* receives descriptors to close afterwards."""
    for number, source in enumerate(streams):
        if source == DEVNULL:
            _check(
                _libc.posix_spawn_file_actions_addopen(
                    actions, number, b"/dev/null", os.O_RDWR, 0
                )
            )
        elif source != INHERITED:
            if source < 3 and source != number:
                # An earlier stream may have replaced it in the child.
                source = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)
                copies.append(source)
            _check(_libc.posix_spawn_file_actions_adddup2(actions, source, number))


def _spawn_first(
    argv: Sequence[str],
    environment: Mapping[str, str],
    attributes: ctypes.Array[ctypes.c_char],
    actions: ctypes.Array[ctypes.c_char],
) -> int:
    """Start the first program on ``PATH`` that can be started; return its pid."""
    arguments = _vector([_encode(one) for one in argv])
    variables = _variables(environment)
    pid = ctypes.c_int()
    if os.sep not in argv[0] and environment.get("PATH") == os.environ.get("PATH"):
        # The C library searches the app's own PATH, in less time; not always to its end.
        code = _libc.posix_spawnp(
            ctypes.byref(pid),
            _encode(argv[0]),
            actions,
            attributes,
            arguments,
            variables,
        )
        if code == 0:
            return pid.value
    refusal = errno.ENOENT
    for path in _candidates(argv[0], environment):
        code = _libc.posix_spawn(
            ctypes.byref(pid), path, actions, attributes, arguments, variables
        )
        if code == 0:
            return pid.value
        # As execvpe(3) of `subprocess`: a program that cannot be executed hides no later
        # one, but its reason is the one to say.
        if refusal == errno.ENOENT:
            refusal = code if code != errno.ENOTDIR else errno.ENOENT
    raise OSError(refusal, os.strerror(refusal), argv[0])


def _candidates(program: str, environment: Mapping[str, str]) -> Iterator[bytes]:
    if os.sep in program:
        yield _encode(program)
        return
    for folder in os.get_exec_path(environment):
        path = _encode(os.path.join(folder, program))
        # A relative folder is one of the child's working directory.
        if not os.path.isabs(folder) or os.path.exists(path):
            yield path


def _check_folder(cwd: str | None) -> None:
    """Raise the error of a working directory that is none: it is not the program's."""
    if cwd is not None and not os.path.isdir(cwd):
        code = errno.ENOTDIR if os.path.exists(cwd) else errno.ENOENT
        raise OSError(code, os.strerror(code), cwd) from None


def _vector(items: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(items) + 1))(*items, None)


_last_variables: tuple[dict[str, str], ctypes.Array[ctypes.c_char_p] | None] = {}, None
"""The environment of the last start: most children of an app have the same."""


def _variables(environment: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """Return the environment as the C library wants it."""
    global _last_variables
    last, vector = _last_variables
    if vector is None or last != environment:
        items = map(_variable, environment.keys(), environment.values())
        vector = _vector(list(items))
        _last_variables = dict(environment), vector
    return vector


@lru_cache(1024)
def _variable(name: str, value: str) -> bytes:
    """Return ``NAME=value``; most children have nearly the same environment."""
    return _encode(name) + b"=" + _encode(value)


def _encode(text: str) -> bytes:
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def _check(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))
