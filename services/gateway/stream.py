"""Server-sent events of a conversation. Decides their framing, heartbeats, and when a stream ends:
with its reader, with the process, and with the token.

`id` is the stored sequence, so that a browser that comes back goes on where it was; what is not
stored (partial answers) has none.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import structlog
from starlette.requests import Request

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.core.errors import FasedError, InvalidArgument
from fased.rpc.interceptors import actor_metadata
from fased.wire.plain import plain
from services.gateway.callers import authenticate, secret_of
from services.gateway.calls import Asking

RECONNECT_MS = 1000

logger = structlog.get_logger(__name__)


def sequence_after(request: Request, after: int) -> int:
    """Where a stream begins: what a browser that comes back says, else what the address says."""
    last = request.headers.get("last-event-id", "")
    if not last:
        return after
    if not last.isascii() or not last.isdigit() or len(last) > 18:
        raise InvalidArgument(
            "Last-Event-ID is a sequence",
            reason="INVALID_SEQUENCE",
            metadata={"field": "last-event-id"},
        )
    return int(last)


async def server_sent_events(ask: Asking, name: str, after: int) -> AsyncIterator[str]:
    """The events of a conversation as text, with a comment now and then where nothing happens."""
    request = pb.WatchConversationRequest(name=name, after_sequence=after)
    watch: Any = ask.services.conversations.WatchConversation
    upstream = watch(request, metadata=actor_metadata(ask.caller))
    yield f"retry: {RECONNECT_MS}\n\n"
    try:
        async for response in _with_heartbeats(ask, upstream):
            yield ": nothing new\n\n" if response is None else _frame(plain(response.event))
    except FasedError as exc:
        # The browser comes back by itself, and is told what is wrong by then.
        logger.info("stream_ended", reason=exc.reason)
    finally:
        await upstream.aclose()


async def _with_heartbeats(ask: Asking, upstream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """What comes from upstream, and None as a sign of life; ends when the process stops.

    With each sign of life the token is asked for again, however much happens between.
    """
    state = ask.request.app.state
    stop: asyncio.Event = state.stop
    heartbeat_s: float = state.heartbeat_s
    now = asyncio.get_running_loop().time
    stopped = asyncio.create_task(stop.wait())
    taking = _next(upstream)
    checked_at = now()
    try:
        while not stop.is_set():
            left_s = max(0.0, checked_at + heartbeat_s - now())
            await asyncio.wait(
                {taking, stopped}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if now() - checked_at >= heartbeat_s:
                await authenticate(ask.services, secret_of(ask.request))
                checked_at = now()
                yield None
            if taking.done():
                try:
                    response = taking.result()
                except StopAsyncIteration:
                    return
                yield response
                taking = _next(upstream)
    finally:
        stopped.cancel()
        taking.cancel()
        await asyncio.gather(stopped, taking, return_exceptions=True)


def _next(upstream: AsyncIterator[Any]) -> "asyncio.Task[Any]":
    async def take() -> Any:
        return await anext(upstream)

    return asyncio.create_task(take())


def _frame(event: dict[str, Any]) -> str:
    # JSON has no raw line breaks, so that one data line holds it whole.
    identity = f"id: {event['sequence']}\n" if event["sequence"] else ""
    return f"{identity}event: {event['kind']}\ndata: {json.dumps(event)}\n\n"
