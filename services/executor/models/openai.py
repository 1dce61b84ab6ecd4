"""Models behind OpenAI's chat completions, which most providers and local servers speak.

Decides how a call is made and how its errors become ours (`core/model_failures.py` says what they
mean); it never tries again, since the run does.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fased.core.errors import Unavailable
from fased.core.model_failures import (
    ModelFailure,
    asked_wait,
    refused_call,
    too_slow,
    trimmed_detail,
    unreachable,
    unread_credential,
    unusable_answer,
)
from fased.core.models import ModelChoice, Provider
from fased.secrets import Secrets
from services.executor.models.port import ModelCall, ModelPart

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

CONNECT_TIMEOUT_S = 10.0
# A local server without authentication still gets a header, which the SDK insists on.
NO_KEY = "none"


# Beyond it the pool that was not used for longest is closed, once no call goes over it.
MAX_POOLS = 200


@dataclass(slots=True)
class _Pool:
    client: "AsyncOpenAI"
    calls: int = 0


class OpenAIModels:
    """Every provider that is called with the `openai` SDK.

    Each address and key has a connection pool of its own.
    """

    def __init__(
        self, secrets: Secrets, *, silence_timeout_s: float, max_pools: int = MAX_POOLS
    ) -> None:
        """`silence_timeout_s` is how long a provider may send nothing."""
        self._secrets = secrets
        self._silence_timeout_s = silence_timeout_s
        self._max_pools = max_pools
        self._pools: dict[tuple[str, str], _Pool] = {}

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPart, None]:
        """The answer in pieces; raises ModelFailure, FailedPrecondition without a credential."""
        # Imported here: it costs 30 MB that a process without model calls does not need.
        from openai import APIError

        key = await self._key(call.choice)
        finish = ""
        try:
            async with (
                self._client(call.choice.provider, key) as client,
                await _open(client, call) as chunks,
            ):
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
        for pool in self._pools.values():
            await pool.client.close()

    async def _key(self, choice: ModelChoice) -> str:
        provider = choice.provider
        if not provider.key_ref:
            # Never the process's own key: the address may be somebody else's.
            return NO_KEY
        try:
            return await self._secrets.resolve(provider.key_ref, provider.namespace)
        except Unavailable as exc:
            raise unread_credential(exc.message) from None

    @asynccontextmanager
    async def _client(self, provider: Provider, key: str) -> "AsyncIterator[AsyncOpenAI]":
        from openai import AsyncOpenAI, Timeout

        # Used last, it stands last.
        pool = self._pools.pop((provider.base_url, key), None) or _Pool(
            AsyncOpenAI(
                api_key=key,
                base_url=provider.base_url,
                max_retries=0,
                timeout=Timeout(self._silence_timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        )
        self._pools[provider.base_url, key] = pool
        pool.calls += 1
        try:
            await self._close_idle()
            yield pool.client
        finally:
            pool.calls -= 1

    async def _close_idle(self) -> None:
        if len(self._pools) <= self._max_pools:
            return
        for place, pool in self._pools.items():
            if not pool.calls:
                del self._pools[place]
                await pool.client.close()
                return

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


async def _open(client: "AsyncOpenAI", call: ModelCall) -> Any:
    messages: Any = [{"role": each.role.value, "content": each.text} for each in call.messages]
    return await client.chat.completions.create(
        model=call.choice.name,
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
    )


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
