"""GateService: keeps the gate policy of each account. Decides nothing itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fased.api.router.v1 import pairing_pb2, router_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as pb
from fased.core.errors import InvalidArgument
from fased.core.gate import GatePolicy, checked_account, checked_policy
from fased.core.names import (
    AccountId,
    ChannelId,
    Namespace,
    checked_request_id,
    parse_parent,
    parse_resource_name,
)
from fased.core.owners import check_owner, checked_owner
from fased.rpc import owner_pages
from fased.rpc.batches import check_count
from fased.store import owners
from fased.store.database import Connection, Database
from fased.store.owners import Owned
from fased.store.router import gate as gates
from fased.store.router.gate import StoredGate
from fased.wire.gates import GATE_FIELDS, GATES, gate_to_pb, policy_from_pb

_Accounts = dict[tuple[ChannelId, AccountId], GatePolicy]


class GateServicer(router_service_pb2_grpc.GateServiceServicer):
    """Gate policies over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def GetGate(self, request: pb.GetGateRequest, context: Any) -> pb.GetGateResponse:
        """The gate of an account."""
        namespace, channel, account_id = _named(request.name)
        async with self._pool.acquire() as conn:
            found = await gates.get(conn, namespace, channel, account_id)
        return pb.GetGateResponse(gate=_to_pb(namespace, found))

    async def ListGates(self, request: pb.ListGatesRequest, context: Any) -> pb.ListGatesResponse:
        """The gates that were set."""
        namespace = parse_parent(request.parent)
        async with self._pool.acquire() as conn:
            found = await gates.list_all(conn, namespace)
        return pb.ListGatesResponse(gates=[_to_pb(namespace, each) for each in found])

    async def UpdateGate(
        self, request: pb.UpdateGateRequest, context: Any
    ) -> pb.UpdateGateResponse:
        """Change the fields that the mask names."""
        namespace, channel, account_id = _named(request.gate.name)
        if request.request_id:
            checked_request_id(request.request_id)
        asked, fields = policy_from_pb(request.gate), _masked(request.update_mask.paths)
        async with self._pool.acquire() as conn, conn.transaction():
            await gates.lock_account(conn, namespace, channel, account_id)
            known = await gates.get(conn, namespace, channel, account_id)
            check_owner("the gate of", f"{channel}:{account_id}", known.managed_by, "")
            changed: dict[str, Any] = {field: getattr(asked, field) for field in fields}
            gate = replace(known, policy=checked_policy(replace(known.policy, **changed)))
            await gates.put(conn, namespace, gate)
        return pb.UpdateGateResponse(gate=_to_pb(namespace, gate))

    async def ApplyGates(
        self, request: pb.ApplyGatesRequest, context: Any
    ) -> pb.ApplyGatesResponse:
        """Make one owner's gates what the request says."""
        namespace, owner = parse_parent(request.parent), checked_owner(request.managed_by)
        check_count("gates", len(request.gates))
        wanted = _wanted(request.gates)
        async with self._pool.acquire() as conn, conn.transaction():
            await owners.claim(conn, Owned.GATES, namespace, owner, request.generation)
            await _apply(conn, namespace, owner, wanted)
            if not wanted:
                await owners.forget(conn, Owned.GATES, namespace, owner)
        return pb.ApplyGatesResponse()

    async def ListGateOwners(
        self, request: pb.ListGateOwnersRequest, context: Any
    ) -> pb.ListGateOwnersResponse:
        """Who defines gates from elsewhere."""
        async with self._pool.acquire() as conn:
            found, token = await owner_pages.read(conn, Owned.GATES, request)
        return pb.ListGateOwnersResponse(owners=found, next_page_token=token)


async def _apply(conn: Connection, namespace: Namespace, owner: str, wanted: _Accounts) -> None:
    known = {
        (each.channel, each.account_id): each for each in await gates.list_all(conn, namespace)
    }
    gone = {key for key, each in known.items() if each.managed_by == owner and key not in wanted}
    # In one order, so that two who apply wait for each other and no more.
    for key in sorted(wanted.keys() | gone):
        await gates.lock_account(conn, namespace, *key)
        if key in gone:
            await gates.remove(conn, namespace, *key)
            continue
        stands = await gates.get(conn, namespace, *key)
        check_owner("the gate of", ":".join(key), stands.managed_by, owner)
        gate = StoredGate(*key, wanted[key], owner)
        if gate != stands:
            await gates.put(conn, namespace, gate)


def _wanted(asked: Sequence[pairing_pb2.Gate]) -> _Accounts:
    wanted: _Accounts = {}
    for gate in asked:
        _, channel, account_id = _named(gate.name)
        if (channel, account_id) in wanted:
            raise InvalidArgument(
                f"two gates are named {channel}:{account_id}",
                reason="DUPLICATE_GATE",
                metadata={"field": "gates"},
            )
        wanted[channel, account_id] = checked_policy(policy_from_pb(gate))
    return wanted


def _named(name: str) -> tuple[Namespace, ChannelId, AccountId]:
    namespace, text = parse_resource_name(name, GATES)
    channel, _, account_id = text.partition(":")
    return (namespace, *checked_account(channel, account_id))


def _masked(paths: Sequence[str]) -> Sequence[str]:
    if unknown := sorted(set(paths) - set(GATE_FIELDS)):
        raise InvalidArgument(
            f"update_mask names {unknown[0][:40]!r}, which is none of {', '.join(GATE_FIELDS)}",
            reason="INVALID_UPDATE_MASK",
            metadata={"field": "update_mask"},
        )
    return paths or GATE_FIELDS


def _to_pb(namespace: Namespace, gate: StoredGate) -> pairing_pb2.Gate:
    return gate_to_pb(namespace, gate.channel, gate.account_id, gate.policy, gate.managed_by)
