"""Follows what runs show while they go on, for WebChat and as typing elsewhere. Decides nothing
itself; what is lost is not missed, since every end of a run is said through its delivery.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog

from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.core.conversations import (
    WEBCHAT,
    ConversationEvent,
    EventKind,
    conversation_id_of,
    next_post_state,
    post_id_of,
)
from fased.core.messages import Target
from fased.core.names import Namespace, RunId
from fased.process import Host
from fased.store import background, database, notify
from fased.store.channels import conversations
from fased.store.channels.conversations import Post
from fased.store.database import Connection
from fased.wire.messages import target_from_pb
from services.channels.watchers import Watchers, hint_name

RETRY_S = 1.0
MARK_AGAIN_S = 60.0
# Beyond this many posts at once, those that are taken up are not shown to be.
MAX_STARTED = 10_000

ShowTyping = Callable[[Namespace, Target], None]

logger = structlog.get_logger(__name__)


class Progress:
    """The tail of fased.run-progress.v1."""

    def __init__(self, host: Host, watchers: Watchers, show_typing: ShowTyping) -> None:
        self._host = host
        self._watchers = watchers
        self._show_typing = show_typing
        self._started: dict[Post, RunId] = {}
        self._stirred = asyncio.Event()

    async def run(self) -> None:
        """Follow until the process stops."""
        async with (
            background.beside(self._keep_following(), "channels-progress"),
            background.beside(self._keep_marking(), "channels-progress-marks"),
        ):
            await self._host.stop.wait()

    def show(self, progress: message_pb2.RunProgress) -> None:
        """Show one step of progress in its conversation, or in its chat that a run began."""
        target = target_from_pb(progress.target)
        conversation_id = conversation_id_of(target)
        namespace = Namespace(progress.namespace)
        if target.channel != WEBCHAT or conversation_id is None:
            if progress.kind == message_pb2.PROGRESS_KIND_STARTED:
                self._show_typing(namespace, target)
            return
        post_id = post_id_of(namespace, conversation_id, progress.event_id)
        if progress.kind == message_pb2.PROGRESS_KIND_PARTIAL:
            partial = ConversationEvent(
                sequence=0,
                kind=EventKind.PARTIAL,
                message_id="",
                created_at=datetime.now(UTC),
                text=progress.text,
                post_id=post_id,
                run_id=RunId(progress.run_id),
            )
            self._watchers.offer(namespace, conversation_id, partial)
        elif post_id and len(self._started) < MAX_STARTED:
            self._started[Post(namespace, conversation_id, post_id)] = RunId(progress.run_id)
            self._stirred.set()

    async def _keep_marking(self) -> None:
        while True:
            await notify.wait(self._stirred, MARK_AGAIN_S)
            started, self._started = self._started, {}
            try:
                await self._mark(started)
            except Exception as exc:
                # As below: the posts' states go on with their answers.
                logger.warning("progress_unmarked", **database.log_fields(exc))

    async def _mark(self, started: Mapping[Post, RunId]) -> None:
        """Let the posts that no answer has overtaken show that they were taken up."""
        if not started:
            return
        async with self._host.database.queue.acquire() as conn:
            for post in await conversations.queued_posts(conn, list(started)):
                if await self._mark_one(conn, post, started[post]):
                    self._host.hints.send(hint_name(post.namespace, post.conversation_id))

    async def _mark_one(self, conn: Connection, post: Post, run_id: RunId) -> bool:
        async with conn.transaction():
            conversation = await conversations.lock(conn, post.namespace, post.conversation_id)
            if conversation is None:
                return False
            current = await conversations.post_state(conn, conversation, post.message_id)
            state = next_post_state(current, None) if current else None
            if state is None:
                return False
            await conversations.set_post_state(conn, conversation, post.message_id, state, run_id)
            return True

    async def _keep_following(self) -> None:
        while True:
            try:
                await self._follow()
            except Exception as exc:
                # Progress may be lost, but must not end a process that delivers.
                logger.warning("progress_interrupted", **database.log_fields(exc))
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with self._host.bus.tail([topics.RUN_PROGRESS]) as records:
            async for record in records:
                self.show(message_pb2.RunProgress.FromString(record.value))
