"""The conditions in a resource's status (Kubernetes API conventions).

Decides how answers become conditions, when a condition has changed, and what Ready sums up; not
which answers a kind has (`resource_status.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fased.core import durations
from fased.core.findings import Finding

MAX_MESSAGE_CHARS = 4_000


class ConditionType(StrEnum):
    """What was asked of a resource."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PREFLIGHT = "Preflight"
    CONFLICTED = "Conflicted"
    READY = "Ready"


class Truth(StrEnum):
    """The answers that a condition has."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One answer. `reason` is UPPER_SNAKE, `message` a sentence for a person."""

    type: ConditionType
    truth: Truth
    reason: str
    message: str

    @property
    def is_fine(self) -> bool:
        """Whether it stands in nobody's way: Conflicted is fine when it is not so."""
        wanted = Truth.FALSE if self.type is ConditionType.CONFLICTED else Truth.TRUE
        return self.truth is wanted


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition whose answer is another than before; `was` None where there was none."""

    condition: Condition
    was: Truth | None


_FINE = {
    ConditionType.ACCEPTED: ("ACCEPTED", "The spec can be meant."),
    ConditionType.RESOLVED_REFS: ("RESOLVED", "All that it names is there."),
    ConditionType.PREFLIGHT: ("PASSED", "Nothing stands in its way."),
    ConditionType.CONFLICTED: ("NO_CONFLICT", "No other takes its messages."),
    ConditionType.READY: ("READY", "It does what it says."),
}


_TOLD = (ConditionType.READY, ConditionType.CONFLICTED)


def fine(type: ConditionType) -> Condition:
    """The condition of a type where all is well."""
    truth = Truth.FALSE if type is ConditionType.CONFLICTED else Truth.TRUE
    return Condition(type, truth, *_FINE[type])


def found(type: ConditionType, finding: Finding | None) -> Condition:
    """The condition that a finding makes; None is that all is well."""
    if finding is None:
        return fine(type)
    truth = Truth.TRUE if type is ConditionType.CONFLICTED else Truth.FALSE
    return Condition(type, truth, finding.reason, told(finding))


def unknown(type: ConditionType) -> Condition:
    """The condition that nothing can be said of while the spec is not accepted."""
    return Condition(type, Truth.UNKNOWN, "NOT_ACCEPTED", "The spec is not accepted.")


def told(finding: Finding) -> str:
    """A finding as one text: its sentence, and what to set up where the sentence does not say."""
    target = finding.setup_target
    if not target or target in finding.message:
        return finding.message[:MAX_MESSAGE_CHARS]
    sentence = finding.message.removesuffix(".")
    return f"{sentence}. Set up: {target}"[:MAX_MESSAGE_CHARS]


def ready(conditions: Iterable[Condition], more: Finding | None = None) -> Condition:
    """Ready: the first of the conditions that is not fine, else `more`, else all is well."""
    for condition in conditions:
        if not condition.is_fine:
            return Condition(ConditionType.READY, Truth.FALSE, condition.reason, condition.message)
    return found(ConditionType.READY, more)


def merged(
    known: object, conditions: Sequence[Condition], generation: int, now: datetime
) -> list[dict[str, object]]:
    """Conditions as they are written, in their order.

    One whose answer is that of `known` (a status' `conditions`) keeps its time; `now` is cut to
    the second, as Kubernetes writes it.
    """
    before = _by_type(known)
    at = durations.format_instant(now.replace(microsecond=0))
    written: list[dict[str, object]] = []
    for condition in conditions:
        old = before.get(condition.type, {})
        is_same = old.get("status") == condition.truth and old.get("lastTransitionTime")
        written.append(
            {
                "type": str(condition.type),
                "status": str(condition.truth),
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if is_same else at,
                "reason": condition.reason,
                "message": condition.message,
            }
        )
    return written


def transitions(known: object, conditions: Iterable[Condition]) -> list[Transition]:
    """The conditions whose answer is another than in `known`, in their order."""
    before = _by_type(known)
    changed = []
    for condition in conditions:
        word = before.get(condition.type, {}).get("status")
        was = Truth(str(word)) if word in tuple(Truth) else None
        if was is not condition.truth:
            changed.append(Transition(condition, was))
    return changed


def is_worth_an_event(transition: Transition) -> bool:
    """Whether somebody who looks at the resource should be told of a change.

    A resource that is well from the beginning is no news, and Ready repeats what made it so.
    """
    condition = transition.condition
    if condition.type not in _TOLD or condition.truth is Truth.UNKNOWN:
        return False
    return transition.was is not None or not condition.is_fine


def _by_type(known: object) -> dict[str, Mapping[str, object]]:
    if not isinstance(known, Sequence):
        return {}
    return {str(each.get("type")): each for each in known if isinstance(each, Mapping)}
