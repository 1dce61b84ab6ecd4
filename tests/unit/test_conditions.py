"""Conditions of a resource's status: when they change, and what Ready sums up."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fased.core import conditions
from fased.core.conditions import Condition, ConditionType, Transition, Truth
from fased.core.findings import Finding

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
MISSING = Finding("SECRET_MISSING", "the secret keys is not there", "secret keys")
ACCEPTED = conditions.fine(ConditionType.ACCEPTED)
LOST = conditions.found(ConditionType.RESOLVED_REFS, MISSING)

any_condition = st.builds(
    Condition,
    st.sampled_from(list(ConditionType)),
    st.sampled_from(list(Truth)),
    st.sampled_from(["ONE", "TWO"]),
    st.text(max_size=5),
)
# Of each type at most one, as in a status.
any_conditions = st.lists(any_condition, unique_by=lambda each: each.type)


def test_ready_repeats_the_first_that_is_not_fine() -> None:
    ready = conditions.ready((ACCEPTED, LOST, conditions.fine(ConditionType.PREFLIGHT)))
    assert (ready.truth, ready.reason) == (Truth.FALSE, "SECRET_MISSING")


def test_ready_is_true_where_all_is_well_and_nothing_more_is_wrong() -> None:
    calm = conditions.fine(ConditionType.CONFLICTED)
    assert calm.truth is Truth.FALSE
    assert conditions.ready((ACCEPTED, calm)).truth is Truth.TRUE
    more = conditions.ready((ACCEPTED, calm), Finding("NOT_CONNECTED", "Not yet."))
    assert (more.truth, more.reason) == (Truth.FALSE, "NOT_CONNECTED")


def test_what_to_set_up_is_told_once() -> None:
    assert conditions.told(MISSING) == "the secret keys is not there"
    lost = Finding("AGENT_MISSING", "There is no Agent x.", "fased agents add x")
    assert conditions.told(lost) == "There is no Agent x. Set up: fased agents add x"
    said = Finding("X", "Set OPENAI_API_KEY.", "OPENAI_API_KEY")
    assert conditions.told(said) == "Set OPENAI_API_KEY."


def test_a_time_is_that_of_the_last_change_of_the_answer() -> None:
    first = conditions.merged(None, [ACCEPTED, LOST], 1, NOW)
    assert {each["lastTransitionTime"] for each in first} == {"2026-01-02T03:04:05Z"}
    later = NOW + timedelta(hours=1)
    healed = [ACCEPTED, conditions.fine(ConditionType.RESOLVED_REFS)]
    times = [each["lastTransitionTime"] for each in conditions.merged(first, healed, 2, later)]
    assert times == ["2026-01-02T03:04:05Z", "2026-01-02T04:04:05Z"]


@given(any_conditions, st.integers(0, 9), st.integers(0, 10_000))
def test_what_is_written_twice_is_the_same(
    found: list[Condition], generation: int, seconds: int
) -> None:
    first = conditions.merged(None, found, generation, NOW)
    again = conditions.merged(first, found, generation, NOW + timedelta(seconds=seconds))
    assert again == first
    assert conditions.transitions(first, found) == []


@given(any_conditions, any_conditions)
def test_transitions_are_the_answers_that_differ(
    before: list[Condition], now: list[Condition]
) -> None:
    known = conditions.merged(None, before, 1, NOW)
    answers = {each.type: each.truth for each in before}
    changed = {each.condition.type for each in conditions.transitions(known, now)}
    assert changed == {each.type for each in now if answers.get(each.type) != each.truth}


def test_a_status_that_holds_no_conditions_is_none_at_all() -> None:
    for odd in (None, "text", 7, [None, "x"]):
        assert len(conditions.transitions(odd, [ACCEPTED])) == 1


def test_only_what_somebody_must_know_is_an_event() -> None:
    ready, unready = conditions.fine(ConditionType.READY), conditions.ready((LOST,))
    assert not conditions.is_worth_an_event(Transition(ready, None))
    assert conditions.is_worth_an_event(Transition(unready, None))
    assert conditions.is_worth_an_event(Transition(ready, Truth.FALSE))
    assert not conditions.is_worth_an_event(Transition(LOST, Truth.TRUE))
    tie = conditions.found(
        ConditionType.CONFLICTED, Finding("ROUTE_CONFLICTED", "Two say the same.")
    )
    assert conditions.is_worth_an_event(Transition(tie, None))
    assert not conditions.is_worth_an_event(
        Transition(conditions.unknown(ConditionType.READY), Truth.TRUE)
    )
