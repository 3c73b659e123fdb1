"""Read what `realtalk-async run` is to run: from a file, from ``.env``. An edge."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.cli.config import spec
from realtalk_async.cli.config.procfile import (
    BASE_PORT,
    parse_env,
    parse_procfile,
    port_of,
)
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import TRANSIENT, RestartPolicy

if TYPE_CHECKING:
    from realtalk_async.cli.config.spec import Recipe
    from realtalk_async.supervision.policy.restart import Mode

NAMES = ("realtalk.toml", "Procfile")
"""What is looked for if no file is given, in this order."""


class NotFound(InvalidConfiguration):
    """The command given by hand is not there, or cannot be executed."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        """The exit code that shells give for it."""
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the command line says about restarts; None where it says nothing."""

    mode: Mode | None = None
    max_failures: float | None = None

    @property
    def is_given(self) -> bool:
        """Whether it says anything."""
        return self != Policy()

    def made(self) -> RestartPolicy:
        """Return the policy, what is not said as usual."""
        policy = TRANSIENT if self.mode is None else RestartPolicy(self.mode)
        if self.max_failures is None:
            return policy
        return replace(policy, max_failures=self.max_failures)


def find(folder: str) -> str | None:
    """Return the file to run in a folder; None if there is none."""
    return next((name for name in NAMES if Path(folder, name).is_file()), None)


def of_command(argv: tuple[str, ...], policy: Policy) -> Recipe:
    """
    Return the recipe for a command given by hand.

    Raises:
        NotFound: If it cannot be run: that is better told at once than tried again.
    """
    if shutil.which(argv[0]) is None:
        is_there = os.sep in argv[0] and os.path.exists(argv[0])
        what = "it cannot be executed" if is_there else "there is no such program"
        raise NotFound(f"realtalk-async: {argv[0]}: {what}", 126 if is_there else 127)
    return spec.of_command(argv, policy.made())


def of_file(file: str, policy: Policy, port: int | None, env: Path | None) -> Recipe:
    """
    Return the recipe that a file holds: TOML if it is called so, else a Procfile.

    Args:
        file: Its path.
        policy: For all of a Procfile's processes.
        port: The first ``PORT`` of a Procfile; else that of ``.env``, that of our own
            environment, 5000.
        env: The file with the environment of a Procfile; ``.env`` beside it, if that is
            there, when None.

    Raises:
        BadRecipe: With all mistakes.
        InvalidConfiguration: If something was given that is not for such a file.
        OSError: If it cannot be read.
    """
    text = _read(file)
    folder = str(Path(file).absolute().parent)
    if file.endswith(".toml"):
        if policy.is_given or port is not None or env is not None:
            raise InvalidConfiguration(
                f"{file}: --restart, --max-failures, --port and --env-file are for a "
                f"COMMAND or a Procfile: TOML says all of it itself"
            )
        from realtalk_async.cli.config.toml import parse_toml

        return parse_toml(text, file, base=folder)
    values = _environment(Path(file).parent / ".env", env)
    made = parse_procfile(
        text, file, env=values, port=port or _port(values), cwd=folder
    )
    parts = (replace(part, restart=policy.made()) for part in made.parts)
    return replace(made, parts=tuple(parts))


def _environment(usual: Path, given: Path | None) -> dict[str, str]:
    if given is None and not usual.is_file():
        return {}
    path = str(given or usual)
    return parse_env(_read(path), path)


def _port(values: dict[str, str]) -> int:
    if "PORT" in values:
        return port_of(values["PORT"], ".env")
    if "PORT" in os.environ:
        return port_of(os.environ["PORT"], "the environment")
    return BASE_PORT


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidConfiguration(f"{path}: it is not UTF-8 text: {exc}") from exc
