"""Let the shell parse command lines without running them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from realtalk_async.cli.run_summary import shell_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.cli.config.spec import AppSpec

TIMEOUT = 10.0
"""Seconds that the shell may take for one line."""


def syntax_warnings(spec: AppSpec) -> Iterator[str]:
    """Yield the words of the shell about each command line that it cannot parse."""
    for process in spec.processes:
        if not process.shell:
            continue
        try:
            done = subprocess.run(
                [process.shell, "-n", "-c", process.command_line],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            yield f"{process.name}: {process.shell} cannot check its line: {exc}"
            continue
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        if done.returncode and lines:
            place = spec.file if process.line is None else f"{spec.file}:{process.line}"
            hint = shell_hint(process, lines)
            yield f"{place}: {process.name}: {lines[0]}{hint}"
