"""The scheduler with its neighbours, and short words for tasks and runs. Decides defaults only."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.duration_pb2 import Duration

from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.scheduler.v1 import (
    queue_service_pb2,
    queue_service_pb2_grpc,
    run_pb2,
    scheduler_service_pb2_grpc,
    task_pb2,
)
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.process import OpenService
from services.policy import service as policy
from services.router import service as router
from services.scheduler import service as scheduler
from services.scheduler.settings import SchedulerSettings
from tests.support.services import Running, running

PARENT = "namespaces/default"
MAIN = "agent:main:main"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A running scheduler and the stubs of what it serves."""

    up: Running
    tasks: "scheduler_service_pb2_grpc.TaskServiceAsyncStub"
    runs: "scheduler_service_pb2_grpc.RunServiceAsyncStub"
    queue: "queue_service_pb2_grpc.QueueServiceAsyncStub"
    agents: "policy_service_pb2_grpc.AgentServiceAsyncStub"


@asynccontextmanager
async def scheduling(
    database_url: str, *, namespaces: tuple[str, ...] = ("default",), one_process: bool = False
) -> AsyncIterator[Scheduler]:
    """Policy, router and scheduler on one server, with an Agent `main` in each namespace."""
    settings = SchedulerSettings(one_process=one_process)
    services: list[OpenService] = [
        policy.open_service,
        router.open_service,
        partial(scheduler.open_service, settings=settings),
    ]
    async with running(database_url, lambda listen, token: services) as up:
        agents = policy_service_pb2_grpc.AgentServiceStub(up.channel)
        for namespace in namespaces:
            await agents.CreateAgent(
                policy_service_pb2.CreateAgentRequest(
                    parent=f"namespaces/{namespace}",
                    agent_id="main",
                    agent=agent_pb2.Agent(model="scripted/echo"),
                    request_id=str(uuid.uuid4()),
                )
            )
        yield Scheduler(
            up,
            scheduler_service_pb2_grpc.TaskServiceStub(up.channel),
            scheduler_service_pb2_grpc.RunServiceStub(up.channel),
            queue_service_pb2_grpc.QueueServiceStub(up.channel),
            agents,
        )


def chat(peer_id: str = "ada") -> message_pb2.Target:
    """A chat to deliver to."""
    return message_pb2.Target(
        channel="webchat",
        account_id="default",
        peer=message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id=peer_id),
    )


def draft(kind: str = "manual", expr: str = "", **fields: Any) -> task_pb2.Task:
    """A no-model task of the Agent main."""
    values: dict[str, Any] = {
        "display_name": "Tick",
        "agent_id": "main",
        "session_key": MAIN,
        "prompt": "tick",
        "mode": "no-model",
        "trigger": task_pb2.TriggerSpec(kind=kind, expr=expr),
    }
    return task_pb2.Task(**{**values, **fields})


async def create(
    scheduler: Scheduler,
    task: task_pb2.Task,
    *,
    parent: str = PARENT,
    request_id: str | None = None,
) -> task_pb2.Task:
    """Keep a task."""
    request = pb.CreateTaskRequest(
        parent=parent,
        task=task,
        request_id=str(uuid.uuid4()) if request_id is None else request_id,
    )
    return (await scheduler.tasks.CreateTask(request)).task


async def run_now(scheduler: Scheduler, task: task_pb2.Task, **fields: Any) -> run_pb2.Run:
    """Ask for a run of a task."""
    fields.setdefault("request_id", str(uuid.uuid4()))
    return (await scheduler.tasks.RunTask(pb.RunTaskRequest(name=task.name, **fields))).run


async def get_run(scheduler: Scheduler, run_id: int, parent: str = PARENT) -> run_pb2.Run:
    """A run as it is."""
    request = pb.GetRunRequest(name=f"{parent}/runs/{run_id}")
    return (await scheduler.runs.GetRun(request)).run


async def lease(
    scheduler: Scheduler,
    worker_id: str,
    *,
    max_runs: int = 10,
    wait_s: int = 20,
    providers: tuple[str, ...] = (),
    lease_s: int = 15,
) -> list[run_pb2.LeasedRun]:
    """Runs for a worker, waiting for the first."""
    request = queue_service_pb2.LeaseRunsRequest(
        worker_id=worker_id,
        max_runs=max_runs,
        wait=Duration(seconds=wait_s),
        lease_for=Duration(seconds=lease_s),
        providers=providers,
    )
    return list((await scheduler.queue.LeaseRuns(request, timeout=wait_s + 10)).runs)


async def complete(
    scheduler: Scheduler,
    run: run_pb2.LeasedRun,
    *,
    outcome: str = "succeeded",
    deliver: bool = True,
    **result: Any,
) -> queue_service_pb2.CompletionResult:
    """End a run."""
    completion = queue_service_pb2.Completion(
        run_id=run.run_id,
        epoch=run.epoch,
        outcome=outcome,
        result=run_pb2.RunResult(**result),
        deliver=deliver,
    )
    request = queue_service_pb2.CompleteRunsRequest(completions=[completion])
    return (await scheduler.queue.CompleteRuns(request)).results[0]


async def go_on(
    scheduler: Scheduler, run: run_pb2.LeasedRun, worker_id: str
) -> list[run_pb2.LeasedRun]:
    """End a run well; answers with what its worker holds for it now."""
    completion = queue_service_pb2.Completion(
        run_id=run.run_id, epoch=run.epoch, outcome="succeeded"
    )
    request = queue_service_pb2.CompleteRunsRequest(completions=[completion], worker_id=worker_id)
    return list((await scheduler.queue.CompleteRuns(request)).next_runs)


def message_run(
    event_id: str,
    *,
    namespace: str = "default",
    text: str = "hello",
    session_key: str = MAIN,
    target: message_pb2.Target | None = None,
) -> queue_service_pb2.EnqueueItem:
    """What a message's event asks for."""
    run_input = run_pb2.RunInput(event_id=event_id, text=text, sender=message_pb2.Sender(id="ada"))
    run_input.receive_time.GetCurrentTime()
    body = run_pb2.RunBody(
        agent_id="main",
        session_key=session_key,
        session_id="s1",
        mode="agent-turn",
        trigger="message",
        inputs=[run_input],
        target=chat() if target is None else target,
    )
    run = run_pb2.NewRun(namespace=namespace, run_class=run_pb2.RUN_CLASS_MESSAGE, body=body)
    return queue_service_pb2.EnqueueItem(namespace=namespace, key=event_id, runs=[run])


async def enqueue(
    scheduler: Scheduler, *items: queue_service_pb2.EnqueueItem
) -> list[queue_service_pb2.EnqueuedRuns]:
    """Put runs into the queue."""
    request = queue_service_pb2.EnqueueRunsRequest(items=items)
    return list((await scheduler.queue.EnqueueRuns(request)).items)


@asynccontextmanager
async def outbound(
    scheduler: Scheduler,
) -> AsyncIterator[AsyncIterator[message_pb2.OutboundMessage]]:
    """What leaves for chats from here on."""
    async with scheduler.up.host.bus.tail(["fased.outbound.v1"]) as records:

        async def messages() -> AsyncIterator[message_pb2.OutboundMessage]:
            async for record in records:
                yield message_pb2.OutboundMessage.FromString(record.value)

        yield messages()
