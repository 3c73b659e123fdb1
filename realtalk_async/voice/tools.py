"""
Tools: the app's own async functions, which the service may call.

The schema of a tool is read from its signature by pydantic, and so are the arguments of
a call checked. Tools run in tasks of their own: a slow one keeps nobody from reading.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import orjson

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.events import ToolFinished

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.voice.events import ToolCalled
    from realtalk_async.voice.protocol.messages import Message

ToolFunction: TypeAlias = Callable[..., Awaitable[object]]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARGUMENT = re.compile(r"\s{4,}\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)")
_GRACE = 1.0  # seconds that a tool has to end once it is cancelled


class _Arguments(Protocol):
    """What calls a function with arguments that are JSON: a pydantic adapter."""

    def validate_json(self, data: str, /) -> object: ...
    def json_schema(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Tool:
    """
    An async function that the service may call. Made by `Tool.of`.
    """

    name: str
    description: str
    parameters: Mapping[str, object]
    """The JSON schema of its arguments."""
    call: Callable[[str], object] = field(repr=False)
    """Call it with arguments that are the text of a JSON object; returns the awaitable."""
    timeout: float = 30.0
    """Seconds that it may take."""

    @classmethod
    def of(
        cls,
        function: ToolFunction,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float = 30.0,
    ) -> Tool:
        """
        Make a tool of an async function.

        Args:
            function: Its parameters have types; all that pydantic knows will do, also
                ``Annotated[int, Field(ge=1)]``. It returns a text, or anything that can
                be written as JSON.
            name: By default the function's.
            description: By default the first paragraph of its docstring. What the
                docstring says of a parameter under ``Args:`` goes into the schema.
            timeout: Seconds that it may take; then the service is told that it failed.

        Raises:
            InvalidConfiguration: If it is not async, has no usable name, or a parameter
                of a type without a schema.
            ImportError: If pydantic is not installed.
        """
        name = name or str(getattr(function, "__name__", ""))
        if not _is_async(function):
            raise InvalidConfiguration(f"the tool {name!r} is no async function")
        if not _NAME.fullmatch(name):
            raise InvalidConfiguration(
                f"{name!r} cannot be a tool's name: 1 to 64 of A-Z a-z 0-9 _ -"
            )
        if not timeout > 0:
            raise InvalidConfiguration(f"a timeout is more than 0 s, not {timeout}")
        said = inspect.getdoc(function) or ""
        arguments, schema = _arguments_of(_plain_function(function), name)
        _describe(schema, said)
        description = description or " ".join(said.split("\n\n")[0].split())
        return cls(name, description, schema, arguments.validate_json, timeout)

    def to_message(self) -> Message:
        """Return the entry for ``session.tools``."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }


def _is_async(function: object) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - an object with an async one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _plain_function(function: ToolFunction) -> ToolFunction:
    """Return the method of an object that is called like a function."""
    if inspect.iscoroutinefunction(function):
        return function
    # By name, for the type checkers know only of the call itself.
    return cast("ToolFunction", getattr(function, "__call__"))  # noqa: B004, B009


def _arguments_of(
    function: ToolFunction, name: str
) -> tuple[_Arguments, dict[str, object]]:
    try:
        # Only who has tools pays for it: it takes as long to import as all the rest.
        import pydantic
    except ImportError as error:  # pragma: no cover - always there in tests
        raise ImportError(
            "tools need pydantic: pip install 'realtalk-async[tools]'"
        ) from error
    try:
        # It takes functions too, which its annotations do not tell.
        adapt = cast("Callable[[object], _Arguments]", pydantic.TypeAdapter)
        arguments = adapt(function)
        schema = arguments.json_schema()
    except (pydantic.PydanticUserError, NameError, TypeError) as error:
        raise InvalidConfiguration(
            f"no schema for the parameters of the tool {name!r}: {error}"
        ) from error
    if schema.get("type") != "object":
        raise InvalidConfiguration(
            f"the tool {name!r} has positional-only parameters; they need names"
        )
    return arguments, schema


def _describe(schema: Mapping[str, object], docstring: str) -> None:
    """Add what *docstring* says of the parameters; leave out the titles."""
    said = _argument_descriptions(docstring)
    properties = cast("dict[str, dict[str, object]]", schema.get("properties", {}))
    for name, described in properties.items():
        described.pop("title", None)
        if name in said:
            described.setdefault("description", said[name])


def _argument_descriptions(docstring: str) -> dict[str, str]:
    """Read the section ``Args:`` of a Google docstring."""
    found: dict[str, str] = {}
    name = ""
    _, _, section = docstring.partition("\nArgs:\n")
    for line in section.split("\n\n")[0].splitlines():
        begins = _ARGUMENT.match(line) if line[:5].strip() else None
        if begins:
            name = begins[1]
            found[name] = begins[2].strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}"
    return found


class Toolbox:
    """
    The tools of one session, and their calls that are under way.

    Args:
        tools: Tools, or async functions to make tools of.

    Raises:
        InvalidConfiguration: If two have one name, or one is no tool.
    """

    def __init__(self, tools: Iterable[Tool | ToolFunction] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._running: set[asyncio.Task[None] | asyncio.Task[str]] = set()
        for each in tools:
            tool = each if isinstance(each, Tool) else Tool.of(each)
            if tool.name in self._tools:
                raise InvalidConfiguration(f"two tools are called {tool.name!r}")
            self._tools[tool.name] = tool

    def to_message(self) -> tuple[Message, ...]:
        """Return what the service is told of the tools."""
        return tuple(tool.to_message() for tool in self._tools.values())

    def start(self, call: ToolCalled, done: Callable[[ToolFinished], None]) -> None:
        """Run a call in a task of its own; then call *done*, unless we closed."""
        self._keep(asyncio.create_task(self._run(call, done), name=f"tool {call.name}"))

    def _keep(self, task: asyncio.Task[None] | asyncio.Task[str]) -> None:
        self._running.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None] | asyncio.Task[str]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of one that was late nobody asks any more

    async def _run(
        self, call: ToolCalled, done: Callable[[ToolFinished], None]
    ) -> None:
        started = time.monotonic()
        output, failed = await self._answer(call)
        seconds = time.monotonic() - started
        done(ToolFinished(call.call_id, call.name, output, seconds, failed=failed))

    async def _answer(self, call: ToolCalled) -> tuple[str, bool]:
        """Return what the tool says, or why it failed, and whether it did."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return f"error: there is no tool {call.name!r}; known: {known}", True
        working = asyncio.create_task(_call(tool, call.arguments or "{}"))
        self._keep(working)
        try:
            await asyncio.wait([working], timeout=tool.timeout)
        finally:
            working.cancel()  # one that does not heed that is not waited for
        return _verdict(working, tool.timeout)

    async def aclose(self) -> None:
        """
        Cancel the calls that are under way, and wait a second for them. Idempotent.
        """
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=_GRACE)


async def _call(tool: Tool, arguments: str) -> str:
    return _as_text(await cast("Awaitable[object]", tool.call(arguments)))


def _verdict(working: asyncio.Task[str], timeout: float) -> tuple[str, bool]:
    """Return what a tool says, or why it failed, and whether it did."""
    if not working.done():
        return f"error: no answer within {timeout:g} s", True
    if working.cancelled():
        return "error: it was cancelled", True
    error = working.exception()
    return (working.result(), False) if error is None else (_as_error(error), True)


def _as_error(error: BaseException) -> str:
    return f"error: {type(error).__name__}: {error}"


def _as_text(answer: object) -> str:
    """Return a text as it is, anything else as JSON."""
    if isinstance(answer, str):
        return answer
    try:
        return orjson.dumps(answer, default=_plainly).decode()
    except TypeError:  # a huge number, a key that is none
        return str(answer)


def _plainly(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic model
    return dump(mode="json") if callable(dump) else str(value)
