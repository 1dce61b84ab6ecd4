"""Routes and gates that custom resources define, and what is said of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fased.api.router.v1 import binding_pb2, pairing_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core import errors
from tests.support.router import Router, routing

A, B = "namespaces/default", "namespaces/beta"
MADE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url, namespaces=("default", "beta")) as up:
        await up.add_agent("coding")
        yield up


async def apply(
    router: Router,
    name: str,
    *,
    parent: str = A,
    generation: int = 1,
    age: int = 0,
    owner: str = "",
    agent_id: str = "main",
    peer: str = "1",
    order: int = 0,
    **match: Any,
) -> pb.ApplyRoutingResponse:
    """Let the Route `name` stand, `age` days older than the others."""
    chat = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id=peer) if peer else None
    wanted = binding_pb2.Binding(
        name=f"{parent}/bindings/{name}",
        agent_id=agent_id,
        order=order,
        match=binding_pb2.Match(**{"channel": "telegram", "peer": chat, **match}),
    )
    wanted.create_time.FromDatetime(MADE - timedelta(days=age))
    return await router.routes.ApplyRouting(  # type: ignore[no-any-return]
        pb.ApplyRoutingRequest(
            parent=parent,
            managed_by=owner or f"resource:{name}",
            bindings=[wanted],
            generation=generation,
        )
    )


async def withdraw(router: Router, name: str, **fields: Any) -> None:
    await router.routes.ApplyRouting(
        pb.ApplyRoutingRequest(parent=A, managed_by=f"resource:{name}", **fields)
    )


async def checks(router: Router, parent: str = A) -> list[binding_pb2.BindingCheck]:
    return list((await router.routes.CheckBindings(pb.CheckBindingsRequest(parent=parent))).checks)


def name_of(check: binding_pb2.BindingCheck) -> str:
    return check.binding.name.rpartition("/")[2]


async def winner(router: Router) -> str:
    peer = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id="1")
    request = pb.ResolveRouteRequest(parent=A, channel="telegram", peer=peer)
    decision = (await router.routes.ResolveRoute(request)).decision
    return str(decision.binding.name.rpartition("/")[2] or decision.matched_by)


async def test_routes_are_ordered_by_their_order_then_age_then_name(router: Router) -> None:
    await apply(router, "c", age=1)
    await apply(router, "b")
    await apply(router, "a")
    await apply(router, "z", order=-1)
    found = await checks(router)
    assert [name_of(each) for each in found] == ["z", "c", "a", "b"]
    assert [(each.binding.position, each.binding.order) for each in found] == [
        (499_999, -1), (500_000, 0), (500_000, 0), (500_000, 0),
    ]  # fmt: skip
    assert found[1].binding.create_time.ToDatetime(tzinfo=UTC) == MADE - timedelta(days=1)
    assert {each.matched_by for each in found} == {"binding.peer"}
    assert [list(each.shadowed_by) for each in found] == [[], ["z"], ["z"], ["z"]]
    assert [list(each.tied_with) for each in found] == [[], ["a", "b"], ["c", "b"], ["c", "a"]]
    assert [each.findings[0].reason for each in found[1:]] == ["ROUTE_CONFLICTED"] * 3


async def test_the_rule_that_checks_tell_is_the_one_that_decides(router: Router) -> None:
    await apply(router, "young")
    await apply(router, "old", age=1)
    assert await winner(router) == "old"
    await apply(router, "young", order=-1, generation=2)
    assert await winner(router) == "young"
    await withdraw(router, "young", generation=2)
    assert await winner(router) == "old"
    await withdraw(router, "old")
    assert await winner(router) == "default"


async def test_an_older_generation_brings_nothing_back(router: Router) -> None:
    await apply(router, "r", agent_id="coding", generation=5)
    with pytest.raises(errors.Aborted) as caught:
        await apply(router, "r", agent_id="main", generation=4)
    assert caught.value.reason == "STALE_GENERATION"
    [check] = await checks(router)
    assert (check.binding.agent_id, check.binding.managed_by) == ("coding", "resource:r")
    before = (await apply(router, "r", agent_id="coding", generation=5)).version
    assert (await apply(router, "r", agent_id="coding", generation=6)).version == before


async def test_a_route_is_refused_what_a_file_owns(router: Router) -> None:
    await router.routes.ApplyRouting(
        pb.ApplyRoutingRequest(
            parent=A,
            managed_by="file:fased.json",
            bindings=[
                binding_pb2.Binding(
                    name=f"{A}/bindings/bindings[0]",
                    agent_id="main",
                    match=binding_pb2.Match(
                        channel="telegram",
                        peer=message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id="1"),
                    ),
                )
            ],
        )
    )
    with pytest.raises(errors.FailedPrecondition) as caught:
        await apply(router, "r")
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert "fased.json" in caught.value.message


async def test_a_route_that_matches_nothing_is_refused_with_its_field(router: Router) -> None:
    for fields, field in (
        ({"channel": ""}, "match.channel"),
        ({"order": 1001}, "order"),
        ({"agent_id": ""}, "agent_id"),
        ({"owner": "me"}, "managed_by"),
    ):
        with pytest.raises(errors.InvalidArgument) as caught:
            await apply(router, "r", **fields)
        assert caught.value.metadata["field"] == field
    assert not await checks(router)


async def test_owners_of_routes_and_of_gates_are_listed_apart(router: Router) -> None:
    await apply(router, "r", generation=3)
    await apply(router, "r", parent=B, owner="resource:other")
    gate = pairing_pb2.Gate(name=f"{A}/gates/telegram:second", dm_policy="open", allow_from=["*"])
    request = pb.ApplyGatesRequest(parent=A, managed_by="resource:c", gates=[gate], generation=2)
    await router.gates.ApplyGates(request)
    routes = await router.routes.ListRoutingOwners(pb.ListRoutingOwnersRequest(prefix="resource:"))
    assert [(each.namespace, each.managed_by, each.generation) for each in routes.owners] == [
        ("beta", "resource:other", 1),
        ("default", "resource:r", 3),
    ]
    gates = await router.gates.ListGateOwners(pb.ListGateOwnersRequest(prefix="resource:"))
    assert [(each.managed_by, each.generation) for each in gates.owners] == [("resource:c", 2)]
    stale = pb.ApplyGatesRequest(parent=A, managed_by="resource:c", generation=1)
    with pytest.raises(errors.Aborted) as caught:
        await router.gates.ApplyGates(stale)
    assert caught.value.reason == "STALE_GENERATION"
    await router.gates.ApplyGates(pb.ApplyGatesRequest(parent=A, managed_by="resource:c"))
    assert not (
        await router.gates.ListGateOwners(pb.ListGateOwnersRequest(prefix="resource:"))
    ).owners


async def test_checks_and_counts_are_of_one_namespace(router: Router) -> None:
    await apply(router, "r")
    await apply(router, "r", parent=B, owner="resource:beta", agent_id="ghost")
    [check] = await checks(router, B)
    assert check.binding.managed_by == "resource:beta"
    assert check.findings[0].reason == "BINDING_TARGET_MISSING"
    for parent, titles in ((A, ("one", "two")), (B, ("one",))):
        for title in titles:
            await router.sessions.CreateSession(
                pb.CreateSessionRequest(parent=parent, agent_id="main", title=title)
            )
    # The main session stands beside the named ones.
    for parent, count in ((A, 3), (B, 2)):
        counted = await router.sessions.CountSessions(pb.CountSessionsRequest(parent=parent))
        assert dict(counted.counts) == {"main": count}
