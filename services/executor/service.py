"""The executor: transcripts and progress (room `server`), turns (room `worker`). Wires only.

The worker owns nothing and reaches even this service's own server by gRPC, so that it may run
anywhere.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc

from fased.api.executor.v1 import credential_service_pb2_grpc
from fased.api.executor.v1 import executor_service_pb2_grpc as executor_grpc
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2_grpc
from fased.api.scheduler.v1 import queue_service_pb2_grpc
from fased.bus import topics
from fased.bus.consumer import Limits, run_consumer
from fased.process import Host, Service
from fased.secrets import open_secrets
from fased.store.background import beside
from services.executor.models.registry import Models, open_models
from services.executor.server.credentials import CredentialServicer
from services.executor.server.ended_runs import GROUP, EndedRuns
from services.executor.server.progress import ProgressServicer
from services.executor.server.transcripts import TranscriptServicer
from services.executor.settings import Settings
from services.executor.worker.progress import Progress
from services.executor.worker.together import Together
from services.executor.worker.turn import Turn
from services.executor.worker.worker import Worker

NAME = "executor"
# How runs ended is noted for later turns and for people: many at once are as good as one by one.
REST_S = 0.2


@asynccontextmanager
async def open_service(
    host: Host, settings: Settings, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[Service]:
    """The service; models and their credentials are found in `environment`.

    Raises InvalidArgument for a setting of a model that cannot be meant.
    """
    ended_runs = EndedRuns(host.database)

    async def consume_ends() -> None:
        await run_consumer(
            host.bus,
            GROUP,
            [topics.RUN_EVENTS],
            ended_runs.apply,
            stop=host.stop,
            limits=Limits(rest_s=REST_S),
        )

    async def forget_ends() -> None:
        await ended_runs.forget_loop(host.stop)

    async with (
        open_secrets(environment) as secrets,
        open_models(environment, secrets, silence_timeout_s=settings.model_silence_s) as models,
    ):

        def register(server: grpc.aio.Server) -> None:
            executor_grpc.add_TranscriptServiceServicer_to_server(
                TranscriptServicer(host.database), server
            )
            executor_grpc.add_ProgressServiceServicer_to_server(ProgressServicer(host.bus), server)
            credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(
                CredentialServicer(secrets), server
            )

        async def work() -> None:
            await _work(host, settings, models)

        yield Service(NAME, register, (consume_ends, forget_ends, work))


async def _work(host: Host, settings: Settings, models: Models) -> None:
    queue = queue_service_pb2_grpc.QueueServiceStub(host.client("scheduler"))
    executor = host.client("executor")
    progress = Progress(executor_grpc.ProgressServiceStub(executor))
    together = Together(
        queue,
        policy_service_pb2_grpc.PolicyServiceStub(host.client("policy")),
        executor_grpc.TranscriptServiceStub(executor),
    )
    sessions = router_service_pb2_grpc.SessionServiceStub(host.client("router"))
    turn = Turn(together, sessions, progress, models, settings)
    worker = Worker(queue, turn, together, models.provider_ids, settings, host.stop)
    async with beside(progress.report(), "progress"):
        await worker.run()
