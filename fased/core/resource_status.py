"""What is said of each kind of resource in its status: conditions, and figures beside them.

Decides from what the services answered; the words are theirs (`Finding`), but for what only a set
of resources can show: a reference that leads nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fased.core import conditions, durations, task_text
from fased.core.accounts import AccountStatus, ReceiveMode
from fased.core.bindings import ANY_ACCOUNT, Binding
from fased.core.conditions import Condition, ConditionType
from fased.core.findings import Finding
from fased.core.names import DEFAULT_ACCOUNT
from fased.core.resource_definitions import Account
from fased.core.tasks import TaskState, TriggerSpec

MAX_SHADOWS = 100
MAX_SHORT_CHARS = 600
_MAX_ERROR_CHARS = 1024
_HELD = (TaskState.PAUSED, TaskState.DONE)


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is to be said of a resource: Ready is among the conditions, the last of them.

    A value None in `figures` is left out of the status.
    """

    conditions: tuple[Condition, ...]
    figures: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def is_ready(self) -> bool:
        """Whether the resource does what it says."""
        return self.conditions[-1].is_fine


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What the scheduler says of a task beside its definition."""

    state: TaskState = TaskState.ACTIVE
    finding: Finding | None = None
    next_at: datetime | None = None
    last_outcome: str = ""
    last_run_id: int = 0


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What the channels say of an account: whether its credential is there, and how it does."""

    is_configured: bool = False
    status: AccountStatus = field(default_factory=AccountStatus)


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What the router says of a binding among the others of its namespace."""

    level: str = ""
    shadowed_by: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


# What the router says of a binding whose Agent is not there.
_TARGET_MISSING = "BINDING_TARGET_MISSING"
_SHADOWED = "BINDING_SHADOWED"
_TIED = "ROUTE_CONFLICTED"


def refused(types: Sequence[ConditionType], finding: Finding) -> Observed:
    """A resource whose spec cannot be meant; of the other `types` nothing is known."""
    accepted = conditions.found(ConditionType.ACCEPTED, finding)
    rest = [conditions.unknown(type) for type in types if type is not ConditionType.ACCEPTED]
    return Observed((accepted, *rest, conditions.ready((accepted,))))


def agent(
    missing: Finding | None,
    preflight: Finding | None,
    *,
    revision: int,
    model: str,
    sessions: int,
    tasks: int,
) -> Observed:
    """An Agent: `missing` is a provider that is not there, `preflight` what stops its turns."""
    return _observed(
        _accepted(missing, preflight=preflight),
        {"revision": revision, "model": model or None, "sessions": sessions, "tasks": tasks},
    )


def provider(missing: Finding | None) -> Observed:
    """A ModelProvider: `missing` is its Secret."""
    return _observed(_accepted(missing), {})


def task(
    trigger: TriggerSpec,
    missing: Finding | None,
    facts: TaskFacts,
    *,
    last_at: datetime | None,
    run_now: str,
    paused: bool,
) -> Observed:
    """A Task: `missing` is its Agent, the account that it delivers by or its model's provider.

    `run_now` and `paused` are the annotations that were carried out.
    """
    checked = _accepted(missing, preflight=_blocking(facts))
    # A task that is held back, or done, does what it says; one that was switched off does not.
    why = facts.finding if facts.state is TaskState.DISABLED else None
    held = _held(facts) if all(each.is_fine for each in checked) else None
    figures: dict[str, object] = {
        "state": str(facts.state),
        "trigger": task_text.plan(trigger)[:MAX_SHORT_CHARS],
        "nextTime": _time(facts.next_at),
        "lastTime": _time(last_at),
        "lastResult": facts.last_outcome or None,
        "lastRunId": facts.last_run_id or None,
        "runNow": run_now or None,
        "paused": paused or None,
    }
    if held is not None and why is None:
        return Observed((*checked, held), figures)
    return _observed(checked, figures, why)


def channel(account: Account, missing: Finding | None, status: AccountStatus) -> Observed:
    """A Channel: `missing` is its Secret."""
    identity = status.identity
    named = {"id": identity.id, "username": identity.username, "displayName": identity.name}
    figures = {
        "connected": status.is_connected,
        "identity": {key: word for key, word in named.items() if word} or None,
        "lastInboundTime": _time(status.last_inbound_at),
        "lastOutboundTime": _time(status.last_outbound_at),
        "lastError": status.last_error[:_MAX_ERROR_CHARS] or None,
    }
    return _observed(_accepted(missing), figures, _not_connected(account, status))


def route(binding: Binding, missing: Finding | None, facts: RouteFacts) -> Observed:
    """A Route: `missing` is the account that it names, where that is not there."""
    target = next((each for each in facts.findings if each.reason == _TARGET_MISSING), None)
    conflict = _conflict(binding, facts)
    checked = (
        conditions.fine(ConditionType.ACCEPTED),
        conditions.found(ConditionType.RESOLVED_REFS, target or missing),
        conditions.found(ConditionType.CONFLICTED, conflict),
    )
    shadows = [*facts.shadowed_by][:MAX_SHADOWS]
    figures = {
        "match": match_text(binding)[:MAX_SHORT_CHARS],
        "level": facts.level or None,
        "shadowedBy": shadows or None,
    }
    odd = next((each for each in facts.findings if each.reason not in _SAID), None)
    # One of two that tie still wins its messages: the elder works.
    judged = checked if facts.shadowed_by else checked[:2]
    return Observed((*checked, conditions.ready(judged, odd)), figures)


def match_text(binding: Binding) -> str:
    """Which messages a route is about, in a few words: `direct 123`, `account ops`, `all`."""
    words = []
    if binding.account_scope == ANY_ACCOUNT:
        words.append("all accounts")
    elif binding.account_scope != DEFAULT_ACCOUNT:
        words.append(f"account {binding.account_scope}")
    if binding.peer is not None:
        words.append(f"{binding.peer.kind} {binding.peer.id}")
    if binding.guild_id:
        words.append(f"guild {binding.guild_id}")
    if binding.role_ids:
        words.append(f"roles {' '.join(binding.role_ids)}")
    if binding.team_id:
        words.append(f"team {binding.team_id}")
    return ", ".join(words) or "all"


_SAID = (_TARGET_MISSING, _SHADOWED, _TIED)


def _accepted(missing: Finding | None, **others: Finding | None) -> tuple[Condition, ...]:
    checked = [
        conditions.fine(ConditionType.ACCEPTED),
        conditions.found(ConditionType.RESOLVED_REFS, missing),
    ]
    if "preflight" in others:
        checked.append(conditions.found(ConditionType.PREFLIGHT, others["preflight"]))
    return tuple(checked)


def _observed(
    checked: tuple[Condition, ...], figures: Mapping[str, object], more: Finding | None = None
) -> Observed:
    return Observed((*checked, conditions.ready(checked, more)), figures)


def _blocking(facts: TaskFacts) -> Finding | None:
    return facts.finding if facts.state is TaskState.BLOCKED else None


def _held(facts: TaskFacts) -> Condition | None:
    if facts.state not in _HELD:
        return None
    sentence = "It is paused." if facts.state is TaskState.PAUSED else "It has no run left."
    fine = conditions.fine(ConditionType.READY)
    return Condition(fine.type, fine.truth, facts.state.upper(), sentence)


def _not_connected(account: Account, status: AccountStatus) -> Finding | None:
    if not account.settings.is_enabled:
        return Finding("CHANNEL_DISABLED", "The channel is switched off.", "spec.enabled")
    if status.is_connected:
        return None
    if status.last_error:
        return Finding(status.last_error_reason or "NOT_CONNECTED", status.last_error)
    if account.settings.mode is ReceiveMode.WEBHOOK:
        return None
    return Finding("NOT_CONNECTED", "The platform has not answered yet.")


def _conflict(binding: Binding, facts: RouteFacts) -> Finding | None:
    name = binding.id
    if facts.shadowed_by:
        said = next((each for each in facts.findings if each.reason == _SHADOWED), None)
        names = " and ".join(facts.shadowed_by[:3])
        sentence = f"The binding {name} never wins: {names} before it takes all its messages."
        return said or Finding(_SHADOWED, sentence)
    return next((each for each in facts.findings if each.reason == _TIED), None)


def _time(at: datetime | None) -> str | None:
    """As Kubernetes writes a time: whole seconds."""
    return None if at is None else durations.format_instant(at.replace(microsecond=0))
