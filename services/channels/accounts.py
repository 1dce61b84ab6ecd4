"""AccountService: shows channel accounts. Decides nothing."""

from typing import Any

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc
from fased.core.errors import NotFound
from fased.core.names import (
    canonical_account,
    canonical_channel,
    parse_parent,
    parse_resource_name,
)
from fased.store.channels import accounts
from fased.store.database import Database
from fased.wire.channels import account_to_pb

COLLECTION = "accounts"


class AccountServicer(channels_service_pb2_grpc.AccountServiceServicer):
    """Channel accounts over gRPC."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    async def ListAccounts(
        self, request: pb.ListAccountsRequest, context: Any
    ) -> pb.ListAccountsResponse:
        """A namespace's accounts, by channel and account."""
        async with self._engine.connect() as conn:
            found = await accounts.list_all(conn, parse_parent(request.parent))
        return pb.ListAccountsResponse(accounts=[account_to_pb(each) for each in found])

    async def GetAccount(
        self, request: pb.GetAccountRequest, context: Any
    ) -> pb.GetAccountResponse:
        """One account."""
        namespace, text = parse_resource_name(request.name, COLLECTION)
        channel, _, account_id = text.partition(":")
        async with self._engine.connect() as conn:
            found = await accounts.get(
                conn, namespace, canonical_channel(channel), canonical_account(account_id)
            )
        if found is None:
            raise NotFound(f"there is no channel account {text[:80]}", reason="ACCOUNT_MISSING")
        return pb.GetAccountResponse(account=account_to_pb(found))
