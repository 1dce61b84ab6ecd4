"""Which resources must be looked at again when something that they name has changed.

Decides who hears of what; a resource is looked at by `reconciling.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from fased.core.errors import InvalidArgument
from fased.core.names import Namespace
from fased.core.resource_definitions import account_of, binding_of, task_of
from fased.core.resource_references import account_name, account_of_binding, account_of_task
from fased.core.resource_status import AccountFacts, RouteFacts
from fased.core.resources import Key, Kind, Resource
from services.operator.directory import AgentFacts, Counts, Providers
from services.operator.known import Known

T = TypeVar("T")
# Asked to apply a resource again, or else only to look at what is said of it.
Wake = Callable[[Key, bool], None]


class Dependents:
    """Wakes resources whose answer may be another now."""

    def __init__(self, known: Known, wake: Wake, is_blocked: Callable[[Key], bool]) -> None:
        self._known = known
        self._wake = wake
        self._is_blocked = is_blocked

    def agents_changed(
        self,
        namespace: Namespace,
        before: Mapping[str, AgentFacts] | None,
        now: Mapping[str, AgentFacts],
    ) -> None:
        """Routes and Tasks of Agents that came or went; Tasks that an Agent's change may free."""
        if before is None:
            return
        changed = _changed(before, now)
        moved = {agent_id for agent_id in changed if (agent_id in before) != (agent_id in now)}
        for resource in self._known.of(Kind.ROUTE, namespace):
            if resource.spec.get("agent") in moved:
                self._wake(resource.key, True)
        for resource in self._known.of(Kind.TASK, namespace):
            agent_id = resource.spec.get("agent")
            if agent_id in moved or (agent_id in changed and self._is_blocked(resource.key)):
                self._wake(resource.key, True)
        self._look(namespace, Kind.AGENT, changed)

    def providers_changed(
        self, namespace: Namespace, before: Providers | None, now: Providers
    ) -> None:
        """Agents, whose models name providers, and Tasks that may have waited for one."""
        if before is None:
            return
        for resource in self._known.of(Kind.AGENT, namespace):
            self._wake(resource.key, False)
        for resource in self._known.of(Kind.TASK, namespace):
            # Whether to look at it is cheap to ask too often, and dear to forget.
            self._wake(resource.key, self._is_blocked(resource.key))

    def accounts_changed(
        self,
        namespace: Namespace,
        before: Mapping[str, AccountFacts] | None,
        now: Mapping[str, AccountFacts],
    ) -> None:
        """Channels that do otherwise; Routes and Tasks of accounts that came or went."""
        if before is None:
            return
        changed = _changed(before, now)
        moved = {account for account in changed if (account in before) != (account in now)}
        for resource in self._known.of(Kind.CHANNEL, namespace):
            if _account(resource) in changed:
                self._wake(resource.key, False)
        if not moved:
            return
        for kind in (Kind.ROUTE, Kind.TASK):
            for resource in self._known.of(kind, namespace):
                if _account(resource) in moved:
                    self._wake(resource.key, False)

    def routes_changed(
        self,
        namespace: Namespace,
        before: Mapping[str, RouteFacts] | None,
        now: Mapping[str, RouteFacts],
    ) -> None:
        """Routes that do something else among the others."""
        if before is not None:
            self._look(namespace, Kind.ROUTE, _changed(before, now))

    def counts_changed(self, namespace: Namespace, before: Counts | None, now: Counts) -> None:
        """Agents that have more, or fewer."""
        if before is not None:
            changed = _changed(before.sessions, now.sessions) | _changed(before.tasks, now.tasks)
            self._look(namespace, Kind.AGENT, changed)

    def _look(self, namespace: Namespace, kind: Kind, names: Iterable[str]) -> None:
        wanted = set(names)
        for resource in self._known.of(kind, namespace) if wanted else ():
            if resource.key.name in wanted:
                self._wake(resource.key, False)


def _changed(before: Mapping[str, T], now: Mapping[str, T]) -> set[str]:
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def _account(resource: Resource) -> str:
    """The account that a resource is, or names; `""` where it names none that can be meant."""
    try:
        if resource.key.kind is Kind.CHANNEL:
            account = account_of(resource)
            return account_name(account.channel, account.account_id)
        if resource.key.kind is Kind.ROUTE:
            return account_of_binding(binding_of(resource))
        return account_of_task(task_of(resource))
    except (InvalidArgument, ValueError):
        return ""
