"""AccountService: keeps channel accounts and tells how they do. Decides nothing itself
(`core/accounts.py`); what runs for an account is `connections.py`.
"""

import asyncio
from dataclasses import replace
from typing import Any

import httpx2
from sqlalchemy.ext.asyncio import AsyncConnection

from fased.api.channels.v1 import account_pb2, channels_service_pb2_grpc
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.core.access import Role, check_call
from fased.core.accounts import CHANNELS, Account, AccountSettings, checked_settings
from fased.core.errors import AlreadyExists, FasedError, NotFound
from fased.core.names import (
    AccountId,
    ChannelId,
    Namespace,
    canonical_account,
    canonical_channel,
    checked_request_id,
    parse_parent,
    parse_resource_name,
    resource_name,
)
from fased.core.owners import check_credential, check_owner, checked_owner
from fased.process import Host
from fased.rpc import owner_pages
from fased.rpc.batches import check_count
from fased.rpc.interceptors import current_caller
from fased.secrets import Secrets
from fased.store import database, outbox, owners
from fased.store.channels import accounts, lanes
from fased.store.owners import Owned
from fased.wire.channels import account_to_pb, settings_from_pb, status_to_pb
from services.channels.adapters import telegram
from services.channels.connections import HINT
from services.channels.outbound import SCHEMA
from services.channels.outcomes import events_of

COLLECTION = "accounts"
Key = tuple[ChannelId, AccountId]


class AccountServicer(channels_service_pb2_grpc.AccountServiceServicer):
    """Channel accounts over gRPC."""

    def __init__(self, host: Host, http: httpx2.AsyncClient, secrets: Secrets) -> None:
        self._host = host
        self._engine = host.database.engine
        self._http = http
        self._secrets = secrets

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
        async with self._engine.connect() as conn:
            found = await _existing(conn, *_parse(request.name))
        return pb.GetAccountResponse(account=account_to_pb(found))

    async def GetAccountStatus(
        self, request: pb.GetAccountStatusRequest, context: Any
    ) -> pb.GetAccountStatusResponse:
        """How an account does; a probe asks its platform first."""
        namespace, key = _parse(request.name)
        async with self._engine.connect() as conn:
            found = await _existing(conn, namespace, key)
        if request.probe and found.channel in CHANNELS:
            check_call(current_caller(), Role.OPERATOR, namespace, "GetAccountStatus with probe")
            seen = await telegram.probe(self._http, self._secrets, found)
            async with self._engine.begin() as conn:
                await accounts.note_probe(conn, found, *seen)
                found = await _existing(conn, namespace, key)
        return pb.GetAccountStatusResponse(status=await self._status(found))

    async def ListAccountStatuses(
        self, request: pb.ListAccountStatusesRequest, context: Any
    ) -> pb.ListAccountStatusesResponse:
        """How a namespace's accounts do, as far as is known here."""
        async with self._engine.connect() as conn:
            found = await accounts.list_all(conn, parse_parent(request.parent))
        # Those whose credential is a Secret wait for one API server, a few at a time.
        statuses = await asyncio.gather(*(self._status(each) for each in found))
        return pb.ListAccountStatusesResponse(statuses=statuses)

    async def CreateAccount(
        self, request: pb.CreateAccountRequest, context: Any
    ) -> pb.CreateAccountResponse:
        """A new account; a repeated request answers as the first did."""
        namespace, key = parse_parent(request.parent), _key(request.account)
        settings = checked_settings(
            key[0], replace(settings_from_pb(request.account), is_enabled=True)
        )
        async with self._engine.begin() as conn:
            if await _first_time(conn, namespace, request.request_id, key) and (
                not await accounts.create(conn, namespace, *key, settings, "")
            ):
                raise AlreadyExists(
                    f"there is an account {':'.join(key)} already",
                    reason="ACCOUNT_EXISTS",
                    metadata={"field": "account_id"},
                )
            created = await _existing(conn, namespace, key)
        self._host.hints.send(HINT)
        return pb.CreateAccountResponse(account=account_to_pb(created))

    async def DeleteAccount(
        self, request: pb.DeleteAccountRequest, context: Any
    ) -> pb.DeleteAccountResponse:
        """Remove an account; what waits to be sent by it fails."""
        namespace, key = _parse(request.name)
        async with self._engine.begin() as conn:
            if await _first_time(conn, namespace, request.request_id, key):
                old = await _existing(conn, namespace, key, lock=True)
                check_owner("Account", ":".join(key), old.managed_by, "")
                await _remove(conn, old)
        self._host.hints.send(HINT, outbox.hint_name(SCHEMA))
        return pb.DeleteAccountResponse()

    async def ApplyAccounts(
        self, request: pb.ApplyAccountsRequest, context: Any
    ) -> pb.ApplyAccountsResponse:
        """Make one owner's accounts what the request says, and no others."""
        namespace, owner = parse_parent(request.parent), checked_owner(request.managed_by)
        wanted = _wanted(request)
        changed, removed = [], []
        async with self._engine.begin() as conn:
            driver = await database.driver(conn)
            await owners.claim(driver, Owned.ACCOUNTS, namespace, owner, request.generation)
            for old in await accounts.owned_by(conn, namespace, owner):
                if (old.channel, old.account_id) not in wanted:
                    await _remove(conn, old)
                    removed.append(f"{old.channel}:{old.account_id}")
            for key, settings in wanted.items():
                if await _apply(conn, namespace, key, settings, owner):
                    changed.append(":".join(key))
            if not wanted:
                await owners.forget(driver, Owned.ACCOUNTS, namespace, owner)
        self._host.hints.send(HINT, outbox.hint_name(SCHEMA))
        return pb.ApplyAccountsResponse(changed=changed, removed=removed)

    async def ListAccountOwners(
        self, request: pb.ListAccountOwnersRequest, context: Any
    ) -> pb.ListAccountOwnersResponse:
        """Who defines accounts from elsewhere."""
        async with self._engine.begin() as conn:
            driver = await database.driver(conn)
            found, token = await owner_pages.read(driver, Owned.ACCOUNTS, request)
        return pb.ListAccountOwnersResponse(owners=found, next_page_token=token)

    async def _status(self, account: Account) -> account_pb2.AccountStatus:
        return status_to_pb(account, is_configured=await self._is_configured(account))

    async def _is_configured(self, account: Account) -> bool:
        if not account.settings.credential:
            return True
        try:
            await self._secrets.resolve(account.settings.credential, account.namespace)
        except FasedError:
            return False
        return True


def _wanted(request: pb.ApplyAccountsRequest) -> dict[Key, AccountSettings]:
    check_count("accounts", len(request.accounts))
    wanted: dict[Key, AccountSettings] = {}
    for each in request.accounts:
        key = _key(each)
        wanted[key] = checked_settings(key[0], settings_from_pb(each))
        check_credential(request.managed_by, wanted[key].credential)
    return wanted


async def _apply(
    conn: AsyncConnection, namespace: Namespace, key: Key, settings: AccountSettings, owner: str
) -> bool:
    if await accounts.create(conn, namespace, *key, settings, owner):
        return True
    old = await _existing(conn, namespace, key, lock=True)
    check_owner("Account", ":".join(key), old.managed_by, owner)
    if (old.settings, old.managed_by) == (settings, owner):
        return False
    await accounts.change(conn, old, settings, owner)
    return True


async def _remove(conn: AsyncConnection, old: Account) -> None:
    await accounts.remove(conn, old)
    driver = await database.driver(conn)
    place = old.namespace, old.channel, old.account_id
    for ended in await lanes.fail_all(
        driver, place, "ACCOUNT_REMOVED", "The account was removed before it was sent."
    ):
        await outbox.insert(driver, SCHEMA, events_of(ended))


async def _existing(
    conn: AsyncConnection, namespace: Namespace, key: Key, *, lock: bool = False
) -> Account:
    found = await accounts.get(conn, namespace, *key, lock=lock)
    if found is None:
        raise NotFound(
            f"there is no channel account {':'.join(key)[:80]}",
            reason="ACCOUNT_MISSING",
            metadata={"field": "name"},
        )
    return found


async def _first_time(
    conn: AsyncConnection, namespace: Namespace, request_id: str, key: Key
) -> bool:
    if not request_id:
        return True
    resource = resource_name(namespace, COLLECTION, ":".join(key))
    return await accounts.first_time(conn, namespace, checked_request_id(request_id), resource)


def _parse(name: str) -> tuple[Namespace, Key]:
    namespace, text = parse_resource_name(name, COLLECTION)
    channel, _, account_id = text.partition(":")
    return namespace, (canonical_channel(channel), canonical_account(account_id))


def _key(account: account_pb2.Account) -> Key:
    return canonical_channel(account.channel), canonical_account(account.account_id)
