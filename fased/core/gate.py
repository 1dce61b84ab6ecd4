"""The gate: whose messages are answered at all (behaviour §3).

Decides, before routing, what becomes of a message: answered, dropped, kept as what was said in its
group, or taken as a stranger's wish to be let in. It makes no pairing codes (`pairing.py`), reads
no file (`gate_configuration.py`) and stores nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from fased.core.conversations import WEBCHAT
from fased.core.errors import InvalidArgument
from fased.core.messages import InboundEvent, PeerKind, Sender
from fased.core.names import AccountId, ChannelId, canonical_account, canonical_channel

ANYBODY = "*"
MAX_LISTED = 1_000
MAX_LISTED_ID_CHARS = 256
MAX_HISTORY_LINES = 20
MAX_LINE_CHARS = 1_000
_MAX_NAME_CHARS = 64


class DmPolicy(StrEnum):
    """What becomes of direct messages; `open` lets everybody in once `*` is listed too."""

    PAIRING = "pairing"
    ALLOWLIST = "allowlist"
    OPEN = "open"
    DISABLED = "disabled"


class GroupPolicy(StrEnum):
    """What becomes of messages in groups and rooms."""

    ALLOWLIST = "allowlist"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Who may write to one account. Lists hold ids of the platform, case kept.

    `group_allow_from` empty means those of `allow_from`; who was approved for direct messages is
    never meant.
    """

    dm_policy: DmPolicy = DmPolicy.PAIRING
    allow_from: tuple[str, ...] = ()
    group_policy: GroupPolicy = GroupPolicy.ALLOWLIST
    groups: tuple[str, ...] = ()
    group_allow_from: tuple[str, ...] = ()
    require_mention: bool = True
    allow_bots: bool = False


class Verdict(StrEnum):
    """What becomes of a message. A kept one is not answered, and shown with the next that is."""

    ADMIT = "admit"
    KEEP = "keep"
    PAIR = "pair"
    DROP = "drop"


class GateReason(StrEnum):
    """Why; few enough to be a metric's label."""

    AUTHENTICATED = "AUTHENTICATED"
    OPEN_TO_ALL = "OPEN_TO_ALL"
    SENDER_LISTED = "SENDER_LISTED"
    SENDER_APPROVED = "SENDER_APPROVED"
    COMMAND = "COMMAND"
    MENTIONED = "MENTIONED"
    REPLIED_TO = "REPLIED_TO"
    OWN_THREAD = "OWN_THREAD"
    MENTION_NOT_NEEDED = "MENTION_NOT_NEEDED"
    NOT_MENTIONED = "NOT_MENTIONED"
    PAIRING_NEEDED = "PAIRING_NEEDED"
    PAIRING_PENDING = "PAIRING_PENDING"
    PAIRING_FULL = "PAIRING_FULL"
    OWN_MESSAGE = "OWN_MESSAGE"
    OTHER_BOT = "OTHER_BOT"
    DUPLICATE = "DUPLICATE"
    DIRECT_DISABLED = "DIRECT_DISABLED"
    SENDER_UNKNOWN = "SENDER_UNKNOWN"
    SENDER_NOT_LISTED = "SENDER_NOT_LISTED"
    COMMAND_NOT_ALLOWED = "COMMAND_NOT_ALLOWED"
    GROUPS_DISABLED = "GROUPS_DISABLED"
    GROUP_NOT_LISTED = "GROUP_NOT_LISTED"
    GROUP_SENDER_NOT_LISTED = "GROUP_SENDER_NOT_LISTED"


_MEANINGS = {
    GateReason.AUTHENTICATED: (Verdict.ADMIT, "The gateway knows who wrote."),
    GateReason.OPEN_TO_ALL: (Verdict.ADMIT, "The account is open to everybody."),
    GateReason.SENDER_LISTED: (Verdict.ADMIT, "The sender is listed."),
    GateReason.SENDER_APPROVED: (Verdict.ADMIT, "The sender was approved."),
    GateReason.COMMAND: (Verdict.ADMIT, "An allowed sender gave a command."),
    GateReason.MENTIONED: (Verdict.ADMIT, "The message names the bot."),
    GateReason.REPLIED_TO: (Verdict.ADMIT, "The message answers or quotes the bot."),
    GateReason.OWN_THREAD: (Verdict.ADMIT, "The message is in a thread of the bot."),
    GateReason.MENTION_NOT_NEEDED: (Verdict.ADMIT, "The account answers without a mention."),
    GateReason.NOT_MENTIONED: (Verdict.KEEP, "The message is not meant for the bot."),
    GateReason.PAIRING_NEEDED: (Verdict.PAIR, "The sender is unknown and may ask to be let in."),
    GateReason.PAIRING_PENDING: (Verdict.DROP, "The sender waits for approval."),
    GateReason.PAIRING_FULL: (Verdict.DROP, "Too many others wait for approval."),
    GateReason.OWN_MESSAGE: (Verdict.DROP, "The bot wrote it itself."),
    GateReason.OTHER_BOT: (Verdict.DROP, "Another bot wrote it."),
    GateReason.DUPLICATE: (Verdict.DROP, "The event was dealt with before."),
    GateReason.DIRECT_DISABLED: (Verdict.DROP, "The account takes no direct messages."),
    GateReason.SENDER_UNKNOWN: (Verdict.DROP, "The platform did not say who wrote."),
    GateReason.SENDER_NOT_LISTED: (Verdict.DROP, "The sender is not listed."),
    GateReason.COMMAND_NOT_ALLOWED: (Verdict.DROP, "Somebody who is not allowed gave a command."),
    GateReason.GROUPS_DISABLED: (Verdict.DROP, "The account takes no messages in groups."),
    GateReason.GROUP_NOT_LISTED: (Verdict.DROP, "The group is not listed."),
    GateReason.GROUP_SENDER_NOT_LISTED: (Verdict.DROP, "The sender is not listed for groups."),
}


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What becomes of a message, and why."""

    reason: GateReason

    @property
    def verdict(self) -> Verdict:
        """What becomes of it."""
        return _MEANINGS[self.reason][0]

    @property
    def message(self) -> str:
        """One sentence for a person."""
        return _MEANINGS[self.reason][1]


def has_gate(channel: str) -> bool:
    """Whether messages of a channel are gated here; WebChat's callers the gateway knows."""
    return channel != WEBCHAT


def decide(
    event: InboundEvent, policy: GatePolicy, *, is_approved: bool, is_command: bool
) -> GateDecision:
    """What becomes of a message under its account's policy.

    `is_approved` says that the sender was approved for direct messages of this account;
    `is_command` that the whole text is a command, however it goes on.
    """
    if not has_gate(event.channel):
        return GateDecision(GateReason.AUTHENTICATED)
    if event.sender.is_self:
        return GateDecision(GateReason.OWN_MESSAGE)
    if event.sender.is_bot and not policy.allow_bots:
        return GateDecision(GateReason.OTHER_BOT)
    if event.peer.kind is PeerKind.DIRECT:
        return GateDecision(_direct(event.sender, policy, is_approved, is_command))
    return GateDecision(_group(event, policy, is_command))


def checked_policy(policy: GatePolicy) -> GatePolicy:
    """The policy with its lists trimmed and without repeats; raises InvalidArgument naming the
    field, for `open` without `*` too: that everybody may write is said twice.
    """
    checked = replace(
        policy,
        allow_from=_checked_ids(policy.allow_from, "allow_from"),
        groups=_checked_ids(policy.groups, "groups"),
        group_allow_from=_checked_ids(policy.group_allow_from, "group_allow_from"),
    )
    if checked.dm_policy is DmPolicy.OPEN and ANYBODY not in checked.allow_from:
        raise _invalid("allow_from", 'the policy open lets everybody in: list "*" as well')
    return checked


def checked_account(channel: str, account_id: str) -> tuple[ChannelId, AccountId]:
    """The canonical channel and account that a gate is asked for; raises InvalidArgument without a
    channel, and for one that has no gate.
    """
    canonical = canonical_channel(channel)
    if not canonical:
        raise InvalidArgument(
            "an account is named CHANNEL:ACCOUNT, as in telegram:default",
            reason="INVALID_ACCOUNT",
            metadata={"field": "channel"},
        )
    if not has_gate(canonical):
        raise InvalidArgument(
            f"{canonical} has no gate: who may use it is decided by tokens, see: fased token list",
            reason="CHANNEL_WITHOUT_GATE",
            metadata={"field": "channel"},
        )
    return canonical, canonical_account(account_id)


def history_line(event: InboundEvent) -> str:
    """A message of a group as one line of at most MAX_LINE_CHARS: `NAME: TEXT`."""
    name = _one_line(event.sender.display_name or event.sender.id)[:_MAX_NAME_CHARS]
    line = f"{name}: {_one_line(event.text)}"
    return line if len(line) <= MAX_LINE_CHARS else f"{line[: MAX_LINE_CHARS - 1]}…"


def has_history(event: InboundEvent) -> bool:
    """Whether what is said in an event's chat and not to the bot is kept."""
    return has_gate(event.channel) and event.peer.kind is not PeerKind.DIRECT


def history_chat(event: InboundEvent) -> str:
    """The place whose history a message belongs to: a group, or a thread or topic of one."""
    thread = "" if event.thread is None else f"/{event.thread.kind}/{event.thread.id}"
    peer = event.peer
    return f"{event.channel}/{event.account_id}/{peer.kind}/{peer.id}{thread}"


def _direct(sender: Sender, policy: GatePolicy, is_approved: bool, is_command: bool) -> GateReason:
    if policy.dm_policy is DmPolicy.DISABLED:
        return GateReason.DIRECT_DISABLED
    if _is_open(policy):
        return GateReason.OPEN_TO_ALL
    if not sender.id.strip():
        return GateReason.SENDER_UNKNOWN
    if _is_named(sender, policy.allow_from):
        return GateReason.SENDER_LISTED
    if is_approved:
        return GateReason.SENDER_APPROVED
    if is_command:
        return GateReason.COMMAND_NOT_ALLOWED
    if policy.dm_policy is DmPolicy.PAIRING:
        return GateReason.PAIRING_NEEDED
    return GateReason.SENDER_NOT_LISTED


def _group(event: InboundEvent, policy: GatePolicy, is_command: bool) -> GateReason:
    if policy.group_policy is GroupPolicy.DISABLED:
        return GateReason.GROUPS_DISABLED
    if not _is_group_listed(event, policy.groups):
        return GateReason.GROUP_NOT_LISTED
    if not _is_listed_for_groups(event.sender, policy):
        return GateReason.COMMAND_NOT_ALLOWED if is_command else GateReason.GROUP_SENDER_NOT_LISTED
    if is_command:
        return GateReason.COMMAND
    if event.mentions_me:
        return GateReason.MENTIONED
    if event.reply_to is not None and event.reply_to.is_me:
        return GateReason.REPLIED_TO
    if event.thread_is_mine:
        return GateReason.OWN_THREAD
    return GateReason.NOT_MENTIONED if policy.require_mention else GateReason.MENTION_NOT_NEEDED


def _is_open(policy: GatePolicy) -> bool:
    return policy.dm_policy is DmPolicy.OPEN and ANYBODY in policy.allow_from


def _is_group_listed(event: InboundEvent, groups: Collection[str]) -> bool:
    if ANYBODY in groups:
        return True
    # A thread may be a chat of its own, listed by the room that it belongs to.
    peers = (event.peer, event.parent_peer)
    return any(peer.id.strip() in groups for peer in peers if peer is not None)


def _is_listed_for_groups(sender: Sender, policy: GatePolicy) -> bool:
    if not policy.group_allow_from:
        return _is_open(policy) or _is_named(sender, policy.allow_from)
    return ANYBODY in policy.group_allow_from or _is_named(sender, policy.group_allow_from)


def _is_named(sender: Sender, ids: Collection[str]) -> bool:
    # Somebody whose id is "*" is not everybody.
    return sender.id.strip() != ANYBODY and sender.id.strip() in ids


def _checked_ids(ids: Collection[str], field: str) -> tuple[str, ...]:
    trimmed = tuple(dict.fromkeys(each.strip() for each in ids if each.strip()))
    if len(trimmed) > MAX_LISTED:
        raise _invalid(field, f"at most {MAX_LISTED} ids")
    if any(len(each) > MAX_LISTED_ID_CHARS or "\0" in each for each in trimmed):
        raise _invalid(field, f"an id has at most {MAX_LISTED_ID_CHARS} characters, none of them 0")
    return trimmed


def _one_line(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())


def _invalid(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {why}", reason="INVALID_GATE", metadata={"field": field})
