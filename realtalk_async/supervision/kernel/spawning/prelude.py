"""
The shell that runs in a child before its program: it enters a cgroup, sets limits, takes a
controlling terminal, or stops.

It becomes the program by exec: pid, session and streams stay. Nothing but the shell runs
before the limits hold. It costs about 0.6 ms, and the app does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel.spawn import must_exist
from realtalk_async.supervision.kernel.spawning.limits import shell_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.spawning.limits import Limits

SHELL = "/bin/sh"

REFUSED = 126
"""The exit status if the system refuses a limit or the cgroup; stderr says why."""


def with_prelude(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str | None,
    limits: Limits | None,
    cgroup: Cgroup | None = None,
    *,
    tty: bool = False,
    stopped: bool = False,
) -> Sequence[str]:
    """
    Return *argv* behind a shell that enters *cgroup*, sets *limits*, and so on.

    Without any of them it is *argv* itself.

    Args:
        argv: The program and its arguments.
        env: Its whole environment.
        cwd: Its working directory; the app's own if None.
        limits: The limits.
        cgroup: The cgroup.
        tty: Whether its stdin is a terminal, which becomes the controlling one.
        stopped: Whether the shell then stops until it receives SIGCONT.

    Raises:
        OSError: If the shell would not find the program, or may not execute it.
    """
    enforced = cgroup.enforced if cgroup else frozenset[str]()
    steps = list(shell_lines(limits, enforced)) if limits else []
    words: tuple[str, ...] = ()
    if cgroup is not None:
        # "0" is the process that writes: the shell itself.
        steps = ['echo 0 > "$1"', "shift", *steps]
        words = (cgroup.entrance,)
    if tty:
        # A session's leader without a terminal gets the one that it opens.
        steps = [": <>/dev/fd/0", *steps]
    if stopped:
        steps.append("kill -STOP $$")
    if not steps:
        return argv
    must_exist(argv[0], env, cwd)
    script = "".join(f"{{ {step}; }} || exit {REFUSED}\n" for step in steps)
    return (SHELL, "-c", f'{script}exec "$@"', SHELL, *words, *argv)
