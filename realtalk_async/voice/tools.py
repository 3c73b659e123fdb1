"""
Tools: functions of the app that the service may call.

pydantic derives the JSON schema from the signature and validates the arguments of a call.
Each call runs in its own task, so a slow tool does not delay the connection.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, cast

import orjson

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.concurrency.step_timer import StepTimer
from realtalk_async.exceptions import EndSession, InvalidConfiguration
from realtalk_async.voice.events import ToolFinished

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.voice.events import ToolCalled
    from realtalk_async.voice.protocol.messages import Message

ToolFunction: TypeAlias = Callable[..., object]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARGUMENT = re.compile(r"\s{4,}\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)")
BLOCKED = 0.5
"""Seconds in the event loop without a pause that are told as blocking."""

_working_call: ContextVar[_RunningCall | None] = ContextVar(
    "_working_call", default=None
)


def is_in_tool() -> bool:
    """Return whether a tool that has not returned called the code that asks."""
    call = _working_call.get()
    return call is not None and call.works


MAX_OUTPUT = 100_000
"""Characters of an output that the service gets; more would not fit into its context."""

_CANCEL_TIMEOUT = 1.0  # seconds that a cancelled tool has to end


class _Arguments(Protocol):
    """The part of pydantic's `TypeAdapter` that is used here."""

    def validate_json(self, data: str, /) -> object: ...
    def json_schema(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Tool:
    """
    A function that the service may call; made by `Tool.of`.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    name: str
    description: str
    parameters: Mapping[str, object]
    """The JSON schema of the arguments."""
    call: Callable[[str], object] = field(repr=False)
    """Takes the arguments as a JSON object in text and returns an awaitable."""
    timeout: float = 30.0
    """Seconds that a call may take."""
    cancel_on_interruption: bool = True
    """Whether a call is cancelled when the user breaks in."""
    runs_in_thread: bool = False
    """Whether *call* works in a thread, which goes on after a cancellation."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        arguments.text("description", self.description)
        arguments.mapping("parameters", self.parameters, "a JSON schema as a dict")
        arguments.function("call", self.call)
        _check_timeout(self.timeout)
        arguments.flag("cancel_on_interruption", self.cancel_on_interruption)
        arguments.flag("runs_in_thread", self.runs_in_thread)

    @classmethod
    def of(
        cls,
        function: ToolFunction,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float = 30.0,
        cancel_on_interruption: bool = True,
    ) -> Tool:
        """
        Make a tool of a function.

        Args:
            function: One that is not async runs in a thread, where it may block. Its
                parameters have type annotations that pydantic supports, such as
                ``Annotated[int, Field(ge=1)]``. It returns a text, or a value that can be
                written as JSON, of 100,000 characters at most: the rest is cut, and the
                `ToolFinished` tells it.
            name: By default the function's name.
            description: By default the first paragraph of the docstring. The parameters'
                descriptions in its section ``Args:`` go into the schema.
            timeout: Seconds that a call may take; a longer call fails.
            cancel_on_interruption: Whether a call is cancelled when the user breaks in,
                or `Stream.interrupt` is called. Give False for what must not be cut
                short, such as a payment. A call is always cancelled when the session
                ends. A function that is not async goes on in its thread after a
                cancellation, and its result is dropped.

        Raises:
            InvalidConfiguration: If the function cannot be called, has no valid name, or has
                a parameter whose type has no schema; or if another argument is invalid.
            ImportError: If pydantic is not installed.
        """
        if not _is_function(function):
            raise arguments.refused("function", "a function", function)
        name = str(getattr(function, "__name__", "")) if name is None else name
        _check_name(name)
        arguments.text("description", description, optional=True)
        _check_timeout(timeout)
        docstring = inspect.getdoc(function) or ""
        adapter, schema = _arguments_of(_plain_function(function), name)
        _add_descriptions(schema, docstring)
        description = description or " ".join(docstring.split("\n\n")[0].split())
        in_thread = not _is_async(function)
        call = adapter.validate_json
        if in_thread:
            call = _in_thread(adapter.validate_json, name)
        return cls(
            *(name, description, schema, call, timeout),
            cancel_on_interruption=cancel_on_interruption,
            runs_in_thread=in_thread,
        )

    def to_message(self) -> Message:
        """Return the entry for ``session.tools``."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }


def _check_name(name: object) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise arguments.refused("name", "1 to 64 of A-Z a-z 0-9 _ -", name)


def _check_timeout(timeout: object) -> None:
    arguments.number("timeout", timeout, of="seconds", more_than=0)


def _check_tool(argument: str, value: object) -> None:
    if not (isinstance(value, Tool) or _is_function(value)):
        raise arguments.refused(argument, "a Tool or a function", value)


def _tool_of(argument: str, function: ToolFunction) -> Tool:
    """Make a tool of a function that is one of several; an error tells which."""
    try:
        return Tool.of(function)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{argument}: {error}") from error


def _is_function(value: object) -> bool:
    is_generator = inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(
        value
    )
    return callable(value) and not (isinstance(value, type) or is_generator)


def _in_thread(call: Callable[[str], object], name: str) -> Callable[[str], object]:
    """Return a function that runs *call* in a thread of its own."""

    def call_in_a_thread(arguments: str) -> Awaitable[object]:
        return call_in_thread(lambda: call(arguments), f"tool {name}")

    return call_in_a_thread


def _is_async(function: object) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - the object may be callable
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _plain_function(function: ToolFunction) -> ToolFunction:
    """Return the function itself, or the `__call__` of a callable object."""
    if inspect.isroutine(function) or inspect.iscoroutinefunction(function):
        return function
    # By name: type checkers do not know `__call__` as an attribute.
    return cast("ToolFunction", getattr(function, "__call__"))  # noqa: B004, B009


def _arguments_of(
    function: ToolFunction, name: str
) -> tuple[_Arguments, dict[str, object]]:
    try:
        # Imported late: pydantic takes as long to import as the rest of the package.
        import pydantic
    except ImportError as error:  # pragma: no cover - always installed in tests
        raise ImportError(
            "tools need pydantic: pip install 'realtalk-async[tools]'"
        ) from error
    try:
        # `TypeAdapter` accepts functions, although its annotations do not say so.
        adapt = cast("Callable[[object], _Arguments]", pydantic.TypeAdapter)
        adapter = adapt(function)
        schema = adapter.json_schema()
    except (pydantic.PydanticUserError, NameError, TypeError) as error:
        raise InvalidConfiguration(
            f"no schema for the parameters of the tool {name!r}: {error}"
        ) from error
    if schema.get("type") != "object":
        raise InvalidConfiguration(
            f"the tool {name!r} has positional-only parameters; the service needs names"
        )
    return adapter, schema


def _add_descriptions(schema: Mapping[str, object], docstring: str) -> None:
    """Add the parameters' descriptions to *schema* and remove pydantic's titles."""
    descriptions = _argument_descriptions(docstring)
    properties = cast("dict[str, dict[str, object]]", schema.get("properties", {}))
    for name, parameter in properties.items():
        parameter.pop("title", None)
        if name in descriptions:
            parameter.setdefault("description", descriptions[name])


def _argument_descriptions(docstring: str) -> dict[str, str]:
    """Parse the section ``Args:`` of a docstring in Google style."""
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
    The tools of one session and their running calls.

    Args:
        tools: Tools, or functions from which tools are made.

    Raises:
        InvalidConfiguration: If two tools have the same name, or a function is no tool.
    """

    def __init__(self, tools: Iterable[Tool | ToolFunction] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._tasks: set[asyncio.Task[None] | asyncio.Task[str]] = set()
        self._calls: dict[str, _RunningCall] = {}
        of = "Tools or functions"
        given = arguments.several("tools", tools, _check_tool, of)
        for index, each in enumerate(given):
            tool = each if isinstance(each, Tool) else _tool_of(f"tools[{index}]", each)
            if tool.name in self._tools:
                raise InvalidConfiguration(f"two tools are called {tool.name!r}")
            self._tools[tool.name] = tool

    def to_message(self) -> tuple[Message, ...]:
        """Return the value of ``session.tools``."""
        return tuple(tool.to_message() for tool in self._tools.values())

    def start(self, call: ToolCalled, done: Callable[[ToolFinished], None]) -> None:
        """Run a call in its own task, then call *done*, once."""
        running = _RunningCall(call, self._tools.get(call.name), done)
        self._calls[call.call_id] = running
        running.task = asyncio.create_task(self._run(running), name=f"tool {call.name}")
        self._keep(running.task)

    def interrupt(self) -> None:
        """Cancel the running calls that the user may interrupt."""
        for call in list(self._calls.values()):
            if call.tool is not None and call.tool.cancel_on_interruption:
                self._cancel(call, "the user interrupted")

    async def aclose(self) -> None:
        """Cancel the running calls and wait for them, for 1 s at most. Idempotent."""
        for call in list(self._calls.values()):
            self._cancel(call, "the session ended")
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CANCEL_TIMEOUT)

    def _cancel(self, call: _RunningCall, why: str) -> None:
        """Cancel a call, and tell so at once: its task may take its time to end."""
        if call.task is not None:
            call.task.cancel()
        goes_on = call.tool is not None and call.tool.runs_in_thread
        error = "its function goes on in its thread; the result is dropped"
        output = f"error: the call was cancelled: {why}"
        result = _Result(output, failed=True, error=error if goes_on else "")
        self._finish(call, result, cancelled=True)

    def _finish(
        self, call: _RunningCall, result: _Result, *, cancelled: bool = False
    ) -> None:
        if self._calls.get(call.event.call_id) is not call:
            return  # it was cancelled, and ended too late
        del self._calls[call.event.call_id]
        blocked = call.timer.longest
        call.done(
            ToolFinished(
                call.event.call_id,
                call.event.name,
                result.output,
                time.monotonic() - call.started,
                failed=result.failed,
                error=result.error,
                blocked=blocked if blocked >= BLOCKED else 0.0,
                cancelled=cancelled,
                ends_session=result.ends_session,
            )
        )

    def _keep(self, task: asyncio.Task[None] | asyncio.Task[str]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None] | asyncio.Task[str]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: a result that came too late is ignored

    async def _run(self, call: _RunningCall) -> None:
        tool = call.tool
        if tool is None:
            known = ", ".join(self._tools) or "none"
            output = f"error: there is no tool {call.event.name!r}; known: {known}"
            self._finish(call, _Result(output, failed=True))
            return
        task = asyncio.create_task(_run_tool(tool, call))
        self._keep(task)
        try:
            await asyncio.wait([task], timeout=tool.timeout)
        finally:
            task.cancel()  # not awaited: a tool may ignore its cancellation
        self._finish(call, _result_of(task, tool.timeout))


class _Result(NamedTuple):
    """How a call ended."""

    output: str
    """The answer for the service."""
    failed: bool = False
    error: str = ""
    """A traceback, or what else people should know."""
    ends_session: bool = False


@dataclass(slots=True, eq=False)
class _RunningCall:
    """A call that has not ended."""

    event: ToolCalled
    tool: Tool | None
    """None if there is no tool of that name."""
    done: Callable[[ToolFinished], None]
    started: float = field(default_factory=time.monotonic)
    timer: StepTimer = field(default_factory=StepTimer)
    task: asyncio.Task[None] | None = None
    works: bool = True
    """Whether the tool has not returned."""


async def _run_tool(tool: Tool, call: _RunningCall) -> str:
    _working_call.set(call)  # in the context of the task that runs this call
    try:
        return _as_text(await call.timer.run(tool.call, call.event.arguments or "{}"))
    finally:
        call.works = False


def _result_of(task: asyncio.Task[str], timeout: float) -> _Result:
    if not task.done():
        return _Result(f"error: no result within {timeout:g} s", failed=True)
    if task.cancelled():
        return _Result("error: the tool was cancelled", failed=True)
    error = task.exception()
    if error is None:
        return _within_bounds(task.result())
    if isinstance(error, EndSession):
        return _Result(error.output, ends_session=True)
    trace = "".join(traceback.format_exception(error))
    return _Result(_answer_to(error), failed=True, error=trace)


def _within_bounds(output: str) -> _Result:
    """Cut an output that the model, or the connection, could not take."""
    size = len(output)
    if size <= MAX_OUTPUT:
        return _Result(output)
    told = f"the output of {size:,} characters was cut to {MAX_OUTPUT:,}"
    return _Result(output[:MAX_OUTPUT], error=told)


def _answer_to(error: BaseException) -> str:
    """Return what the service is told: it reads errors of a program to the user."""
    if type(error).__module__.startswith("pydantic"):  # its arguments: it can mend them
        return f"error: {type(error).__name__}: {error}"
    return "error: the tool failed"


def _as_text(result: object) -> str:
    """Return a text unchanged and any other value as JSON."""
    if isinstance(result, str):
        return result
    try:
        return orjson.dumps(result, default=_as_json).decode()
    except TypeError:  # such as an integer of more than 64 bits, or an invalid key
        return str(result)


def _as_json(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic model
    return dump(mode="json") if callable(dump) else str(value)
