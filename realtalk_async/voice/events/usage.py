"""The tokens of responses and transcripts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that the service counted, of one response or of many."""

    input_tokens: int = 0
    """All of the input: instructions, tools, and the conversation so far."""
    output_tokens: int = 0
    """All of the output."""
    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    cached: int = 0
    """The part of the input that the service had cached, which costs less."""
    cached_text: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    output_text: int = 0
    output_audio: int = 0
    transcription_tokens: int = 0
    """Tokens of the transcripts of the user's speech, which another model makes."""
    transcription_seconds: float = 0.0
    """Seconds of speech, with a model that counts them instead of tokens."""

    @property
    def total(self) -> int:
        """All tokens: input, output and transcription."""
        return self.input_tokens + self.output_tokens + self.transcription_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, field by field."""
        names = [field.name for field in dataclasses.fields(self)]
        return Usage(**{n: getattr(self, n) + getattr(other, n) for n in names})

    def to_dict(self) -> dict[str, object]:
        """Return the fields and the total, ready for JSON."""
        return {**dataclasses.asdict(self), "total": self.total}

    def __str__(self) -> str:
        into = _parts(
            text=self.input_text,
            audio=self.input_audio,
            image=self.input_image,
            cached=self.cached,
        )
        out = _parts(text=self.output_text, audio=self.output_audio)
        text = (
            f"{self.total:,} tokens: {self.input_tokens:,} in{into}, "
            f"{self.output_tokens:,} out{out}"
        )
        if self.transcription_tokens:
            text += f", {self.transcription_tokens:,} for transcripts"
        if self.transcription_seconds:
            text += f"; {self.transcription_seconds:.1f} s transcribed"
        return text


def _parts(**numbers: int) -> str:
    named = ", ".join(
        f"{number:,} {name}" for name, number in numbers.items() if number
    )
    return f" ({named})" if named else ""
