"""Runs over the wire: what is sent is what is read."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.api.scheduler.v1 import run_pb2, task_pb2
from fased.core.errors import InvalidArgument
from fased.core.messages import Peer, Sender, Target
from fased.core.names import Namespace
from fased.core.queue import LeasedRun, RunView
from fased.core.runs import RunBody, RunInput, RunResult
from fased.wire import queue, run_views, times, work

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.datetimes(
    datetime(1970, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.just(UTC),  # noqa: DTZ001
)
NUMBERS = st.integers(1, 2**31 - 1)

for strategy in (
    (str, TEXT),
    (datetime, TIMES),
    (timedelta, st.timedeltas(timedelta(0), timedelta(days=9))),
    (int, NUMBERS),
):
    st.register_type_strategy(*strategy)

BODIES = st.builds(
    RunBody,
    inputs=st.lists(st.builds(RunInput, sender=st.builds(Sender)), max_size=2).map(tuple),
    target=st.none() | st.builds(Target, peer=st.builds(Peer)),
    parent_run=st.none() | NUMBERS,
    trace=st.dictionaries(TEXT, TEXT, max_size=2),
)


@given(
    st.builds(
        RunView,
        namespace=st.just(Namespace("default")),
        task_id=st.none() | TEXT.filter(bool),
        body=BODIES,
        result=st.none() | st.builds(RunResult),
    )
)
def test_a_run_that_people_read_comes_through_whole(view: RunView) -> None:
    assert run_views.run_from_pb(run_views.run_to_pb(view)) == view


@given(
    st.builds(
        LeasedRun,
        namespace=st.just(Namespace("default")),
        task_id=st.none() | TEXT.filter(bool),
        body=BODIES,
        checkpoints=st.just(()),
    )
)
def test_a_leased_run_comes_through_whole_with_what_is_left_of_its_time(run: LeasedRun) -> None:
    now = run.deadline_at - timedelta(minutes=3)
    assert work.leased_from_pb(queue.leased_to_pb(run, now)) == (run, timedelta(minutes=3))


@pytest.mark.parametrize("seconds", [10**15, -(10**15)])
def test_a_time_that_no_calendar_has_is_refused_with_its_field(seconds: int) -> None:
    run = run_pb2.NewRun()
    run.run_time.seconds = seconds
    task = task_pb2.Task()
    task.run_for.seconds = seconds
    for read in (
        lambda: times.from_timestamp(run, "run_time"),
        lambda: times.from_duration(task, "run_for"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            read()
        assert caught.value.metadata["field"] in ("run_time", "run_for")
