"""How a stranger asks to be let in: codes, their hour, how many wait, what is told."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import pairing
from fased.core.errors import InvalidArgument
from fased.core.gate import GateReason
from fased.core.messages import Sender
from fased.core.names import AccountId, ChannelId, Namespace
from fased.core.pairing import (
    ALPHABET,
    MAX_PENDING,
    VALID_FOR,
    PairingRequest,
    checked_code,
    checked_sender,
    is_pending,
    notice,
    pairing_code,
    request_pairing,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)
RANDOM = st.binary(min_size=5, max_size=5)


def ask(
    sender_id: str,
    known: list[PairingRequest] | None = None,
    now: datetime = NOW,
    random: bytes = b"abcde",
) -> PairingRequest | GateReason:
    """What comes of a stranger's message."""
    return request_pairing(
        known or [],
        ChannelId("telegram"),
        AccountId("default"),
        Sender(sender_id, "Ada"),
        now=now,
        random=random,
    )


def asked(sender_id: str, known: list[PairingRequest] | None = None) -> PairingRequest:
    """The request that must come of a stranger's message."""
    request = ask(sender_id, known)
    assert isinstance(request, PairingRequest)
    return request


@given(RANDOM)
def test_a_code_has_eight_signs_that_nobody_takes_for_another(random: bytes) -> None:
    code = pairing_code(random)
    assert len(code) == 8
    assert set(code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789") - set("0O1I")


@given(RANDOM, RANDOM)
def test_codes_lose_nothing_of_their_randomness(one: bytes, other: bytes) -> None:
    assert (pairing_code(one) == pairing_code(other)) is (one == other)


def test_the_alphabet_is_a_to_z_and_2_to_9_without_o_and_i() -> None:
    assert set(ALPHABET) == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789") - set("OI")
    assert len(ALPHABET) == 32


@given(RANDOM)
def test_a_code_may_be_typed_in_any_case(random: bytes) -> None:
    code = pairing_code(random)
    assert checked_code(f" {code.lower()} ") == code


@pytest.mark.parametrize("text", ["", "ABCDEFG", "ABCDEFGHJ", "ABCDEFG0", "ABCDEFGI", "ABCD EFG"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_code(text)
    assert caught.value.reason == "INVALID_PAIRING_CODE"


def test_a_code_holds_for_an_hour_and_no_longer() -> None:
    request = asked("1")
    assert request.expires_at == NOW + timedelta(hours=1)
    assert is_pending(request, request.expires_at - timedelta(microseconds=1))
    assert not is_pending(request, request.expires_at)


def test_who_waits_is_not_told_again_until_the_code_expired() -> None:
    first = asked("1")
    assert ask("1", [first], NOW + VALID_FOR / 2) is GateReason.PAIRING_PENDING
    assert isinstance(ask("1", [first], NOW + VALID_FOR), PairingRequest)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 90)), max_size=30))
def test_never_more_than_three_wait_and_nobody_twice(asks: list[tuple[str, int]]) -> None:
    kept: list[PairingRequest] = []
    now = NOW
    for sender_id, minutes in asks:
        now += timedelta(minutes=minutes)
        request = ask(sender_id, kept, now)
        if isinstance(request, PairingRequest):
            kept.append(request)
        pending = [each.sender.id for each in kept if is_pending(each, now)]
        assert len(pending) <= MAX_PENDING
        assert len(set(pending)) == len(pending)
        if request is GateReason.PAIRING_FULL:
            assert len(pending) == MAX_PENDING


@pytest.mark.parametrize("sender_id", ["", " ", "*", "x" * 257, "a\0b"])
def test_somebody_without_a_usable_id_cannot_ask(sender_id: str) -> None:
    assert ask(sender_id) is GateReason.SENDER_UNKNOWN
    with pytest.raises(InvalidArgument):
        checked_sender(Sender(sender_id))


def test_a_code_is_made_of_all_its_random_bytes_or_not_at_all() -> None:
    with pytest.raises(ValueError, match="5 random bytes"):
        pairing_code(b"abcd")
    assert len(b"abcde") == pairing.CODE_RANDOM_BYTES


def test_the_notice_tells_the_code_and_how_it_is_approved() -> None:
    request = asked("42")
    here, there = notice(request, Namespace("default")), notice(request, Namespace("team-a"))
    assert f"`fased pairing approve {request.code}`" in here
    assert "42" in here
    assert f"`fased pairing approve {request.code} --namespace team-a`" in there
