"""What a model provider is to a turn: a stream of text for messages. Decides the contract only."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from fased.core.context import ModelMessage
from fased.core.models import ModelChoice


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call: which model, what it is shown, and the run it is made for."""

    choice: ModelChoice
    messages: tuple[ModelMessage, ...]
    run_id: int


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A piece of an answer; token counts come with the last piece, 0 where none are told."""

    text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class ModelProvider(Protocol):
    """A place that serves models."""

    def stream(self, call: ModelCall) -> AsyncGenerator[ModelPart, None]:
        """The answer in pieces, to its end; closing the generator ends the call.

        Raises ModelFailure, also after some pieces: those are then no answer.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
