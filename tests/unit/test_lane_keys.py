"""The keys by which lanes are found and locked."""

from hypothesis import given
from hypothesis import strategies as st

from fased.core.names import Namespace
from fased.store.queue import lanes

NAMES = st.text(min_size=1, max_size=40)


@given(NAMES, NAMES)
def test_a_key_is_a_bigint_in_its_namespaces_range(namespace: str, lane: str) -> None:
    first, last = lanes.ids_of(Namespace(namespace))
    assert -(2**63) <= first <= lanes.key_of(namespace, lane) <= last < 2**63


@given(st.sets(st.tuples(NAMES, NAMES), min_size=2, max_size=50))
def test_other_lanes_have_other_keys(named: set[tuple[str, str]]) -> None:
    assert len({lanes.key_of(*each) for each in named}) == len(named)


def test_a_key_is_the_same_in_every_process_and_release() -> None:
    assert lanes.key_of("default", "session:agent:main:main") == 7300067947035761439
