"""The gate of each account, as `channels.<channel>.accounts.<id>` of a configuration says it.

Decides the shape of its keys; what they do is decided in `gate.py`. Other keys of an account are
not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fased.core import fields
from fased.core.errors import InvalidArgument
from fased.core.gate import DmPolicy, GatePolicy, GroupPolicy, checked_policy
from fased.core.names import AccountId, ChannelId, canonical_account, canonical_channel

GATE_KEYS = (
    "dmPolicy",
    "allowFrom",
    "groupPolicy",
    "groups",
    "groupAllowFrom",
    "requireMention",
    "allowBots",
)


@dataclass(frozen=True, slots=True)
class AccountGate:
    """The gate of one account."""

    channel: ChannelId
    account_id: AccountId
    policy: GatePolicy


def parse_gates(channels: Mapping[str, object]) -> tuple[AccountGate, ...]:
    """The gates of the accounts that name a key of one, in order.

    Raises InvalidArgument with the path of what cannot be read, and for an account named twice.
    """
    gates: dict[tuple[ChannelId, AccountId], AccountGate] = {}
    for channel, settings in channels.items():
        path = f"channels.{channel}"
        accounts = fields.object_at(settings, path).get("accounts")
        for name, account in fields.object_at(accounts, f"{path}.accounts").items():
            account_path = f"{path}.accounts.{name}"
            entry = fields.object_at(account, account_path)
            if all(entry.get(key) is None for key in GATE_KEYS):
                continue
            gate = AccountGate(
                canonical_channel(channel), canonical_account(name), _policy(entry, account_path)
            )
            if (gate.channel, gate.account_id) in gates:
                raise _invalid(account_path, "names an account a second time")
            gates[gate.channel, gate.account_id] = gate
    return tuple(gates.values())


def _policy(entry: Mapping[str, object], path: str) -> GatePolicy:
    mention = entry.get("requireMention")
    policy = GatePolicy(
        dm_policy=DmPolicy(
            _word(entry.get("dmPolicy"), f"{path}.dmPolicy", DmPolicy.PAIRING, tuple(DmPolicy))
        ),
        allow_from=fields.texts_at(entry.get("allowFrom"), f"{path}.allowFrom"),
        group_policy=GroupPolicy(
            _word(
                entry.get("groupPolicy"),
                f"{path}.groupPolicy",
                GroupPolicy.ALLOWLIST,
                tuple(GroupPolicy),
            )
        ),
        groups=fields.texts_at(entry.get("groups"), f"{path}.groups"),
        group_allow_from=fields.texts_at(entry.get("groupAllowFrom"), f"{path}.groupAllowFrom"),
        require_mention=mention is None or fields.flag_at(mention, f"{path}.requireMention"),
        allow_bots=fields.flag_at(entry.get("allowBots"), f"{path}.allowBots"),
    )
    try:
        return checked_policy(policy)
    except InvalidArgument as exc:
        raise _invalid(path, exc.message) from exc


def _word(value: object, path: str, default: str, known: tuple[str, ...]) -> str:
    word = fields.text_at(value, path).strip() or default
    if word not in known:
        raise fields.wrong_shape(path, " or ".join(known), word)
    return word


def _invalid(path: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path}: {why}", reason="INVALID_CONFIGURATION", metadata={"field": path}
    )
