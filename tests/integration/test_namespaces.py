"""Two namespaces with equal ids: neither sees, answers nor changes what is the other's.

The same Agents, sessions, message ids and task names live in both; the whole way from the post to
the transcript is real. Who comes to the wrong door at all: `test_namespace_doors.py`.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from fased.api.executor.v1 import executor_service_pb2, executor_service_pb2_grpc
from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc as stubs
from fased.api.scheduler.v1 import task_pb2
from fased.api.types.v1 import access_pb2
from fased.core.errors import NotFound
from fased.rpc.client import Client
from tests.support.calls import eventually
from tests.support.gateway import Gateway, open_gateway_on
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider
from tests.support.turns import uses

NAMES = ("alpha", "beta")
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

    async def task(self, name_or_id: str) -> task_pb2.Task:
        """One of the namespace's tasks."""
        tasks: Any = stubs.TaskServiceStub(self.client)
        name = f"{self.parent}/tasks/{name_or_id}"
        got: pb.GetTaskResponse
        got = await tasks.GetTask(pb.GetTaskRequest(name=name))
        return got.task

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
    await side.say("m-5", f"/session new {word}")
    assert word in await side.say("m-6", "/session list")
    assert (await side.say("m-7", "/session switch plans")).startswith("Switched")


async def rows_of(gateway: Gateway, namespace: str) -> dict[str, list[str]]:
    """Every row of a namespace, in every table that has namespaces."""
    pool = gateway.running.host.database.queue
    tables = await pool.fetch(
        """SELECT format('%I.%I', c.table_schema, c.table_name) AS name
             FROM information_schema.columns c JOIN information_schema.tables t
               USING (table_schema, table_name)
            WHERE c.column_name = 'namespace' AND t.table_type = 'BASE TABLE'"""
    )
    found = {}
    for (table,) in tables:
        query = f"SELECT to_jsonb(t)::text FROM {table} t WHERE namespace = $1"
        found[table] = sorted(row[0] for row in await pool.fetch(query, namespace))
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
        return bool(waiting == 0)

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
        assert (await side.task("Report")).prompt == f"{side.name}-only report"
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
    path = f"/api/v1/{alpha.parent}/conversations/{conversation}/messages"
    answer = await alpha.http.post(path, json={"text": "hi", "messageId": "x"})
    assert answer.status_code == 404
    tasks: Any = stubs.TaskServiceStub(alpha.client)
    runs: Any = stubs.RunServiceStub(alpha.client)
    task_name = f"{alpha.parent}/tasks/{task_id}"
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
    for command in (f"/task show {task_id}", "/task list all", f"/task run-show {run_id}"):
        assert "beta-only" not in await alpha.say(command[:20], command)


# Commands that change what they find, and how each begins its answer when it found its own.
CHANGES = {
    "/task pause Report": "Paused",
    "/task cancel Report": "Cancelled",
    "/reset": "Started afresh",
    "/stop": "Nothing is running",
    "/session close": "Closed",
    "/session switch main": "Switched",
    "/agent switch main": "Agent switched",
    "/new": "Started afresh",
    "and talk on": "You said",
}


async def test_whatever_one_namespace_does_every_row_of_the_other_stays_as_it_was(
    sides: tuple[Side, Side],
) -> None:
    # Where a row is looked for without its namespace, the one that was made first is found.
    first, second = sides
    for side in sides:
        await talk(side)
    await settled(first.gateway)
    before = await rows_of(first.gateway, first.name)
    assert {table for table, rows in before.items() if rows} >= {
        *("policy.agent", "policy.token", "router.session", "router.command_effect"),
        *("channels.conversation", "channels.post", "channels.delivery", "executor.transcript"),
        *("scheduler.task", "scheduler.run_history", "scheduler.enqueue_key"),
    }
    for number, (command, begins) in enumerate(CHANGES.items()):
        assert (await second.say(f"w-{number}", command)).startswith(begins)
    await _remove_all(second)
    await settled(first.gateway)
    assert await rows_of(first.gateway, first.name) == before


async def test_a_live_run_is_neither_shown_to_the_other_namespace_nor_stopped_by_it(
    sides: tuple[Side, Side], provider: ScriptedProvider
) -> None:
    first, second = sides
    gate = threading.Event()
    provider.rules = [Rule(match="hold", hold=gate)]
    answering = asyncio.create_task(first.say("h-1", "hold on"))

    async def is_running() -> bool:
        return [run["state"] for run in (await first.get("runs"))["runs"]] == ["running"]

    await eventually(is_running)
    assert (await second.get("runs"))["runs"] == []
    runs: Any = stubs.RunServiceStub(second.client)
    request = pb.CancelSessionRunsRequest(parent=second.parent, session_key=SESSION)
    assert (await runs.CancelSessionRuns(request)).count == 0
    await second.say("h-1", "/stop")
    gate.set()
    assert await answering == "You said: hold on"


async def _remove_all(side: Side) -> None:
    tasks: Any = stubs.TaskServiceStub(side.client)
    for task in (await side.get("tasks"))["tasks"]:
        await tasks.DeleteTask(pb.DeleteTaskRequest(name=task["name"]))
    agents: Any = policy_service_pb2_grpc.AgentServiceStub(side.client)
    agent = policy_service_pb2.DeleteAgentRequest(name=f"{side.parent}/agents/main")
    await agents.DeleteAgent(agent)
    tokens: Any = policy_service_pb2_grpc.TokenServiceStub(side.client)
    token = policy_service_pb2.RevokeTokenRequest(name=f"{side.parent}/tokens/root")
    await tokens.RevokeToken(token)
