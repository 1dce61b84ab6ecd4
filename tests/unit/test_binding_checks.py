"""What each binding does among the others: its tier, what shadows it, what it is tied with."""

from datetime import UTC, datetime

import pytest

from fased.core.bindings import RESOURCE_POSITION, Binding, BindingPeer, make_binding
from fased.core.bindings import resource_position as place
from fased.core.errors import InvalidArgument
from fased.core.route_lint import BindingCheck, check_bindings
from fased.core.route_table import compile_table

ELDER, YOUNGER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def route(name: str, order: int = 0, peer: str = "7", made_at: datetime = ELDER) -> Binding:
    return make_binding(
        id=name,
        position=place(order),
        agent_id="main",
        channel="telegram",
        peer=BindingPeer("direct", peer) if peer else None,
        created_at=made_at,
    )


def checks(*routes: Binding) -> dict[str, BindingCheck]:
    return {each.binding.id: each for each in check_bindings(compile_table(routes))}


def reasons(check: BindingCheck) -> list[str]:
    return [finding.reason for finding in check.findings]


def test_routes_with_one_match_and_one_order_are_tied_and_the_elder_wins() -> None:
    found = checks(route("a", made_at=YOUNGER), route("z"))
    assert found["z"].tied_with == ("a",)
    assert reasons(found["z"]) == ["ROUTE_CONFLICTED"]
    assert found["z"].shadowed_by == ()
    assert (found["a"].tied_with, found["a"].shadowed_by) == (("z",), ("z",))
    assert reasons(found["a"]) == ["ROUTE_CONFLICTED", "BINDING_SHADOWED"]
    assert "z" in found["a"].findings[0].message


def test_of_one_age_the_smaller_name_wins() -> None:
    found = checks(route("b"), route("a"))
    assert (found["a"].shadowed_by, found["b"].shadowed_by) == ((), ("a",))


def test_another_order_is_no_tie_and_the_later_one_is_shadowed() -> None:
    found = checks(route("late", order=1), route("early", order=-5, made_at=YOUNGER))
    assert all(not each.tied_with for each in found.values())
    assert found["late"].shadowed_by == ("early",)
    assert reasons(found["late"]) == ["BINDING_SHADOWED"]
    assert not found["early"].findings


def test_a_check_names_the_tier_and_none_for_what_matches_nothing() -> None:
    found = checks(
        route("chat"),
        route("all", peer=""),
        make_binding(id="blank", position=RESOURCE_POSITION, agent_id="main", channel=""),
    )
    assert [found[name].matched_by for name in ("chat", "all", "blank")] == [
        "binding.peer",
        "binding.account",
        None,
    ]
    assert reasons(found["blank"]) == ["CHANNEL_MISSING"]


@pytest.mark.parametrize("order", [-1001, 1001])
def test_an_order_beyond_its_bounds_is_refused(order: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        place(order)
    assert caught.value.metadata["field"] == "order"
