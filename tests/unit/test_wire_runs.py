"""Runs over the wire: what is sent is what is read."""

import inspect
import types
import typing
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.api.scheduler.v1 import run_pb2, task_pb2
from fased.core.errors import InvalidArgument
from fased.core.messages import Peer, ReplyTo, Sender, Target, Thread
from fased.core.names import Namespace
from fased.core.queue import Checkpoint, LeasedRun, RunView
from fased.core.runs import RunBody, RunInput, RunResult
from fased.wire import queue, run_views, times, work

TEXT = st.text(max_size=8)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(1, 2**31 - 1),
    bool: st.booleans(),
    datetime: st.datetimes(
        datetime(1970, 1, 1),  # noqa: DTZ001 (the zone is added)
        datetime(2100, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
}


def of(cls: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a shape of the core, as far as the wire can carry them."""
    hints = typing.get_type_hints(cls)
    names = [name for name in inspect.signature(cls).parameters if name not in fields]
    return st.builds(cls, **{name: _of_hint(hints[name]) for name in names}, **fields)


def _of_hint(hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(hint, typing.NewType):
        return _of_hint(hint.__supertype__)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = next(each for each in typing.get_args(hint) if each is not type(None))
        # On the wire an empty id is none.
        return st.none() | _of_hint(inner).filter(lambda value: value != "")
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return BY_TYPE[hint]


TARGETS = of(Target, peer=of(Peer), thread=st.none() | of(Thread))
INPUTS = of(RunInput, sender=of(Sender), reply_to=st.none() | of(ReplyTo))
BODIES = of(
    RunBody,
    inputs=st.lists(INPUTS, max_size=2).map(tuple),
    target=st.none() | TARGETS,
    trace=st.dictionaries(TEXT, TEXT, max_size=2),
    context_lines=st.lists(TEXT, max_size=2).map(tuple),
)
NAMESPACE = st.just(Namespace("default"))


@given(of(RunView, namespace=NAMESPACE, body=BODIES, result=st.none() | of(RunResult)))
def test_a_run_that_people_read_comes_through_whole(view: RunView) -> None:
    assert run_views.run_from_pb(run_views.run_to_pb(view)) == view


@given(
    of(
        LeasedRun,
        namespace=NAMESPACE,
        body=BODIES,
        checkpoints=st.lists(of(Checkpoint), max_size=2).map(tuple),
    )
)
def test_a_leased_run_comes_through_whole_with_what_is_left_of_its_time(run: LeasedRun) -> None:
    left = timedelta(minutes=3)
    run = run._replace(leased_at=run.deadline_at - left)
    assert work.leased_from_pb(queue.leased_to_pb(run)) == (run, left)


@pytest.mark.parametrize("seconds", [10**15, -(10**15)])
def test_a_time_that_no_calendar_has_is_refused_with_its_field(seconds: int) -> None:
    run, task = run_pb2.NewRun(), task_pb2.Task()
    run.run_time.seconds = task.run_for.seconds = seconds
    with pytest.raises(InvalidArgument) as caught:
        times.from_timestamp(run, "run_time")
    assert caught.value.metadata["field"] == "run_time"
    with pytest.raises(InvalidArgument) as caught:
        times.from_duration(task, "run_for")
    assert caught.value.metadata["field"] == "run_for"
