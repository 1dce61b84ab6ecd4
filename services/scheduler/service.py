"""The scheduler service: tasks, runs and the run queue. Wires only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import structlog

from fased.api.scheduler.v1 import queue_service_pb2_grpc, scheduler_service_pb2_grpc
from fased.bus import topics
from fased.bus.consumer import Limits, run_consumer
from fased.bus.relay import run_relay
from fased.process import Host, Service
from fased.store.queue import partitions, recover
from services.scheduler import events, hints
from services.scheduler.announce import announce
from services.scheduler.connections import pooled
from services.scheduler.events import DeliveryEvents
from services.scheduler.loops import Loops
from services.scheduler.queue import QueueServicer
from services.scheduler.runs import RunServicer
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tasks import TaskServicer

# Receipts are noted for people: many at once are as good as one by one.
REST_S = 0.2

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def open_service(host: Host, settings: SchedulerSettings) -> AsyncIterator[Service]:
    """The service, ready to be registered, with the loops that keep the queue going."""
    async with pooled(host.database.queue) as conn:
        await partitions.make_partitions(conn)
        if settings.one_process and (ended := await recover.end_all_leases(conn, announce)):
            logger.info("leases_ended_at_start", runs=ended)
    deliveries = DeliveryEvents(host.database)
    loops = Loops(host, settings)

    def register(server: grpc.aio.Server) -> None:
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueServicer(host), server)
        scheduler_service_pb2_grpc.add_TaskServiceServicer_to_server(TaskServicer(host), server)
        scheduler_service_pb2_grpc.add_RunServiceServicer_to_server(RunServicer(host), server)

    async def follow_deliveries() -> None:
        await run_consumer(
            host.bus,
            events.GROUP,
            [topics.RUN_EVENTS],
            deliveries.apply,
            stop=host.stop,
            limits=Limits(rest_s=REST_S),
        )

    async def relay() -> None:
        await run_relay(host.database.queue, host.bus, hints.SCHEMA, host.hints, stop=host.stop)

    yield Service(
        "scheduler",
        register,
        (
            loops.fire,
            loops.reap,
            loops.recall,
            loops.watch_failures,
            loops.sweep,
            loops.measure,
            follow_deliveries,
            relay,
        ),
    )
