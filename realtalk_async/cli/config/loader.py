"""Load the spec of a run: from the command line, from a Procfile and ``.env``, from TOML."""

from __future__ import annotations

import os
import shlex
import shutil
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.cli import exit_codes
from realtalk_async.cli.config.procfile import BASE_PORT, LAST_PORT, parse_procfile
from realtalk_async.cli.config.spec import Problem, spec_of_command
from realtalk_async.cli.terminal.controlling import terminal_streams
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import TRANSIENT, RestartPolicy
from realtalk_async.supervision.kernel.spawning.mistakes import is_shell_line

if TYPE_CHECKING:
    from realtalk_async.cli.config.spec import AppSpec
    from realtalk_async.supervision.policy.restart import Mode

DEFAULT_FILES = ("realtalk.toml", "Procfile")
"""The files to look for if the command line names none, in this order."""


class CommandNotFound(InvalidConfiguration):
    """The command of the command line does not exist, or cannot be executed."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        """The exit code that shells give for it."""
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class RestartOptions:
    """The restart options of the command line; None for a missing option."""

    mode: Mode | None = None
    max_failures: float | None = None

    @property
    def is_given(self) -> bool:
        """Whether there is any option."""
        return self != RestartOptions()

    def policy(self) -> RestartPolicy:
        """Return the restart policy, with defaults for missing options."""
        policy = TRANSIENT if self.mode is None else RestartPolicy(self.mode)
        if self.max_failures is None:
            return policy
        return replace(policy, max_failures=self.max_failures)


def find_file(folder: str) -> str | None:
    """Return the name of the file to run in a folder; None if there is none."""
    return next((name for name in DEFAULT_FILES if Path(folder, name).is_file()), None)


def load_command(argv: tuple[str, ...], restart: RestartOptions) -> AppSpec:
    """
    Return the spec for a command of the command line.

    Raises:
        CommandNotFound: If the program cannot be run: retries would not help.
    """
    if shutil.which(argv[0]) is None:
        is_there = os.sep in argv[0] and os.path.exists(argv[0])
        what = "it cannot be executed" if is_there else "there is no such program"
        code = exit_codes.NOT_EXECUTABLE if is_there else exit_codes.NOT_FOUND
        if is_shell_line(argv[0]):
            what += f"; for a line of a shell: run -- sh -c {shlex.quote(argv[0])}"
        raise CommandNotFound(f"realtalk-async: {argv[0]}: {what}", code)
    return spec_of_command(argv, restart.policy(), terminal_streams())


def load_file(
    file: str,
    restart: RestartOptions,
    port: int | None,
    env_file: Path | None,
    running: AppSpec | None = None,
) -> AppSpec:
    """
    Return the spec that a file holds: TOML if its name ends in ``.toml``, or a Procfile.

    Args:
        file: The file's path.
        restart: For all processes of a Procfile.
        port: The first ``PORT`` of a Procfile; without it that of ``.env``, that of the
            own environment, 5000.
        env_file: The file with the environment of a Procfile; without it, the ``.env``
            beside the Procfile, if there is one.
        running: What the file described when it was read last.

    Raises:
        InvalidSpec: With all problems of the file.
        InvalidConfiguration: If an option is not for this kind of file.
        OSError: If the file cannot be read.
    """
    text = _read(file)
    folder = str(Path(file).absolute().parent)
    if file.endswith(".toml"):
        if restart.is_given or port is not None or env_file is not None:
            raise InvalidConfiguration(
                f"{file}: --restart, --max-failures, --port and --env-file are for a "
                f"COMMAND or a Procfile; in TOML they are keys of the file"
            )
        # Only here: pydantic takes a tenth of a second to import.
        from realtalk_async.cli.config.toml import parse_toml

        return parse_toml(text, file, base=folder)
    env_path = env_file or Path(file).parent / ".env"
    values, notices = _environment(env_path, must_exist=env_file is not None)
    base, wrong_ports = _base_port(values, str(env_path))
    spec = parse_procfile(
        text,
        file,
        env=values,
        port=port or base,
        cwd=folder,
        restart=restart.policy(),
        running=running,
    )
    return replace(spec, notices=(*notices, *([] if port else wrong_ports)))


def _environment(
    path: Path, *, must_exist: bool
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Return the variables of a ``.env``, and the lines that are not understood."""
    if not must_exist and not path.is_file():
        return {}, ()
    # Imported here: only a .env needs it.
    from realtalk_async.cli.config.dotenv import parse_dotenv

    # A variable holds bytes: they reach the child as they stand in the file.
    text = _read_bytes(path).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")  # as in any text file
    content = parse_dotenv(lines, str(path))
    return content.values, content.problems


def _base_port(values: dict[str, str], file: str) -> tuple[int, list[Problem]]:
    """Return the first ``PORT``, and a problem for each value that is none."""
    problems: list[Problem] = []
    for source, variables in ((file, values), ("the environment", os.environ)):
        text = variables.get("PORT", "").strip()
        if text.isdecimal() and text.isascii() and 0 < int(text[:6]) <= LAST_PORT:
            return int(text), problems
        if text:
            what = f"it is left out: a port is a number from 1 to {LAST_PORT}"
            problems.append(Problem(source, None, "PORT", what))
    return BASE_PORT, problems


def _read_bytes(path: str | Path) -> bytes:
    data = Path(path).read_bytes()
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in data[:2]:
        raise InvalidConfiguration(
            f"{path}:1: it is UTF-16 text, as PowerShell writes it: save the file as UTF-8"
        )
    return data


def _read(path: str) -> str:
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InvalidConfiguration(
            f"{path}:{line}: it is not UTF-8 text: save the file as UTF-8"
        ) from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")
