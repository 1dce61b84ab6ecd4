"""Channels as resources: the account is kept by channels, its gate by the router.

Decides the order of the two: nobody gets in before the gate stands. What is said of them is
decided in `core/resource_status.py`.
"""

from collections.abc import AsyncIterator

from fased.api.channels.v1 import account_pb2
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.router.v1 import pairing_pb2
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.types.v1 import owner_pb2
from fased.core import resource_status
from fased.core.conditions import ConditionType
from fased.core.findings import Finding
from fased.core.resource_definitions import Account, account_of
from fased.core.resource_references import account_name, missing_secret
from fased.core.resource_status import AccountFacts, Observed
from fased.core.resources import Key, Kind, Resource, owner_of
from fased.wire.channels import settings_to_pb
from fased.wire.resources import account_gates_to_pb
from services.operator.directory import Directory
from services.operator.keepers import CALL_TIMEOUT_S, pages
from services.operator.services import Services


class Channels:
    """The keeper of Channels."""

    kind = Kind.CHANNEL
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS)

    def __init__(self, services: Services, directory: Directory) -> None:
        self._services = services
        self._directory = directory
        self._waiting: set[str] = set()

    async def apply(self, resource: Resource) -> None:
        """Make the gate stand, then the account."""
        account, key = account_of(resource), resource.key
        gates = account_gates_to_pb(key.namespace, account)
        row = settings_to_pb(account.channel, account.account_id, account.settings)
        await self._apply_gates(key, gates, resource.generation)
        await self._apply_accounts(key, [row], resource.generation)
        await self._directory.of(key.namespace).accounts.get()

    async def withdraw(self, key: Key) -> None:
        """Remove the account, then its gate."""
        self._waiting.discard(key.uid)
        await self._apply_accounts(key, [], 0)
        await self._apply_gates(key, [], 0)
        await self._directory.of(key.namespace).accounts.get()

    async def observe(self, resource: Resource) -> Observed:
        """Whether its Secret is there, and whether it is connected."""
        account, key = account_of(resource), resource.key
        accounts = self._directory.of(key.namespace).accounts
        if key.uid in self._waiting:
            # It is looked at again for what it waits for: nothing that was read before counts.
            accounts.invalidate()
        known = await accounts.get()
        facts = known.get(account_name(account.channel, account.account_id), AccountFacts())
        missing = _missing(resource, account, facts)
        observed = resource_status.channel(account, missing, facts.status)
        if observed.is_ready:
            self._waiting.discard(key.uid)
        else:
            self._waiting.add(key.uid)
        return observed

    async def owners(self) -> AsyncIterator[owner_pb2.Owner]:
        """Those that define accounts or gates."""

        async def accounts(prefix: str, token: str) -> pb.ListAccountOwnersResponse:
            request = pb.ListAccountOwnersRequest(prefix=prefix, page_token=token)
            return await self._services.accounts.ListAccountOwners(request)

        async def gates(prefix: str, token: str) -> router_pb.ListGateOwnersResponse:
            request = router_pb.ListGateOwnersRequest(prefix=prefix, page_token=token)
            return await self._services.gates.ListGateOwners(request)

        async for owner in pages(accounts):
            yield owner
        async for owner in pages(gates):
            yield owner

    async def _apply_accounts(
        self, key: Key, accounts: list[account_pb2.Account], generation: int
    ) -> None:
        answer = await self._services.accounts.ApplyAccounts(
            pb.ApplyAccountsRequest(
                parent=f"namespaces/{key.namespace}",
                managed_by=owner_of(key.uid),
                accounts=accounts,
                generation=generation,
            ),
            timeout=CALL_TIMEOUT_S,
        )
        if answer.changed or answer.removed:
            self._directory.of(key.namespace).accounts.invalidate()

    async def _apply_gates(self, key: Key, gates: list[pairing_pb2.Gate], generation: int) -> None:
        await self._services.gates.ApplyGates(
            router_pb.ApplyGatesRequest(
                parent=f"namespaces/{key.namespace}",
                managed_by=owner_of(key.uid),
                gates=gates,
                generation=generation,
            ),
            timeout=CALL_TIMEOUT_S,
        )


def _missing(resource: Resource, account: Account, facts: AccountFacts) -> Finding | None:
    if facts.is_configured:
        return None
    if facts.status.last_error_reason == "SECRET_MISSING":
        return Finding("SECRET_MISSING", facts.status.last_error)
    return missing_secret(resource.key.namespace, account.settings.credential)
