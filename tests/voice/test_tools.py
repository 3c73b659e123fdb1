from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable  # noqa: TC003
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import anyio
import pytest
from openai.types.realtime import RealtimeFunctionTool
from pydantic import BaseModel, Field, TypeAdapter

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.events import ToolCalled
from realtalk_async.voice.tools import MAX_OUTPUT, Tool, Toolbox


class Place(BaseModel):
    """A place."""

    city: str


@dataclass
class Weather:
    """The weather of a place."""

    degrees: int


async def get_weather(
    city: str,
    days: Annotated[int, Field(ge=1, description="From today on.")] = 1,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
) -> str:
    """
    Tell the weather
    of a place.

    More than anybody wants to know.

    Args:
        city: Its name,
            as written there.
        days: Ignored here.
        unit (str): Of the temperature.

    Returns:
        A sentence.
    """
    return f"{city} {days} {unit}"


async def finish(toolbox, name, arguments="{}"):
    """Call a tool and return its `ToolFinished`."""
    finished = asyncio.get_running_loop().create_future()
    toolbox.start(ToolCalled("c1", name, arguments), finished.set_result)
    with anyio.fail_after(120):
        return await finished


# --- Schemas ----------------------------------------------------------------------


def test_schema_is_derived_from_signature_and_docstring():
    tool = Tool.of(get_weather)
    assert (tool.name, tool.description) == (
        *("get_weather", "Tell the weather of a place."),
    )
    assert tool.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "Its name, as written there."},
            "days": {
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "From today on.",
            },
            "unit": {
                "type": "string",
                "enum": ["celsius", "fahrenheit"],
                "default": "celsius",
                "description": "Of the temperature.",
            },
        },
    }


def test_tool_message_is_valid_in_the_official_sdk():
    (message,) = Toolbox([get_weather]).to_message()
    tool = TypeAdapter(RealtimeFunctionTool).validate_python(message)
    assert tool.model_dump(exclude_none=True) == message


def test_name_and_description_can_be_given():
    tool = Tool.of(get_weather, name="weather", description="Look out.", timeout=1.0)
    assert (tool.name, tool.description, tool.timeout) == ("weather", "Look out.", 1.0)


async def test_methods_and_callable_objects_can_be_tools():

    class Lamp:
        async def switch(self, on: bool) -> str:
            return f"on: {on}"

        async def __call__(self, on: bool) -> str:
            return f"called: {on}"

    toolbox = Toolbox([Lamp().switch, Tool.of(Lamp(), name="lamp")])
    for name, output in (("switch", "on: True"), ("lamp", "called: True")):
        assert (await finish(toolbox, name, '{"on":true}')).output == output


def test_invalid_tools_are_refused_at_once():

    class Strange:
        pass

    async def odd(what: Strange) -> str:
        return ""

    async def positional(a: int, /) -> str:
        return ""

    async def unresolved(a: NoSuchType) -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    for function in (odd, positional, unresolved):
        with pytest.raises(InvalidConfiguration, match=function.__name__):
            Tool.of(function)
    with pytest.raises(InvalidConfiguration, match="name must be 1 to 64"):
        Tool.of(get_weather, name="the weather")
    with pytest.raises(InvalidConfiguration, match="timeout must be"):
        Tool.of(get_weather, timeout=0)
    with pytest.raises(InvalidConfiguration, match="two tools"):
        Toolbox([get_weather, get_weather])


# --- Calls ------------------------------------------------------------------------


async def test_call_returns_the_output_of_the_function():
    result = await finish(Toolbox([get_weather]), "get_weather", '{"city":"Oslo"}')
    assert (result.call_id, result.name) == ("c1", "get_weather")
    assert (result.output, result.failed) == ("Oslo 1 celsius", False)
    assert result.seconds >= 0


async def test_arguments_and_results_may_be_objects():

    async def look(place: Place) -> Weather:
        assert place.city == "Oslo"
        return Weather(-3)

    async def echo(place: Place) -> Place:
        return place

    async def set_of() -> object:
        return {"when": {1}, "huge": 10**30}

    toolbox = Toolbox([look, echo, set_of])
    place = '{"place":{"city":"Oslo"}}'
    assert (await finish(toolbox, "look", place)).output == '{"degrees":-3}'
    assert (await finish(toolbox, "echo", place)).output == '{"city":"Oslo"}'
    assert "1000000" in (await finish(toolbox, "set_of")).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{", "Invalid JSON"),
        ("{}", "city"),
        ('{"city":"x","days":0}', "greater than or equal to 1"),
        ('{"city":"x","colour":"red"}', "colour"),
    ],
)
async def test_invalid_arguments_are_an_error_for_the_model(arguments, message):
    """The model can repeat the call with other arguments."""
    result = await finish(Toolbox([get_weather]), "get_weather", arguments)
    assert result.failed
    assert result.output.startswith("error: ")
    assert message in result.output


async def test_failed_calls_are_an_error_for_the_model():

    async def breaks() -> str:
        raise LookupError("no such place")

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def times_out() -> None:
        raise TimeoutError("the sensor is slow")

    async def is_cancelled() -> None:
        raise asyncio.CancelledError

    async def will_not_end() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise OSError("after the timeout")

    tools = [Tool.of(tool, timeout=0.01) for tool in (hangs, will_not_end)]
    toolbox = Toolbox([breaks, times_out, is_cancelled, *tools])
    errors = {
        "breaks": "error: the tool failed",
        "times_out": "error: the tool failed",
        "is_cancelled": "error: the tool was cancelled",
        "hangs": "error: no result within 0.01 s",
        "will_not_end": "error: no result within 0.01 s",
        "x": "error: there is no tool 'x'; known: breaks, times_out, is_cancelled, "
        "hangs, will_not_end",
    }
    for name, output in errors.items():
        result = await finish(toolbox, name)
        assert (result.output, result.failed) == (output, True)


async def test_close_cancels_running_calls_and_tells_it():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    toolbox, finished = Toolbox([hangs]), []
    toolbox.start(ToolCalled("c1", "hangs", ""), finished.append)
    with anyio.fail_after(120):
        await begun.wait()
        await toolbox.aclose()
    await toolbox.aclose()
    assert ended.is_set()
    (result,) = finished
    assert (result.cancelled, result.failed) == (True, True)
    assert result.output == "error: the call was cancelled: the session ended"
    assert result.log_entry()[:3] == ("INFO", "session", "Tool cancelled")
    assert "hangs cancelled after" in str(result)


async def test_an_output_that_no_model_could_take_is_cut_and_told():

    async def read_book() -> str:
        return "a" * (MAX_OUTPUT + 1)

    result = await finish(Toolbox([read_book]), "read_book")
    assert result.output == "a" * MAX_OUTPUT
    assert not result.failed
    assert result.error == "the output of 100,001 characters was cut to 100,000"


async def test_a_function_that_is_not_async_runs_in_a_thread():
    def book_table(guests: int) -> str:
        """Book a table."""
        return f"{guests} at {threading.current_thread().name}"

    class Waiter:
        def __call__(self, guests: int) -> str:
            time.sleep(0.01)
            return f"waiting for {guests}"

    tool = Tool.of(book_table)
    call = cast("Awaitable[str]", tool.call('{"guests": 2}'))
    assert await call == "2 at tool book_table"
    waiter = Tool.of(Waiter(), name="waiter")
    call = cast("Awaitable[str]", waiter.call('{"guests": 3}'))
    assert await call == "waiting for 3"


async def test_the_log_has_the_traceback_that_the_model_does_not_get():

    def breaks() -> str:
        raise LookupError("/home/me/secret.db: no such place")

    async def breaks_later() -> str:
        await asyncio.sleep(0)
        raise OSError("/home/me/secret.db: no such place")

    toolbox = Toolbox([breaks, breaks_later])
    for name in "breaks", "breaks_later":
        result = await finish(toolbox, name)
        assert result.output == "error: the tool failed"
        assert "secret.db" in result.error
        assert "Traceback" in result.error
        entry = result.log_entry()
        assert (entry.level, entry.message) == ("WARNING", "Tool failed")
        assert "secret.db" in entry.context["error"]


async def test_a_tool_that_blocks_the_event_loop_is_told_with_the_time():

    async def blocks() -> str:
        await asyncio.sleep(0)
        time.sleep(0.6)
        return "done"

    async def waits() -> str:
        await asyncio.sleep(0.6)
        return "done"

    def sleeps() -> str:
        time.sleep(0.6)
        return "done"

    toolbox = Toolbox([blocks, waits, sleeps])
    result = await finish(toolbox, "blocks")
    assert (result.output, result.failed) == ("done", False)
    assert result.blocked >= 0.6
    entry = result.log_entry()
    assert entry.level == "WARNING"
    assert "blocked the event loop" in entry.message
    for name in "waits", "sleeps":
        assert (await finish(toolbox, name)).blocked == 0


async def test_a_measured_tool_is_cancelled_and_may_use_timeouts_as_any_other():

    async def limited() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"
        return "never"

    async def cleans_up() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)
        return "never"

    cleaned = []
    toolbox = Toolbox([limited, Tool.of(cleans_up, timeout=0.01)])
    assert (await finish(toolbox, "limited")).output == "in time"
    assert (await finish(toolbox, "cleans_up")).failed
    async with asyncio.timeout(10):
        while not cleaned:
            await asyncio.sleep(0.005)
    await toolbox.aclose()
