"""How a claim is shared out, and which ticks are skipped."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fased.core.names import Namespace, RunId
from fased.core.queue import Source, claim_quotas, is_lost_for_good, tick_is_late
from fased.core.runs import RunClass

sources = st.tuples(st.sampled_from(RunClass), st.sampled_from("abcd").map(Namespace))
backlogs = st.dictionaries(sources, st.integers(1, 12), max_size=10)


def ready(backlog: dict[Source, int]) -> dict[Source, list[RunId]]:
    """Runs numbered source by source."""
    numbers = iter(range(1, 1000))
    return {
        source: [RunId(next(numbers)) for _ in range(count)] for source, count in backlog.items()
    }


@given(backlogs, st.integers(1, 12), st.floats(0, 0.999), st.data())
def test_a_claim_takes_what_there_is_up_to_its_bounds(
    backlog: dict[Source, int], max_runs: int, draw: float, data: st.DataObject
) -> None:
    message_only = data.draw(st.integers(0, max_runs))
    quotas = claim_quotas(ready(backlog), max_runs, message_only, draw, list(backlog))

    messages = sum(n for (kind, _), n in backlog.items() if kind is RunClass.MESSAGE)
    others = min(sum(backlog.values()) - messages, max_runs - message_only)
    assert all(0 < n <= backlog[source] for source, n in quotas.items())
    assert sum(quotas.values()) == min(max_runs, messages + others)
    assert sum(n for (kind, _), n in quotas.items() if kind is not RunClass.MESSAGE) <= (
        max_runs - message_only
    )


@given(st.integers(1, 20), st.integers(1, 4))
def test_inside_a_class_namespaces_share_equally(max_runs: int, count: int) -> None:
    backlog: dict[Source, int] = {
        (RunClass.MESSAGE, Namespace(name)): 100 for name in "abcd"[:count]
    }
    shares = claim_quotas(ready(backlog), max_runs, 0, 0, list(backlog)).values()

    assert max(shares) - min(shares) <= 1 or max(shares) == 1


def test_an_old_backlog_of_one_namespace_gains_nothing_by_its_age() -> None:
    old = (RunClass.MESSAGE, Namespace("old"))
    new = (RunClass.MESSAGE, Namespace("new"))
    runs = ready({old: 100, new: 100})

    assert claim_quotas(runs, 1, 0, 0, [old, new]) == {old: 1}
    assert claim_quotas(runs, 1, 0, 0, [new, old]) == {new: 1}


def test_classes_go_in_order_but_for_a_fifth_that_goes_to_the_oldest_others() -> None:
    scheduled = (RunClass.SCHEDULED, Namespace("a"))
    child = (RunClass.CHILD, Namespace("a"))
    message = (RunClass.MESSAGE, Namespace("a"))

    quotas = claim_quotas(ready({scheduled: 50, child: 50, message: 50}), 10, 0, 0, [message])

    assert quotas == {message: 8, scheduled: 2}


def test_claims_of_one_run_give_the_other_classes_their_fifth_too() -> None:
    scheduled = (RunClass.SCHEDULED, Namespace("a"))
    message = (RunClass.MESSAGE, Namespace("a"))
    runs = ready({scheduled: 50, message: 50})
    taken: Counter[Source] = Counter()
    for n in range(100):
        taken.update(claim_quotas(runs, 1, 0, n / 100, [message, scheduled]))

    assert taken == {message: 80, scheduled: 20}


def test_slots_kept_for_messages_stay_empty_without_messages() -> None:
    manual = (RunClass.MANUAL, Namespace("a"))

    assert claim_quotas(ready({manual: 9}), 5, 2, 0, [manual]) == {manual: 3}
    assert claim_quotas(ready({manual: 9}), 1, 1, 0.99, [manual]) == {}


def test_a_reaper_whose_own_tick_came_late_skips_it() -> None:
    assert not tick_is_late(1.2, 1.0)
    assert tick_is_late(2.1, 1.0)


def test_the_fourth_lost_worker_is_one_too_many() -> None:
    assert [is_lost_for_good(crashes) for crashes in range(5)] == [False, False, False, True, True]
