"""PairingService: lets people write to an account, and no longer. Decides nothing itself."""

from typing import Any

from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.router.v1 import router_service_pb2_grpc
from fased.core.errors import NotFound
from fased.core.gate import checked_account
from fased.core.names import (
    AccountId,
    ChannelId,
    Namespace,
    checked_request_id,
    parse_parent,
    parse_resource_name,
)
from fased.core.pairing import AllowedSender, checked_code, checked_sender
from fased.rpc import paging
from fased.store.database import Database
from fased.store.router import effects, pairings
from fased.wire.gates import PAIRINGS, SENDERS, allowed_to_pb, pairing_to_pb, sender_id_of
from fased.wire.messages import sender_from_pb


class PairingServicer(router_service_pb2_grpc.PairingServiceServicer):
    """Pairings and allowed senders over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def ListPairings(
        self, request: pb.ListPairingsRequest, context: Any
    ) -> pb.ListPairingsResponse:
        """Who waits."""
        namespace = parse_parent(request.parent)
        async with self._pool.acquire() as conn:
            found = await pairings.list_pending(conn, namespace)
        return pb.ListPairingsResponse(pairings=[pairing_to_pb(namespace, each) for each in found])

    async def ApprovePairing(
        self, request: pb.ApprovePairingRequest, context: Any
    ) -> pb.ApprovePairingResponse:
        """Let in who has the code; a repeat answers with who was let in."""
        namespace, code = _coded(request.name)
        request_id = checked_request_id(request.request_id) if request.request_id else None
        async with self._pool.acquire() as conn, conn.transaction():
            waiting = await pairings.take(conn, namespace, code)
            if waiting is None:
                before = await effects.resource_of(conn, namespace, request_id)
                found = (
                    await pairings.get_allowed(conn, namespace, *_address(before))
                    if before
                    else None
                )
                return pb.ApprovePairingResponse(
                    sender=allowed_to_pb(namespace, _existing(found, code))
                )
            allowed = await pairings.allow(
                conn,
                namespace,
                AllowedSender(waiting.channel, waiting.account_id, waiting.sender),
            )
            await effects.keep_request(conn, namespace, request_id, sender_id_of(allowed))
        return pb.ApprovePairingResponse(sender=allowed_to_pb(namespace, allowed))

    async def DenyPairing(
        self, request: pb.DenyPairingRequest, context: Any
    ) -> pb.DenyPairingResponse:
        """Forget a request."""
        namespace, code = _coded(request.name)
        request_id = checked_request_id(request.request_id) if request.request_id else None
        async with self._pool.acquire() as conn, conn.transaction():
            if await pairings.take(conn, namespace, code) is not None:
                await effects.keep_request(conn, namespace, request_id, code)
            elif not await effects.resource_of(conn, namespace, request_id):
                raise _missing(code)
        return pb.DenyPairingResponse()

    async def ListAllowedSenders(
        self, request: pb.ListAllowedSendersRequest, context: Any
    ) -> pb.ListAllowedSendersResponse:
        """Who was let in."""
        namespace, size = parse_parent(request.parent), paging.page_size(request.page_size)
        query = {"senders": namespace}
        position = paging.decode(request.page_token, query)
        after = (str(position[0]), str(position[1]), str(position[2])) if position else None
        async with self._pool.acquire() as conn:
            found = await pairings.list_allowed(conn, namespace, after, size + 1)
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = paging.encode([last.channel, last.account_id, last.sender.id], query)
        return pb.ListAllowedSendersResponse(
            senders=[allowed_to_pb(namespace, each) for each in found[:size]],
            next_page_token=token,
        )

    async def AllowSender(
        self, request: pb.AllowSenderRequest, context: Any
    ) -> pb.AllowSenderResponse:
        """Let somebody in who did not ask."""
        namespace = parse_parent(request.parent)
        channel, account_id = checked_account(request.sender.channel, request.sender.account_id)
        sender = checked_sender(sender_from_pb(request.sender.sender))
        async with self._pool.acquire() as conn, conn.transaction():
            allowed = await pairings.allow(
                conn, namespace, AllowedSender(channel, account_id, sender)
            )
        return pb.AllowSenderResponse(sender=allowed_to_pb(namespace, allowed))

    async def RevokeSender(
        self, request: pb.RevokeSenderRequest, context: Any
    ) -> pb.RevokeSenderResponse:
        """Let somebody in no longer."""
        namespace, text = parse_resource_name(request.name, SENDERS)
        request_id = checked_request_id(request.request_id) if request.request_id else None
        async with self._pool.acquire() as conn, conn.transaction():
            if await pairings.revoke(conn, namespace, *_address(text)):
                await effects.keep_request(conn, namespace, request_id, text)
            elif not await effects.resource_of(conn, namespace, request_id):
                raise NotFound(
                    f"{text[:120]} is not among those who were let in; list them with: "
                    "fased pairing list",
                    reason="SENDER_MISSING",
                    metadata={"field": "name"},
                )
        return pb.RevokeSenderResponse()


def _coded(name: str) -> tuple[Namespace, str]:
    namespace, code = parse_resource_name(name, PAIRINGS)
    return namespace, checked_code(code)


def _address(text: str) -> tuple[ChannelId, AccountId, str]:
    """Channel, account and sender of `channel:account:sender`."""
    channel, _, rest = text.partition(":")
    account_id, _, sender_id = rest.partition(":")
    return (*checked_account(channel, account_id), sender_id.strip())


def _existing(allowed: AllowedSender | None, code: str) -> AllowedSender:
    if allowed is None:
        raise _missing(code)
    return allowed


def _missing(code: str) -> NotFound:
    return NotFound(
        f"nobody waits under the code {code}, or no longer: a code holds for an hour; list them "
        "with: fased pairing list",
        reason="PAIRING_MISSING",
        metadata={"field": "name"},
    )
