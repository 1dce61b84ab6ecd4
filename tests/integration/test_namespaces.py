"""Two namespaces with equal ids: neither sees, answers nor changes what is the other's.

The same Agents, sessions, message ids and task names live in both; the whole way from the post to
the transcript is real. Who comes to the wrong door at all: `test_namespace_doors.py`.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from sqlalchemy import Integer, LargeBinary, Table, UniqueConstraint, Uuid

from fased.api.executor.v1 import executor_service_pb2, executor_service_pb2_grpc
from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2, router_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2, scheduler_service_pb2_grpc
from fased.api.types.v1 import access_pb2
from fased.core.errors import NotFound
from fased.rpc.client import Client
from fased.store.tables import channels, executor, policy, router, scheduler
from fased.store.tables.metadata import metadata
from tests.support.calls import eventually
from tests.support.gateway import Gateway, open_gateway_on
from tests.support.scripted_provider import ScriptedProvider, scripted_provider
from tests.support.turns import uses

NAMES = ("alpha", "beta")
# Naming the modules makes their tables known.
TABLES = [
    table
    for module in (channels, executor, policy, router, scheduler)
    for table in metadata.sorted_tables
    if table.schema == module.__name__.rpartition(".")[2] and "namespace" in table.c
]
SESSION = "agent:main:main:chat:plans"


@dataclass(frozen=True, slots=True)
class Side:
    """A person of one namespace, with an admin's token for it alone."""

    name: str
    gateway: Gateway
    http: httpx2.AsyncClient
    client: Any
    conversation: str

    @property
    def parent(self) -> str:
        """The namespace as a resource."""
        return f"namespaces/{self.name}"

    async def say(self, message_id: str, text: str) -> str:
        """Post, and give the answer."""
        path = f"/api/v1/{self.conversation}/messages"
        key = {"Idempotency-Key": message_id}
        posted = await self.http.post(path, json={"text": text}, headers=key)
        assert posted.status_code == 201, posted.text

        async def answered() -> list[str]:
            return [
                event["text"]
                for event in await self.events()
                if event["kind"] == "said" and event["postId"] == message_id
            ]

        answers: list[str] = await eventually(answered)
        assert len(answers) == 1
        return answers[0]

    async def events(self) -> list[dict[str, Any]]:
        """The conversation's stored events."""
        path = f"/api/v1/{self.conversation}/events?pageSize=1000"
        events: list[dict[str, Any]] = (await self.http.get(path)).json()["events"]
        return events

    async def get(self, path: str) -> Any:
        """What lies at a path of the namespace."""
        answer = await self.http.get(f"/api/v1/{self.parent}/{path}")
        assert answer.is_success, answer.text
        return answer.json()

    async def everything(self) -> str:
        """All that this side is shown, as text."""
        transcripts: Any = executor_service_pb2_grpc.TranscriptServiceStub(self.client)
        listed = await transcripts.ListTranscript(
            executor_service_pb2.ListTranscriptRequest(parent=self.parent, session_key=SESSION)
        )
        shown = [await self.get(path) for path in ("agents", "sessions", "tasks", "runs")]
        runs = [await self.get(f"runs/{run['runId']}") for run in shown[-1]["runs"]]
        return json.dumps([shown, runs, await self.events(), str(listed)])


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


@pytest.fixture
async def sides(database_url: str, provider: ScriptedProvider) -> AsyncIterator[tuple[Side, Side]]:
    async with AsyncExitStack() as stack:
        opening = open_gateway_on(database_url, environment=uses(provider))
        gateway = await stack.enter_async_context(opening)
        alpha, beta = [await _side(stack, gateway, name) for name in NAMES]
        yield alpha, beta


async def _side(stack: AsyncExitStack, gateway: Gateway, name: str) -> Side:
    await gateway.add_agent("main", name)
    token = await gateway.new_token("root", access_pb2.ROLE_ADMIN, name)
    headers = {"Authorization": f"Bearer {token}"}
    http = await stack.enter_async_context(gateway.anonymous(headers=headers))
    client: Any = Client(gateway.public, token)
    stack.push_async_callback(client.close)
    base = f"/api/v1/namespaces/{name}"
    made = await http.post(f"{base}/sessions", json={"title": "Plans", "agentId": "main"})
    assert made.json()["session"]["sessionKey"] == SESSION
    opened = await http.post(f"{base}/conversations", json={"sessionKey": SESSION})
    return Side(name, gateway, http, client, opened.json()["conversation"]["name"])


async def talk(side: Side) -> None:
    """The same ids and names on either side; only the words differ."""
    word = f"{side.name}-only"
    assert await side.say("m-1", f"I am {word}") == f"You said: I am {word}"
    assert await side.say("m-2", f"still {word}") == f"You said: still {word}"
    made = await side.say("m-3", f"/task new manual --mode no-model Report: {word} report")
    assert made.startswith("Created **Report**")
    await side.say("m-4", "/task run Report")

    async def delivered() -> bool:
        return f"{word} report" in [event["text"] for event in await side.events()]

    await eventually(delivered)


async def rows_of(gateway: Gateway, namespace: str) -> dict[str, list[str]]:
    """Every row of a namespace, in every table that has namespaces."""
    found = {}
    for table in TABLES:
        query = f"SELECT to_jsonb(t)::text FROM {table.fullname} t WHERE namespace = $1"
        rows = await gateway.running.host.database.queue.fetch(query, namespace)
        found[table.fullname] = sorted(row[0] for row in rows)
    return found


async def settled(gateway: Gateway) -> None:
    """Wait until no run is live and all that came of them is delivered and noted."""

    async def is_quiet() -> bool:
        waiting = await gateway.running.host.database.queue.fetchval(
            """SELECT (SELECT count(*) FROM scheduler.run) + (SELECT count(*) FROM scheduler.outbox)
                    + (SELECT count(*) FROM router.outbox) + (SELECT count(*) FROM channels.outbox)
                    + (SELECT count(*) FROM scheduler.run_history h
                        WHERE deliver AND NOT EXISTS (
                            SELECT FROM scheduler.run_delivery d
                             WHERE d.run_id = h.id AND d.state = 'sent'))"""
        )
        return waiting == 0

    await eventually(is_quiet)


async def test_both_talk_with_the_same_ids_and_neither_is_shown_the_others_words(
    sides: tuple[Side, Side], provider: ScriptedProvider
) -> None:
    for side in sides:
        await talk(side)
    for side, other in (sides, sides[::-1]):
        shown = await side.everything()
        assert f"{side.name}-only" in shown
        assert f"{other.name}-only" not in shown
        assert f"namespaces/{other.name}" not in shown
        tasks, runs = (await side.get("tasks"))["tasks"], (await side.get("runs"))["runs"]
        assert [task["displayName"] for task in tasks] == ["Report"]
        assert len(runs) == 3
    for call in provider.calls:
        seen = json.dumps(call.messages)
        assert ("alpha-only" in seen) != ("beta-only" in seen)


async def test_nothing_of_the_other_namespace_is_found_under_ones_own_name(
    sides: tuple[Side, Side],
) -> None:
    alpha, beta = sides
    await talk(beta)
    run_id = (await beta.get("runs"))["runs"][0]["runId"]
    task_id = (await beta.get("tasks"))["tasks"][0]["name"].rpartition("/")[2]
    conversation = beta.conversation.rpartition("/")[2]
    for path in (f"runs/{run_id}", f"conversations/{conversation}/events"):
        answer = await alpha.http.get(f"/api/v1/{alpha.parent}/{path}")
        assert answer.status_code == 404
        assert "beta" not in answer.text
    tasks: Any = scheduler_service_pb2_grpc.TaskServiceStub(alpha.client)
    runs: Any = scheduler_service_pb2_grpc.RunServiceStub(alpha.client)
    pb, task_name = scheduler_service_pb2, f"{alpha.parent}/tasks/{task_id}"
    run_name = f"{alpha.parent}/runs/{run_id}"
    for call in (
        tasks.GetTask(pb.GetTaskRequest(name=task_name)),
        tasks.PauseTask(pb.PauseTaskRequest(name=task_name)),
        tasks.RunTask(pb.RunTaskRequest(name=task_name)),
        tasks.DeleteTask(pb.DeleteTaskRequest(name=task_name)),
        runs.GetRun(pb.GetRunRequest(name=run_name)),
        runs.CancelRun(pb.CancelRunRequest(name=run_name)),
        runs.RetryRun(pb.RetryRunRequest(name=run_name)),
        runs.ClearStaleRun(pb.ClearStaleRunRequest(name=run_name)),
    ):
        with pytest.raises(NotFound):
            await call
    said = await alpha.say("c-1", f"/task show {task_id}")
    assert "beta-only" not in said
    assert "beta-only" not in await alpha.say("c-2", "/task list all")
    assert "beta-only" not in await alpha.say("c-3", f"/task run-show {run_id}")


async def test_whatever_one_namespace_does_every_row_of_the_other_stays_as_it_was(
    sides: tuple[Side, Side],
) -> None:
    alpha, beta = sides
    for side in sides:
        await talk(side)
    await settled(alpha.gateway)
    before = await rows_of(alpha.gateway, beta.name)
    assert {table for table, rows in before.items() if rows} >= {
        *("policy.agent", "policy.token", "router.session", "router.command_effect"),
        *("channels.conversation", "channels.post", "channels.delivery", "executor.transcript"),
        *("scheduler.task", "scheduler.run_history", "scheduler.enqueue_key"),
    }
    for number, command in enumerate(
        ("/session new Plans", "/agent switch main", "/task pause Report", "/task cancel Report",
         "/reset", "/new", "/stop", "/session close", "and talk on")
    ):  # fmt: skip
        await alpha.say(f"w-{number}", command)
    await _remove_all(alpha)
    await settled(alpha.gateway)
    assert await rows_of(alpha.gateway, beta.name) == before
    assert await rows_of(alpha.gateway, alpha.name) != before


def unique_keys(table: Table) -> Iterator[set[str]]:
    """The sets of columns that make a row of a table the only one."""
    yield {column.name for column in table.primary_key}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            yield {column.name for column in index.columns}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fullname)
def test_an_id_that_people_choose_is_taken_in_its_namespace_only(table: Table) -> None:
    """Numbers, UUIDs and hashes of secrets are given out once for all namespaces."""
    for columns in unique_keys(table):
        is_given_out = all(
            isinstance(table.c[name].type, Integer | Uuid | LargeBinary) for name in columns
        )
        assert "namespace" in columns or is_given_out, columns


async def _remove_all(side: Side) -> None:
    sessions: Any = router_service_pb2_grpc.SessionServiceStub(side.client)
    name = f"{side.parent}/sessions/{SESSION}"
    await sessions.ResetSession(router_service_pb2.ResetSessionRequest(name=name))
    runs: Any = scheduler_service_pb2_grpc.RunServiceStub(side.client)
    await runs.CancelSessionRuns(
        scheduler_service_pb2.CancelSessionRunsRequest(parent=side.parent, session_key=SESSION)
    )
    tasks: Any = scheduler_service_pb2_grpc.TaskServiceStub(side.client)
    for task in (await side.get("tasks"))["tasks"]:
        await tasks.DeleteTask(scheduler_service_pb2.DeleteTaskRequest(name=task["name"]))
    agents: Any = policy_service_pb2_grpc.AgentServiceStub(side.client)
    agent = policy_service_pb2.DeleteAgentRequest(name=f"{side.parent}/agents/main")
    await agents.DeleteAgent(agent)
    tokens: Any = policy_service_pb2_grpc.TokenServiceStub(side.client)
    token = policy_service_pb2.RevokeTokenRequest(name=f"{side.parent}/tokens/root")
    await tokens.RevokeToken(token)
