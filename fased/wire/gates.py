"""Gates and pairings between core and protobuf; nothing else."""

from typing import TypeVar

from fased.api.router.v1 import pairing_pb2
from fased.core.errors import InvalidArgument
from fased.core.gate import DmPolicy, GatePolicy, GroupPolicy
from fased.core.names import AccountId, ChannelId, Namespace, resource_name
from fased.core.pairing import AllowedSender, PairingRequest
from fased.wire.messages import sender_to_pb
from fased.wire.times import to_timestamp

GATES = "gates"
PAIRINGS = "pairings"
SENDERS = "senders"
# The fields that an update mask may name; each is called alike in core.
GATE_FIELDS = (
    "dm_policy",
    "allow_from",
    "group_policy",
    "groups",
    "group_allow_from",
    "require_mention",
    "allow_bots",
)

Word = TypeVar("Word", DmPolicy, GroupPolicy)


def gate_to_pb(
    namespace: Namespace,
    channel: ChannelId,
    account_id: AccountId,
    policy: GatePolicy,
    managed_by: str = "",
) -> pairing_pb2.Gate:
    """The gate of an account."""
    return pairing_pb2.Gate(
        name=resource_name(namespace, GATES, f"{channel}:{account_id}"),
        dm_policy=policy.dm_policy,
        allow_from=policy.allow_from,
        group_policy=policy.group_policy,
        groups=policy.groups,
        group_allow_from=policy.group_allow_from,
        require_mention=policy.require_mention,
        allow_bots=policy.allow_bots,
        managed_by=managed_by,
    )


def policy_from_pb(gate: pairing_pb2.Gate) -> GatePolicy:
    """A gate's policy; raises InvalidArgument for a word that names none."""
    return GatePolicy(
        dm_policy=_word(DmPolicy, gate.dm_policy, DmPolicy.PAIRING, "dm_policy"),
        allow_from=tuple(gate.allow_from),
        group_policy=_word(GroupPolicy, gate.group_policy, GroupPolicy.ALLOWLIST, "group_policy"),
        groups=tuple(gate.groups),
        group_allow_from=tuple(gate.group_allow_from),
        require_mention=gate.require_mention if gate.HasField("require_mention") else True,
        allow_bots=gate.allow_bots,
    )


def pairing_to_pb(namespace: Namespace, request: PairingRequest) -> pairing_pb2.PairingRequest:
    """Somebody who waits."""
    return pairing_pb2.PairingRequest(
        name=resource_name(namespace, PAIRINGS, request.code),
        code=request.code,
        channel=request.channel,
        account_id=request.account_id,
        sender=sender_to_pb(request.sender),
        create_time=to_timestamp(request.created_at),
        expire_time=to_timestamp(request.expires_at),
    )


def allowed_to_pb(namespace: Namespace, allowed: AllowedSender) -> pairing_pb2.AllowedSender:
    """Somebody who may write."""
    return pairing_pb2.AllowedSender(
        name=resource_name(namespace, SENDERS, sender_id_of(allowed)),
        channel=allowed.channel,
        account_id=allowed.account_id,
        sender=sender_to_pb(allowed.sender),
        create_time=to_timestamp(allowed.created_at),
    )


def sender_id_of(allowed: AllowedSender) -> str:
    """The id of an allowed sender as a resource: `channel:account:sender id`."""
    return f"{allowed.channel}:{allowed.account_id}:{allowed.sender.id}"


def _word(kind: type[Word], text: str, default: Word, field: str) -> Word:
    try:
        return kind(text) if text else default
    except ValueError:
        raise InvalidArgument(
            f"{field} {text[:40]!r} is none of {', '.join(kind)}",
            reason="INVALID_GATE",
            metadata={"field": field},
        ) from None
