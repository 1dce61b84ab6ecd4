"""How a task is written on a command line."""

from datetime import timedelta

import pytest
import typer

from cli.task_options import Missed, missed, trigger_of
from fased.core.tasks import MissedPolicy, TriggerKind, TriggerSpec


def trigger(**given: object) -> TriggerSpec:
    words = {"every": "", "cron": "", "at": "", "manual": False, "tz": "", **given}
    return trigger_of(**words)  # type: ignore[arg-type]


def test_each_kind_of_trigger_has_its_flag() -> None:
    assert trigger(every="5s") == TriggerSpec(TriggerKind.EVERY, "5s")
    assert trigger(cron="0 9 * * *") == TriggerSpec(TriggerKind.CRON, "0 9 * * *")
    assert trigger(at="2027-01-31") == TriggerSpec(TriggerKind.AT, "2027-01-31")
    assert trigger(manual=True) == TriggerSpec(TriggerKind.MANUAL)


def test_a_zone_goes_with_cron_and_at_and_with_nothing_else() -> None:
    assert trigger(cron="0 9 * * *", tz="Europe/Berlin").timezone == "Europe/Berlin"
    assert trigger(at="2027-01-31T09:00", tz="Europe/Berlin").timezone == "Europe/Berlin"
    for given in ({"every": "5s"}, {"manual": True}):
        with pytest.raises(typer.BadParameter, match="--tz"):
            trigger(tz="Europe/Berlin", **given)


@pytest.mark.parametrize(
    "given", [{}, {"every": "5s", "manual": True}, {"cron": "* * * * *", "at": "2027-01-31"}]
)
def test_no_trigger_and_several_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(typer.BadParameter, match="one of --every, --cron, --at and --manual"):
        trigger(**given)


def test_each_policy_for_missed_slots_has_its_spelling() -> None:
    assert missed("skip") == Missed(MissedPolicy.SKIP)
    assert missed("once") == Missed(MissedPolicy.ONCE)
    assert missed("all:20") == Missed(MissedPolicy.ALL, limit=20)
    assert missed("within:1h30m") == Missed(MissedPolicy.WITHIN, within=timedelta(minutes=90))


@pytest.mark.parametrize(
    "text", ["", "all", "all:", "all:x", "all:-1", "once:2", "skip:", "within", "within:5", "never"]
)
def test_another_policy_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        missed(text)
