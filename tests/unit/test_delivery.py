"""The pure side of deliveries: what is refused, and in what words."""

from datetime import UTC, datetime, timedelta

from fased.core import delivery
from fased.core.delivery import DeliveryState
from fased.core.messages import OutboundMessage, Peer, PeerKind, Target
from fased.core.names import AccountId, AgentId, ChannelId, Namespace, SessionKey

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def message(expires_at: datetime | None = None) -> OutboundMessage:
    return OutboundMessage(
        id="6f9619ff-8b86-d011-b42d-00c04fc964ff",
        namespace=Namespace("default"),
        agent_id=AgentId("main"),
        session_key=SessionKey("agent:main:main"),
        target=Target(ChannelId("pigeon"), AccountId("default"), Peer(PeerKind.DIRECT, "1")),
        text="coo",
        expires_at=expires_at,
    )


def test_a_message_expires_at_its_instant_and_not_before() -> None:
    assert delivery.is_expired(message(NOW), NOW)
    assert not delivery.is_expired(message(NOW + timedelta(microseconds=1)), NOW)
    assert not delivery.is_expired(message(), NOW)


def test_a_refusal_keeps_every_text_and_says_why() -> None:
    outcome = delivery.unknown_channel(message(), ("a", "b"))
    assert (outcome.state, outcome.reason) == (DeliveryState.FAILED, "UNKNOWN_CHANNEL")
    assert "pigeon" in outcome.message
    assert [(chunk.ordinal, chunk.text) for chunk in outcome.chunks] == [(0, "a"), (1, "b")]
    assert {chunk.state for chunk in outcome.chunks} == {DeliveryState.FAILED}
    assert delivery.expired(("a",)).reason == "EXPIRED"


def test_what_was_sent_has_a_receipt_for_each_chunk() -> None:
    outcome = delivery.sent(("7", "8"))
    assert outcome.state is DeliveryState.SENT
    assert [chunk.receipt for chunk in outcome.chunks] == ["7", "8"]
    assert all(chunk.text == "" for chunk in outcome.chunks)
