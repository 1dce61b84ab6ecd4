"""RouteService over real gRPC and PostgreSQL: decisions, bindings, owners, versions."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fased.api.router.v1 import binding_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core import errors
from fased.core.access import Role
from tests.support.calls import acting
from tests.support.router import Router, routing

A, B = "namespaces/default", "namespaces/beta"
FILE = "file:/home/x/fased.json"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url, namespaces=("default", "beta")) as up:
        await up.add_agent("coding")
        yield up


def match(channel: str = "telegram", peer: str = "", **fields: Any) -> binding_pb2.Match:
    """What must match; `peer` is a direct chat's id."""
    chat = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id=peer) if peer else None
    return binding_pb2.Match(channel=channel, peer=chat, **fields)


def binding(agent_id: str, *args: Any, name: str = "", **fields: Any) -> binding_pb2.Binding:
    """A binding; `name` is its id, for an owner who chooses it."""
    full = f"{A}/bindings/{name}" if name else ""
    return binding_pb2.Binding(name=full, agent_id=agent_id, match=match(*args, **fields))


async def create(
    router: Router, wanted: binding_pb2.Binding, parent: str = A, **fields: Any
) -> pb.CreateBindingResponse:
    """Add a binding by command."""
    request = pb.CreateBindingRequest(parent=parent, binding=wanted, **fields)
    return await router.routes.CreateBinding(request)  # type: ignore[no-any-return]


async def apply(
    router: Router, *bindings: binding_pb2.Binding, owner: str = FILE, **fields: Any
) -> int:
    """Let an owner say all its bindings; the version after."""
    request = pb.ApplyRoutingRequest(parent=A, managed_by=owner, bindings=bindings, **fields)
    return (await router.routes.ApplyRouting(request)).version  # type: ignore[no-any-return]


async def listed(router: Router, parent: str = A, **fields: Any) -> list[tuple[str, str]]:
    """Agent and channel of the bindings, in the order that decides."""
    response = await router.routes.ListBindings(pb.ListBindingsRequest(parent=parent, **fields))
    return [(each.agent_id, each.match.channel) for each in response.bindings]


async def resolve(router: Router, parent: str = A, **fields: Any) -> pb.ResolveRouteResponse:
    """The decision for a direct chat on telegram."""
    peer = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id="1")
    values = {"channel": "telegram", "peer": peer, **fields}
    return await router.routes.ResolveRoute(  # type: ignore[no-any-return]
        pb.ResolveRouteRequest(parent=parent, **values)
    )


async def test_a_route_is_explained_with_the_losers_and_what_is_odd(router: Router) -> None:
    await apply(
        router,
        binding("coding", peer="1", name="bindings[0]"),
        binding("main", name="bindings[1]"),
        binding("ghost", "slack", name="bindings[2]"),
        binding("ghost", account_id="*", name="bindings[3]"),
    )
    explained = await resolve(router, explain=True)
    assert explained.decision.agent_id == "coding"
    assert explained.decision.matched_by == "binding.peer"
    assert explained.decision.session_key == "agent:coding:main"
    assert explained.decision.binding.name == f"{A}/bindings/bindings[0]"
    losers = [(each.tier, each.failed) for each in explained.candidates]
    assert losers == [
        ("binding.account", "OUTRANKED"),
        ("binding.account", "channel"),
        ("binding.channel", "OUTRANKED"),
    ]
    assert "BINDING_TARGET_MISSING" in {finding.reason for finding in explained.lint}
    plain = await resolve(router)
    assert plain.decision == explained.decision
    assert not plain.candidates


async def test_the_default_agent_is_a_fallback_and_no_binding(router: Router) -> None:
    decision = (await resolve(router)).decision
    assert (decision.agent_id, decision.matched_by) == ("main", "default")
    assert not decision.HasField("binding")


async def test_a_binding_with_a_known_match_moves_to_the_new_agent(router: Router) -> None:
    first = await create(router, binding("main", role_ids=["r2", "r1"], guild_id="g"))
    moved = await create(router, binding("coding", role_ids=["r1", "r2"], guild_id="g"))
    assert moved.binding.name == first.binding.name
    assert moved.binding.create_time == first.binding.create_time
    assert (first.version, moved.version) == (1, 2)
    again = await create(router, binding("Coding ", role_ids=["r1", "r2"], guild_id="g"))
    assert again.version == 2
    assert await listed(router) == [("coding", "telegram")]


async def test_an_edit_of_an_old_version_is_refused(router: Router) -> None:
    made = await create(router, binding("main"))
    await create(router, binding("main", "slack"), version=made.version)
    with pytest.raises(errors.Aborted) as caught:
        await create(router, binding("main", "discord"), version=made.version)
    assert caught.value.reason == "VERSION_MISMATCH"
    assert await listed(router) == [("main", "telegram"), ("main", "slack")]


async def test_a_repeated_create_answers_with_the_first_binding(router: Router) -> None:
    request_id = str(uuid.uuid4())
    first = await create(router, binding("main"), request_id=request_id)
    await create(router, binding("coding"))
    again = await create(router, binding("main"), request_id=request_id, version=first.version)
    assert again.binding.name == first.binding.name
    assert await listed(router) == [("coding", "telegram")]


async def test_a_repeated_delete_changes_nothing_more(router: Router) -> None:
    made = await create(router, binding("main"))
    request = pb.DeleteBindingRequest(name=made.binding.name, request_id=str(uuid.uuid4()))
    assert (await router.routes.DeleteBinding(request)).version == 2
    assert (await router.routes.DeleteBinding(request)).version == 2
    with pytest.raises(errors.NotFound) as caught:
        await router.routes.DeleteBinding(pb.DeleteBindingRequest(name=made.binding.name))
    assert caught.value.reason == "BINDING_MISSING"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (binding("", "telegram"), "agent_id"),
        (binding("main", " "), "match.channel"),
        (
            binding_pb2.Binding(
                agent_id="main",
                match=binding_pb2.Match(channel="telegram", peer=message_pb2.Peer(id="1")),
            ),
            "match.peer",
        ),
    ],
)
async def test_a_binding_that_could_match_nothing_is_refused(
    router: Router, wanted: binding_pb2.Binding, field: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await create(router, wanted)
    assert caught.value.metadata == {"field": field}
    assert await listed(router) == []


async def test_an_owner_that_says_the_same_again_changes_nothing(router: Router) -> None:
    said = (binding("coding", name="b0"), binding("main", "slack", name="b1"))
    policy = binding_pb2.SessionPolicy(
        dm_scope="per-peer",
        identity_links=[
            binding_pb2.IdentityLink(name="zoe", ids=["1"]),
            binding_pb2.IdentityLink(name="al", ids=["1", "2"]),
        ],
    )
    assert await apply(router, *said, session=policy) == 1
    assert await apply(router, *said, session=policy) == 1
    assert (await resolve(router)).decision.session_key == "agent:coding:direct:zoe"
    del policy.identity_links[0]
    assert await apply(router, *said, session=policy) == 2
    assert (await resolve(router)).decision.session_key == "agent:coding:direct:al"


async def test_the_order_of_identity_links_counts(router: Router) -> None:
    links = [binding_pb2.IdentityLink(name=name, ids=["1"]) for name in ("zoe", "al")]
    policy = binding_pb2.SessionPolicy(dm_scope="per-peer", identity_links=links)
    await apply(router, session=policy)
    policy.identity_links.reverse()
    assert await apply(router, session=policy) == 2
    assert (await resolve(router)).decision.session_key == "agent:main:direct:al"


async def test_a_files_bindings_come_first_in_its_order_however_many_there_are(
    router: Router,
) -> None:
    await create(router, binding("main", peer="9"))
    await create(router, binding("main", "matrix"))
    await apply(router, *(binding("coding", f"c{at}", name=f"b{at}") for at in range(3)))
    await create(router, binding("main", "signal"))
    assert await listed(router) == [
        ("coding", "c0"), ("coding", "c1"), ("coding", "c2"),
        ("main", "telegram"), ("main", "matrix"), ("main", "signal"),
    ]  # fmt: skip
    await apply(router, *(binding("coding", f"c{at}", name=f"b{2 - at}") for at in (2, 1, 0, -1)))
    assert (await listed(router))[:5] == [
        ("coding", "c2"), ("coding", "c1"), ("coding", "c0"), ("coding", "c-1"),
        ("main", "telegram"),
    ]  # fmt: skip
    assert await listed(router, agent_id=" Coding") == (await listed(router))[:4]


async def test_what_an_owner_no_longer_names_is_gone(router: Router) -> None:
    await create(router, binding("main", "mine"))
    policy = binding_pb2.SessionPolicy(dm_scope="per-peer")
    await apply(router, binding("coding", name="b0"), session=policy)
    assert (await resolve(router)).decision.session_key == "agent:coding:direct:1"
    await apply(router)
    assert await listed(router) == [("main", "mine")]
    assert (await resolve(router)).decision.session_key == "agent:main:main"


async def test_options_change_which_binding_wins(router: Router) -> None:
    wildcard = binding("coding", peer="*", name="b0")
    await apply(router, wildcard)
    assert (await resolve(router)).decision.agent_id == "main"
    await apply(router, wildcard, options=binding_pb2.RoutingOptions(wildcard_peer=True))
    assert (await resolve(router)).decision.matched_by == "binding.peer.wildcard"
    await apply(router, wildcard)
    assert (await resolve(router)).decision.agent_id == "main"


async def test_a_binding_made_by_command_gives_way_to_the_owners(router: Router) -> None:
    await create(router, binding("main"))
    await apply(router, binding("coding", name="b0"))
    assert await listed(router) == [("coding", "telegram")]
    with pytest.raises(errors.FailedPrecondition) as caught:
        await create(router, binding("main"))
    assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert "/home/x/fased.json" in caught.value.message
    with pytest.raises(errors.FailedPrecondition):
        await router.routes.DeleteBinding(pb.DeleteBindingRequest(name=f"{A}/bindings/b0"))


async def test_what_another_owner_has_is_refused_and_nothing_changes(router: Router) -> None:
    policy = binding_pb2.SessionPolicy(dm_scope="per-peer")
    await apply(router, binding("coding", name="b0"), session=policy)
    for conflict in (
        {"bindings": [binding("main", name="other")]},
        {"bindings": [binding("main", "slack", name="b0")]},
        {"session": binding_pb2.SessionPolicy()},
    ):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await router.routes.ApplyRouting(
                pb.ApplyRoutingRequest(parent=A, managed_by="resource:1", **conflict)
            )
        assert caught.value.reason == "MANAGED_ELSEWHERE"
    assert await apply(router, binding("coding", name="b0"), session=policy) == 1


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ApplyRoutingRequest(parent=A), "managed_by"),
        (
            pb.ApplyRoutingRequest(
                parent=A, managed_by=FILE, bindings=[binding("main", name="b")] * 2
            ),
            "bindings",
        ),
        (pb.ApplyRoutingRequest(parent=A, managed_by=FILE, bindings=[binding("main")]), "name"),
    ],
)
async def test_an_owner_says_who_it_is_and_names_each_binding_once(
    router: Router, request_: pb.ApplyRoutingRequest, field: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await router.routes.ApplyRouting(request_)
    assert caught.value.metadata == {"field": field}


@pytest.mark.parametrize(
    "rule",
    [
        binding_pb2.ResetRule(kind="room", daily_hour=4),
        binding_pb2.ResetRule(kind="direct", daily_hour=24),
        binding_pb2.ResetRule(kind="direct", daily_hour=4, timezone="Mars/Base"),
    ],
)
async def test_a_reset_rule_that_no_clock_can_keep_is_refused(
    router: Router, rule: binding_pb2.ResetRule
) -> None:
    with pytest.raises(errors.InvalidArgument):
        await apply(router, session=binding_pb2.SessionPolicy(resets=[rule]))


async def test_two_namespaces_do_not_see_each_others_bindings(router: Router) -> None:
    await create(router, binding("ghost"), parent=B)
    await create(router, binding("coding"))
    assert await listed(router, B) == [("ghost", "telegram")]
    assert (await resolve(router)).decision.agent_id == "coding"
    assert (await resolve(router, B)).decision.findings[0].reason == "BINDING_TARGET_MISSING"
    theirs = (await router.routes.ListBindings(pb.ListBindingsRequest(parent=B))).bindings[0]
    with pytest.raises(errors.NotFound):
        await router.routes.DeleteBinding(
            pb.DeleteBindingRequest(name=theirs.name.replace("beta", "default"))
        )


async def test_bindings_are_an_admins_and_applying_is_no_persons(router: Router) -> None:
    with pytest.raises(errors.PermissionDenied):
        await router.routes.CreateBinding(
            pb.CreateBindingRequest(parent=A, binding=binding("main")), **acting()
        )
    with pytest.raises(errors.PermissionDenied):
        await router.routes.ApplyRouting(
            pb.ApplyRoutingRequest(parent=A, managed_by=FILE), **acting(role=Role.ADMIN)
        )
    with pytest.raises(errors.PermissionDenied):
        await router.routes.ListBindings(pb.ListBindingsRequest(parent=A), **acting("beta"))


async def test_a_change_is_seen_by_the_very_next_decision(router: Router) -> None:
    for agent_id in ("coding", "main", "coding"):
        await create(router, binding(agent_id))
        assert (await resolve(router)).decision.agent_id == agent_id
    await router.add_agent("late", is_default=True)
    decision = (await resolve(router, channel="slack")).decision
    assert decision.agent_id == "late"
