"""Learns what changed in the services by itself: a run that ended, a connection that was lost.

Decides how: the bus tells of runs at once, where there is one, and may lose what it tells; a poll
of each namespace is the truth.
"""

import asyncio
import random

import structlog

from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Bus, Received
from fased.core.errors import FasedError
from fased.core.names import Namespace
from fased.core.resources import Key, Kind
from services.operator.directory import Directory
from services.operator.known import Known
from services.operator.reconciling import Reconciler
from services.operator.tasks import Tasks

RETRY_S = 5.0

logger = structlog.get_logger(__name__)


class Feedback:
    """Wakes resources whose status would say something else now."""

    def __init__(
        self, known: Known, directory: Directory, tasks: Tasks, reconciler: Reconciler
    ) -> None:
        self._known = known
        self._directory = directory
        self._tasks = tasks
        self._reconciler = reconciler

    async def poll(self, period_s: float) -> None:
        """Look at every namespace each `period_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(period_s * random.uniform(0.8, 1.2))
            namespaces = self._known.namespaces()
            self._directory.forget(namespaces)
            for namespace in sorted(namespaces):
                try:
                    await self._look(namespace)
                except FasedError as exc:
                    logger.warning(
                        "poll_failed",
                        namespace=namespace,
                        reason=exc.reason,
                        message=exc.message,
                    )

    async def follow(self, bus: Bus) -> None:
        """Listen to what becomes of runs, until cancelled."""
        while True:
            try:
                async with bus.tail([topics.RUN_EVENTS]) as records:
                    async for record in records:
                        self._hear(record)
            except FasedError as exc:
                logger.warning("run_events_lost", reason=exc.reason, message=exc.message)
                await asyncio.sleep(RETRY_S)

    async def _look(self, namespace: Namespace) -> None:
        await self._directory.of(namespace).refresh()
        if self._known.of(Kind.TASK, namespace):
            for uid in await self._tasks.changed(namespace):
                self._wake_task(namespace, uid)

    def _hear(self, record: Received) -> None:
        event = message_pb2.RunEvent.FromString(record.value)
        if event.task_id and event.kind == message_pb2.RUN_EVENT_KIND_ENDED:
            self._tasks.expect_change(event.task_id)
            self._wake_task(Namespace(event.namespace), event.task_id)

    def _wake_task(self, namespace: Namespace, uid: str) -> None:
        key = Key(Kind.TASK, namespace, "", uid)
        if (resource := self._known.get(key)) is not None:
            self._reconciler.wake(resource.key, False)
