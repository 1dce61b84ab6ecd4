"""What services say of a namespace, read when it is needed and when it may have changed.

Decides how long an answer is believed; who has to hear of a change is decided in `dependents.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from fased.api.channels.v1 import channels_service_pb2 as channels_pb
from fased.api.executor.v1 import credential_service_pb2 as executor_pb
from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.scheduler.v1 import scheduler_service_pb2 as scheduler_pb
from fased.core.findings import Finding
from fased.core.names import Namespace
from fased.core.resource_status import AccountFacts, RouteFacts
from fased.wire.findings import finding_from_pb
from fased.wire.resources import account_facts_from_pb, route_facts_from_pb
from services.operator.fresh import Fresh
from services.operator.keepers import CALL_TIMEOUT_S
from services.operator.services import Services

# Waited for before bindings are checked, since one check tells of all of a namespace.
CHECK_SETTLE_S = 0.05
_PAGE = 1000
# What CheckCredentials takes in one call.
_CREDENTIALS = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What status says of an Agent."""

    revision: int
    model: str


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers of a namespace, and those that live workers bring with them; of the first also
    those whose Secret cannot be read, with what the executor says of it.
    """

    kept: frozenset[str] = frozenset()
    brought: frozenset[str] = frozenset()
    unusable: Mapping[str, Finding] = field(default_factory=dict, hash=False)

    @property
    def all(self) -> frozenset[str]:
        """Those that a model may name."""
        return self.kept | self.brought


@dataclass(frozen=True, slots=True)
class Counts:
    """Sessions and tasks by Agent."""

    sessions: Mapping[str, int] = field(default_factory=dict, hash=False)
    tasks: Mapping[str, int] = field(default_factory=dict, hash=False)


class Listener(Protocol):
    """Told what is another than it was; the value before is None where none was known."""

    def agents_changed(
        self,
        namespace: Namespace,
        before: Mapping[str, AgentFacts] | None,
        now: Mapping[str, AgentFacts],
    ) -> None:
        """Agents by id."""
        ...

    def providers_changed(
        self, namespace: Namespace, before: Providers | None, now: Providers
    ) -> None:
        """Providers of models."""
        ...

    def accounts_changed(
        self,
        namespace: Namespace,
        before: Mapping[str, AccountFacts] | None,
        now: Mapping[str, AccountFacts],
    ) -> None:
        """Accounts by `channel:account`."""
        ...

    def routes_changed(
        self,
        namespace: Namespace,
        before: Mapping[str, RouteFacts] | None,
        now: Mapping[str, RouteFacts],
    ) -> None:
        """Bindings by name."""
        ...

    def counts_changed(self, namespace: Namespace, before: Counts | None, now: Counts) -> None:
        """Sessions and tasks."""
        ...


class Room:
    """What is known of one namespace."""

    def __init__(
        self, services: Services, namespace: Namespace, listener: Listener, max_age_s: float
    ) -> None:
        self._services = services
        self._parent = f"namespaces/{namespace}"

        def fresh(
            fetch: Callable[[], Awaitable[T]],
            changed: Callable[[Namespace, T | None, T], None],
            settle_s: float = 0.0,
        ) -> Fresh[T]:
            told = partial(changed, namespace)
            return Fresh(fetch, told, max_age_s=max_age_s, settle_s=settle_s)

        self.agents = fresh(self._agents, listener.agents_changed)
        self.providers = fresh(self._providers, listener.providers_changed)
        self.accounts = fresh(self._accounts, listener.accounts_changed)
        self.routes = fresh(self._routes, listener.routes_changed, CHECK_SETTLE_S)
        self.counts = fresh(self._counts, listener.counts_changed)

    async def refresh(self) -> None:
        """Read all of it again; raises FasedError."""
        everything: tuple[Fresh[Any], ...] = (
            self.agents,
            self.providers,
            self.accounts,
            self.routes,
            self.counts,
        )
        for each in everything:
            each.invalidate()
            await each.get()

    async def _agents(self) -> Mapping[str, AgentFacts]:
        found: dict[str, AgentFacts] = {}
        token = ""
        while True:
            page = await self._services.agents.ListAgents(
                policy_pb.ListAgentsRequest(parent=self._parent, page_size=_PAGE, page_token=token)
            )
            for agent in page.agents:
                model = agent.model or page.default_model
                found[_last(agent.name)] = AgentFacts(agent.revision, model)
            if not (token := page.next_page_token):
                return found

    async def _providers(self) -> Providers:
        listed, status = await asyncio.gather(
            self._services.providers.ListModelProviders(
                policy_pb.ListModelProvidersRequest(parent=self._parent)
            ),
            self._services.runs.GetQueueStatus(
                scheduler_pb.GetQueueStatusRequest(parent=self._parent)
            ),
        )
        kept = frozenset(_last(each.name) for each in listed.providers)
        asked = {_last(each.name): each.credential for each in listed.providers if each.credential}
        findings = await missing_credentials(self._services, self._parent, asked)
        return Providers(kept, frozenset(status.usable_providers), findings)

    async def _accounts(self) -> Mapping[str, AccountFacts]:
        listed = await self._services.accounts.ListAccountStatuses(
            channels_pb.ListAccountStatusesRequest(parent=self._parent)
        )
        return {_last(each.name): account_facts_from_pb(each) for each in listed.statuses}

    async def _routes(self) -> Mapping[str, RouteFacts]:
        checked = await self._services.routes.CheckBindings(
            router_pb.CheckBindingsRequest(parent=self._parent)
        )
        return {_last(each.binding.name): route_facts_from_pb(each) for each in checked.checks}

    async def _counts(self) -> Counts:
        sessions, tasks = await asyncio.gather(
            self._services.sessions.CountSessions(
                router_pb.CountSessionsRequest(parent=self._parent)
            ),
            self._services.tasks.CountTasks(scheduler_pb.CountTasksRequest(parent=self._parent)),
        )
        return Counts(dict(sessions.counts), dict(tasks.counts))


async def missing_credentials(
    services: Services, parent: str, credentials: Mapping[str, str]
) -> dict[str, Finding]:
    """What the executor says of the credentials that it cannot read, by the keys given."""
    found: dict[str, Finding] = {}
    for first in range(0, len(credentials), _CREDENTIALS):
        names = [*credentials][first : first + _CREDENTIALS]
        answer = await services.credentials.CheckCredentials(
            executor_pb.CheckCredentialsRequest(
                parent=parent, credentials=[credentials[name] for name in names]
            ),
            timeout=CALL_TIMEOUT_S,
        )
        for name, check in zip(names, answer.checks, strict=True):
            if not check.ok:
                found[name] = finding_from_pb(check.finding)
    return found


class Directory:
    """What is known of each namespace."""

    def __init__(self, services: Services, listener: Listener, *, max_age_s: float) -> None:
        self._services = services
        self._listener = listener
        self._max_age_s = max_age_s
        self._rooms: dict[Namespace, Room] = {}

    def of(self, namespace: Namespace) -> Room:
        """What is known of a namespace."""
        room = self._rooms.get(namespace)
        if room is None:
            room = Room(self._services, namespace, self._listener, self._max_age_s)
            self._rooms[namespace] = room
        return room

    def forget(self, namespaces: set[Namespace]) -> None:
        """Forget all but these namespaces."""
        self._rooms = {name: room for name, room in self._rooms.items() if name in namespaces}


def _last(name: str) -> str:
    return name.split("/", 3)[3]
