"""A router whose scheduler is away: nothing is lost, nothing is doubled, nothing else waits."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.api.types.v1 import message_pb2
from fased.process import Host, Service, serve
from fased.rpc.client import open_client
from services.policy import service as policy
from services.router import service as router_service
from services.scheduler import service as scheduler
from services.scheduler.settings import SchedulerSettings
from tests.support.calls import eventually
from tests.support.router import Router, listening, writer
from tests.support.services import running


@dataclass(frozen=True, slots=True)
class Apart:
    """A router whose scheduler has an address of its own, where nobody listens at first."""

    router: Router
    address: str

    @asynccontextmanager
    async def scheduling(self) -> AsyncIterator[None]:
        """The scheduler up while inside."""
        up = self.router.up
        host = replace(up.host, stop=asyncio.Event())
        serving = asyncio.create_task(
            serve(
                host,
                [partial(scheduler.open_service, settings=SchedulerSettings())],
                listen=self.address,
                service_token=up.service_token,
                grace_s=1,
            )
        )
        try:
            yield
        finally:
            host.stop.set()
            await serving


@pytest.fixture
async def apart(database_url: str) -> AsyncIterator[Apart]:
    with tempfile.TemporaryDirectory(prefix="fased-") as folder:
        address = f"unix:{Path(folder)}/scheduler"

        @asynccontextmanager
        async def open_router(token: str, host: Host) -> AsyncIterator[Service]:
            channel, client = open_client(address, token)
            clients = {"scheduler": channel}
            elsewhere = replace(host, client=lambda name: clients.get(name) or host.client(name))
            async with router_service.open_service(elsewhere) as service:
                yield service
            await client.close()

        def make(listen: str, token: str) -> list[object]:
            return [policy.open_service, partial(open_router, token)]

        async with running(database_url, make) as up, listening(Router(up)) as router:  # type: ignore[arg-type]
            agents = policy_service_pb2_grpc.AgentServiceStub(up.channel)
            await agents.CreateAgent(
                policy_service_pb2.CreateAgentRequest(parent="namespaces/default", agent_id="main")
            )
            await router.open_gates("default")
            yield Apart(router, address)


async def retried(router: Router) -> None:
    """Wait until a batch could not be done."""

    async def is_waiting() -> bool:
        rows = await router.rows("SELECT 1 FROM router.session")
        return bool(rows)

    await eventually(is_waiting)


async def test_messages_written_meanwhile_are_queued_once_in_order_in_their_session(
    apart: Apart,
) -> None:
    router = apart.router
    ada = writer(router)
    events = [ada.event(str(number)) for number in range(5)]
    await router.publish(*events)
    await retried(router)
    [before] = await router.rows("SELECT session_id FROM router.session")
    async with apart.scheduling():
        await router.settled()
        rows = await router.rows(
            "SELECT body->'inputs'->0->>'text' AS text, body->>'session_id' AS id "
            "FROM scheduler.run ORDER BY seq"
        )
    assert [row["text"] for row in rows] == [str(number) for number in range(5)]
    assert {row["id"] for row in rows} == {str(before["session_id"])}


async def test_a_command_that_needs_it_is_carried_out_when_it_is_back(apart: Apart) -> None:
    router = apart.router
    event = writer(router).event("/task new every 1h --mode no-model Tick: tick")
    await router.publish(event)
    await retried(router)
    assert await router.rows("SELECT 1 FROM router.command_effect") == []
    assert event.event_id not in router.said
    async with apart.scheduling():
        reply = await router.replied(event)
        assert reply.text.startswith("Created **Tick**")
        await router.settled()
    assert len(await router.rows("SELECT 1 FROM scheduler.task")) == 1
    assert len(router.said[event.event_id]) == 1


async def test_other_chats_go_on_while_a_command_waits(apart: Apart) -> None:
    router = apart.router
    await router.publish(writer(router, "0").event("/status"))
    await retried(router)
    [stuck] = await router.rows("SELECT topic, partition FROM bus.record")
    # Chats of the same partition wait behind it; those of the seven others do not.
    others = [writer(router, str(peer)).event("/session new Plans") for peer in range(1, 40)]
    await router.publish(*others)
    rows = await router.rows(
        "SELECT value FROM bus.record WHERE topic = $1 AND partition <> $2", *stuck
    )
    ids = {message_pb2.InboundEvent.FromString(row["value"]).event_id for row in rows}
    free = [event for event in others if event.event_id in ids]
    assert len(free) > 20
    for event in free:
        assert (await router.replied(event)).text.startswith("Created session")
