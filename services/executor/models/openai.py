"""Models behind OpenAI's chat completions, which most providers and local servers speak.

Decides how a call is made and how its errors become ours (`core/model_failures.py` says what they
mean); it never tries again, since the run does.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from fased import secrets
from fased.core.model_failures import (
    ModelFailure,
    asked_wait,
    refused_call,
    too_slow,
    trimmed_detail,
    unreachable,
    unusable_answer,
)
from fased.core.models import ModelChoice, Provider
from services.executor.models.port import ModelCall, ModelPart

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

CONNECT_TIMEOUT_S = 10.0
# A local server without authentication still gets a header, which the SDK insists on.
NO_KEY = "none"


class OpenAIModels:
    """Every provider that is called with the `openai` SDK, with one connection pool each."""

    def __init__(self, environment: Mapping[str, str], *, silence_timeout_s: float) -> None:
        """`silence_timeout_s` is how long a provider may send nothing."""
        self._environment = environment
        self._silence_timeout_s = silence_timeout_s
        self._clients: dict[tuple[str, str], AsyncOpenAI] = {}

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPart, None]:
        """The answer in pieces; raises ModelFailure, FailedPrecondition without a credential."""
        # Imported here: it costs 30 MB that a process without model calls does not need.
        from openai import APIError

        key = self._key(call.choice.provider)
        finish = ""
        try:
            async with await self._open(call, key) as chunks:
                async for chunk in chunks:
                    part, finished = _part(chunk)
                    finish = finished or finish
                    yield part
        except APIError as exc:
            # Not chained: a provider's error text may repeat the credential.
            raise self._failure(call.choice, exc, key) from None
        except json.JSONDecodeError:
            raise unusable_answer(call.choice, "sent what is no chat completion") from None
        if not finish:
            raise unusable_answer(call.choice, "ended its answer before it was complete")
        if finish == "content_filter":
            raise refused_call(call.choice, 400, finish, "stopped by its content filter", None)

    async def close(self) -> None:
        """Close the connection pools."""
        for client in self._clients.values():
            await client.close()

    async def _open(self, call: ModelCall, key: str) -> Any:
        messages: Any = [{"role": each.role.value, "content": each.text} for each in call.messages]
        return await self._client(call.choice.provider, key).chat.completions.create(
            model=call.choice.name,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
        )

    def _key(self, provider: Provider) -> str:
        if not provider.key_ref:
            return NO_KEY
        return secrets.resolve(provider.key_ref, self._environment)

    def _client(self, provider: Provider, key: str) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, Timeout

        known = self._clients.get((provider.id, key))
        if known is None:
            known = self._clients[provider.id, key] = AsyncOpenAI(
                api_key=key,
                base_url=provider.base_url,
                max_retries=0,
                timeout=Timeout(self._silence_timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        return known

    def _failure(self, choice: ModelChoice, exc: "APIError", key: str) -> ModelFailure:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        if isinstance(exc, APITimeoutError):
            return too_slow(choice, self._silence_timeout_s)
        if isinstance(exc, APIConnectionError):
            return unreachable(choice, trimmed_detail(str(exc.__cause__ or exc), [key]))
        body: Mapping[str, Any] = exc.body if isinstance(exc.body, Mapping) else {}
        detail = trimmed_detail(str(body.get("message") or ""), [key])
        code = str(body.get("code") or "")
        if isinstance(exc, APIStatusError):
            wait = asked_wait(exc.response.headers)
            return refused_call(choice, exc.status_code, code, detail, wait)
        if code.isdecimal() and 400 <= int(code) < 600:
            # An error in the middle of a stream: its status is in the event.
            return refused_call(choice, int(code), "", detail, None)
        return unusable_answer(choice, f"broke its answer off{f': {detail}' if detail else ''}")


def _part(chunk: "ChatCompletionChunk") -> tuple[ModelPart, str]:
    """What a chunk adds, and why the answer ends with it, empty when it goes on."""
    text, finish = "", ""
    for choice in chunk.choices or ():
        text += choice.delta.content or choice.delta.refusal or ""
        finish = choice.finish_reason or finish
    usage = chunk.usage
    if usage is None:
        return ModelPart(text), finish
    return ModelPart(text, usage.prompt_tokens or 0, usage.completion_tokens or 0), finish
