"""A house to carry runs out in: policy, scheduler and executor for real, the model scripted."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from fased.api.executor.v1 import executor_service_pb2 as executor_pb
from fased.api.executor.v1 import executor_service_pb2_grpc as executor_grpc
from fased.api.executor.v1 import transcript_pb2
from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.scheduler.v1 import queue_service_pb2 as pb
from fased.api.scheduler.v1 import (
    queue_service_pb2_grpc,
    run_pb2,
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
)
from fased.api.types.v1 import message_pb2
from fased.process import OpenService
from fased.wire.times import to_duration
from services.executor import service as executor
from services.executor.settings import Settings as ExecutorSettings
from services.policy import service as policy
from services.router import service as router
from services.scheduler import service as scheduler
from services.scheduler.settings import Settings as SchedulerSettings
from tests.support.scripted_provider import ScriptedProvider
from tests.support.services import Running, running

NAMESPACE = "default"
KEY = "agent:main:main"
# Nothing listens there, so no Ollama of this machine takes part.
NO_OLLAMA = {"OLLAMA_HOST": "127.0.0.1:9"}
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class House:
    """Running services, and short words for what a test does with runs."""

    up: Running
    queue: "queue_service_pb2_grpc.QueueServiceAsyncStub"
    transcripts: "executor_grpc.TranscriptServiceAsyncStub"

    async def enqueue(self, body: run_pb2.RunBody, **fields: Any) -> int:
        """One run of an event of its own; `fields` are those of NewRun."""
        usual: dict[str, Any] = {
            "namespace": NAMESPACE,
            "run_class": run_pb2.RUN_CLASS_MESSAGE,
            "body": body,
        }
        run = run_pb2.NewRun(**usual | fields)
        item = pb.EnqueueItem(namespace=NAMESPACE, key=str(uuid.uuid4()), runs=[run])
        answer = await self.queue.EnqueueRuns(pb.EnqueueRunsRequest(items=[item]))
        return answer.items[0].run_ids[0]

    async def ended(self, run_id: int) -> dict[str, Any]:
        """The run's history row once there is one, its result as an object."""
        row = await self.row(
            "SELECT outcome, deliver, attempts, crashes, result FROM scheduler.run_history"
            " WHERE id = $1",
            run_id,
        )
        return {**row, "result": json.loads(row["result"] or "{}")}

    async def row(self, query: str, *arguments: Any) -> Mapping[str, Any]:
        """The first row of a query as soon as it has one."""
        async with asyncio.timeout(WAIT_S):
            while True:
                async with self.up.host.database.queue.acquire() as conn:
                    row = await conn.fetchrow(query, *arguments)
                if row is not None:
                    return dict(row)
                await asyncio.sleep(0.02)

    async def cancel(self, run_id: int) -> None:
        """Ask a run to stop, as a person does."""
        runs = scheduler_service_pb2_grpc.RunServiceStub(self.up.channel)
        name = f"namespaces/{NAMESPACE}/runs/{run_id}"
        await runs.CancelRun(scheduler_service_pb2.CancelRunRequest(name=name))

    async def execute(self, statement: str, *arguments: Any) -> None:
        """One statement."""
        async with self.up.host.database.queue.acquire() as conn:
            await conn.execute(statement, *arguments)

    async def said(self) -> list[transcript_pb2.TranscriptEntry]:
        """The main session's transcript."""
        request = executor_pb.ListTranscriptRequest(
            parent=f"namespaces/{NAMESPACE}", session_key=KEY
        )
        return list((await self.transcripts.ListTranscript(request)).entries)

    async def lease(self, worker_id: str) -> run_pb2.LeasedRun:
        """One run, held by the test itself."""
        request = pb.LeaseRunsRequest(
            worker_id=worker_id,
            max_runs=1,
            wait=to_duration(timedelta(seconds=10)),
            lease_for=to_duration(timedelta(seconds=60)),
        )
        (run,) = (await self.queue.LeaseRuns(request, timeout=20)).runs
        return run


@asynccontextmanager
async def house(
    database_url: str, environment: Mapping[str, str] | None, **settings: Any
) -> AsyncIterator[House]:
    """The services over a database; no executor where `environment` is None."""

    def make(listen: str, token: str) -> Sequence[OpenService]:
        shared: dict[str, Any] = {
            "database_url": database_url,
            "service_token": token,
            "scheduler_address": listen,
        }
        opened: list[OpenService] = [
            policy.open_service,
            router.open_service,
            partial(scheduler.open_service, settings=SchedulerSettings(**shared)),
        ]
        if environment is not None:
            quick = {"heartbeat_s": 0.1, "lease_s": 5, "lease_wait_s": 1, "grace_s": 0.2}
            opened.append(
                partial(
                    executor.open_service,
                    settings=ExecutorSettings(**{**shared, **quick, **settings}),
                    environment={**NO_OLLAMA, **environment},
                )
            )
        return opened

    async with running(database_url, make) as up:
        yield House(
            up,
            queue_service_pb2_grpc.QueueServiceStub(up.channel),
            executor_grpc.TranscriptServiceStub(up.channel),
        )


async def make_agent(house: House, agent_id: str = "main", **fields: Any) -> None:
    """An Agent in the namespace of the tests."""
    agents = policy_service_pb2_grpc.AgentServiceStub(house.up.channel)
    await agents.CreateAgent(
        policy_service_pb2.CreateAgentRequest(
            parent=f"namespaces/{NAMESPACE}", agent_id=agent_id, agent=agent_pb2.Agent(**fields)
        )
    )


def uses(provider: ScriptedProvider) -> dict[str, str]:
    """An environment in which the scripted provider is the only one."""
    return {
        "FASED_MODEL_BASE_URL": provider.base_url,
        "FASED_MODEL_API_KEY": "sk-canary-0123456789",
        "FASED_MODEL": "small",
    }


def message(text: str, session_key: str = KEY, **fields: Any) -> run_pb2.RunBody:
    """What a message in WebChat makes."""
    run_input = run_pb2.RunInput(
        event_id=f"event-{text}",
        text=text,
        sender=message_pb2.Sender(id="u1", display_name="Ada"),
    )
    run_input.receive_time.GetCurrentTime()
    usual: dict[str, Any] = {
        "agent_id": "main",
        "session_key": session_key,
        "session_id": "s1",
        "mode": "agent-turn",
        "trigger": "message",
        "inputs": [run_input],
        "target": target(),
    }
    return run_pb2.RunBody(**usual | fields)


def task(prompt: str, mode: str = "agent-turn", **fields: Any) -> run_pb2.RunBody:
    """What a task's slot makes."""
    usual: dict[str, Any] = {
        "agent_id": "main",
        "session_key": KEY,
        "session_id": "s1",
        "mode": mode,
        "trigger": "schedule",
        "prompt": prompt,
        "task_name": "Report",
        "target": target(),
    }
    return run_pb2.RunBody(**usual | fields)


def target(channel: str = "webchat") -> message_pb2.Target:
    """The chat that the answers go to."""
    peer = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id="p1")
    return message_pb2.Target(channel=channel, account_id="default", peer=peer)
