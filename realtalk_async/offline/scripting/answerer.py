"""
Finds the answer to a question: by the script, by the test's function, or by the rules.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration, ScriptNotFollowed
from realtalk_async.offline.answers.policy import Say, choose_answer, dictated_text
from realtalk_async.offline.scripting.replies import Failure, InvalidReply, call_answer
from realtalk_async.offline.scripting.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.offline.effects import Question
    from realtalk_async.offline.scripting.replies import AnswerFunction, Reply
    from realtalk_async.offline.scripting.script import Step

_MAX_KEPT = 100  # mistakes of a test


class Answerer:
    """
    Finds the answers of one peer.

    Args:
        function: The function of a test, if there is one.
        script: The script of a test, if there is one.

    Raises:
        InvalidConfiguration: If both are given, or one is invalid.
    """

    def __init__(
        self, function: AnswerFunction | None, script: Iterable[Step] | None
    ) -> None:
        arguments.function("answer", function, optional=True)
        if function is not None and script is not None:
            message = "answer and script exclude each other: a step may be a function"
            raise InvalidConfiguration(message)
        self._function = function
        self._script = None if script is None else Script(script)
        self.mistakes: deque[str] = deque(maxlen=_MAX_KEPT)
        """What went against the script, and failures of the test's functions."""

    async def find(self, question: Question) -> Reply:
        """Return the answer; a mistake of the test is noted and becomes a failure."""
        try:
            reply = await self._find(question)
        except InvalidReply as error:
            self.mistakes.append(str(error))
            code = "script_mismatch" if self._script else "answer_failed"
            return Failure(code, f"{error}.")
        if reply is None:
            answer = choose_answer(question, datetime.now().astimezone())
            return answer.text if isinstance(answer, Say) else answer
        return reply

    async def _find(self, question: Question) -> Reply | None:
        if words := dictated_text(question.instructions):
            return words
        step = self._script.take(question.text) if self._script else self._function
        return await call_answer(step, question) if callable(step) else step

    def unmet(self) -> str:
        """Return what went wrong so far and what is missing; empty if nothing is."""
        missing = self._script.missing() if self._script else ""
        return "; ".join(filter(None, (*self.mistakes, missing)))

    def check(self, error: BaseException | None) -> None:
        """
        Tell at the end of a test what went wrong.

        Args:
            error: The exception that ends the test anyway; it gets a note.

        Raises:
            ScriptNotFollowed: If something went wrong, and no other exception tells it.
        """
        unmet = self.unmet()
        if unmet and error is None:
            raise ScriptNotFollowed(f"the offline peer: {unmet}")
        if unmet and isinstance(error, Exception):
            error.add_note(f"the offline peer: {unmet}")
