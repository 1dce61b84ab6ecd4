"""Lint for bindings: rules that cannot do what whoever wrote them meant.

Decides what is odd about a set of bindings. It refuses nothing: routing gives each of these a
meaning, and the findings say which.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from fased.core.bindings import ANY_ACCOUNT, ANY_PEER, Binding, MatchedBy, tier_of
from fased.core.findings import Finding
from fased.core.names import DEFAULT_ACCOUNT, AccountId, ChannelId
from fased.core.route_table import RoutingTable, SelectorKey, selector_keys
from fased.core.routing import missing_target

_Accounts = Mapping[ChannelId, Collection[AccountId]]


@dataclass(frozen=True, slots=True)
class BindingCheck:
    """What a binding does among the others.

    `matched_by` is its tier, None where it matches nothing. `shadowed_by` are those that together
    take all of its messages, `tied_with` those from which only age and name tell it.
    """

    binding: Binding
    matched_by: MatchedBy | None
    shadowed_by: tuple[str, ...]
    tied_with: tuple[str, ...]
    findings: tuple[Finding, ...]


def lint_bindings(
    table: RoutingTable, accounts: _Accounts | None = None, channel: ChannelId | None = None
) -> Iterator[Finding]:
    """What is odd about a table's bindings, in configuration order.

    `accounts` are the known accounts by channel; those that bindings name count too. With
    `channel`, only bindings of that channel, and those of no channel, are looked at.
    """
    for check in check_bindings(table, accounts, channel):
        yield from check.findings


def check_bindings(
    table: RoutingTable, accounts: _Accounts | None = None, channel: ChannelId | None = None
) -> Iterator[BindingCheck]:
    """The same by binding, with its tier and what it competes with."""
    named = _named_accounts(table, accounts or {})
    ids_by_case = _ids_by_case(table)
    alike = _alike(table)
    for binding in sorted(table.bindings.values(), key=lambda one: one.order):
        if channel is not None and binding.channel not in (channel, ""):
            continue
        findings: list[Finding] = []
        if not table.has_agent(binding.agent_id):
            findings.append(missing_target(table, binding))
        if not binding.is_matchable or not any(selector_keys(binding, table.options)):
            yield BindingCheck(binding, None, (), (), (*findings, _unmatchable(binding)))
            continue
        tied = tuple(one.id for one in alike[_likeness(binding)] if one.id != binding.id)
        shadows = _shadows(table, binding)
        findings += _tie_findings(binding, tied)
        findings += _shadow_findings(binding, shadows)
        findings += _account_findings(binding, named)
        findings += _peer_findings(table, binding, ids_by_case)
        yield BindingCheck(binding, _tier(table, binding), shadows, tied, tuple(findings))


def _unmatchable(binding: Binding) -> Finding:
    if not binding.channel:
        return Finding(
            "CHANNEL_MISSING",
            f"The binding {binding.id} names no channel, so that it matches nothing.",
            f"{binding.id}.match.channel",
        )
    if binding.peer is not None and not binding.peer.is_valid:
        return Finding(
            "INVALID_PEER",
            f"The binding {binding.id} matches nothing: a peer needs an id, and a kind that is "
            f"direct, group or channel.",
            f"{binding.id}.match.peer",
        )
    return Finding(
        "ROLES_BLANK",
        f"The binding {binding.id} matches nothing: its roles are blank.",
        f"{binding.id}.match.roles",
    )


def _account_findings(binding: Binding, named: _Accounts) -> Iterator[Finding]:
    others = set(named.get(binding.channel, ())) - {DEFAULT_ACCOUNT}
    if binding.account_id or not others:
        return
    yield Finding(
        "ACCOUNT_OMITTED",
        f"The binding {binding.id} names no account and so holds only for "
        f"{binding.channel}:default, not for {', '.join(sorted(others))}; "
        f'"*" stands for all accounts.',
        f"{binding.id}.match.accountId",
    )


def _peer_findings(
    table: RoutingTable, binding: Binding, ids_by_case: Mapping[tuple[str, ...], set[str]]
) -> Iterator[Finding]:
    if binding.peer is None:
        return
    if binding.peer.id == ANY_PEER and not table.options.wildcard_peer:
        yield Finding(
            "WILDCARD_PEER_OFF",
            f'The binding {binding.id} matches only a chat whose id is "*": wildcard peers are '
            "not switched on.",
            "routing.wildcardPeer",
        )
    spellings = ids_by_case[_folded_peer(binding)]
    if len(spellings) > 1:
        yield Finding(
            "PEERS_DIFFER_BY_CASE",
            f"The chats {' and '.join(sorted(spellings))} of {binding.channel} differ only in "
            "case: they are two chats, but their session keys are the same.",
            f"{binding.id}.match.peer.id",
        )


def _tie_findings(binding: Binding, tied: Collection[str]) -> Iterator[Finding]:
    if tied:
        yield Finding(
            "ROUTE_CONFLICTED",
            f"The binding {binding.id} asks for the same messages in the same order as "
            f"{' and '.join(tied)}: the elder wins. Give one of them another order.",
            f"{binding.id}.order",
        )


def _shadow_findings(binding: Binding, shadows: Collection[str]) -> Iterator[Finding]:
    if shadows:
        yield Finding(
            "BINDING_SHADOWED",
            f"The binding {binding.id} never wins: {' and '.join(shadows)} before it takes "
            "all its messages.",
            binding.id,
        )


def _shadows(table: RoutingTable, binding: Binding) -> tuple[str, ...]:
    """The bindings that together take all of its messages; none when it can win."""
    covers = [_cover(table, binding, key) for key in selector_keys(binding, table.options)]
    if None in covers:
        return ()
    return tuple(dict.fromkeys(cover.id for cover in covers if cover is not None))


def _cover(table: RoutingTable, binding: Binding, key: SelectorKey) -> Binding | None:
    """An earlier binding of the same tier that takes every message this key stands for."""
    account, kind, peer_id, guild, team, role = key
    index = table.channels[binding.channel]
    tier = _tier(table, binding)
    for wider in (
        (any_account, kind, peer_id, any_guild, any_team, any_role)
        for any_account in dict.fromkeys((account, ANY_ACCOUNT))
        for any_guild in dict.fromkeys((guild, ""))
        for any_team in dict.fromkeys((team, ""))
        for any_role in dict.fromkeys((role, ""))
    ):
        first = index.buckets.get(wider, (binding,))[0]
        if first.order < binding.order and _tier(table, first) is tier:
            return first
    return None


def _tier(table: RoutingTable, binding: Binding) -> MatchedBy:
    return tier_of(binding, table.options.wildcard_peer)


def _likeness(binding: Binding) -> tuple[object, ...]:
    return (*binding.selectors, binding.position)


def _alike(table: RoutingTable) -> dict[tuple[object, ...], list[Binding]]:
    """Bindings by all that decides between them but age and name, in order."""
    alike = defaultdict(list)
    for binding in sorted(table.bindings.values(), key=lambda one: one.order):
        alike[_likeness(binding)].append(binding)
    return alike


def _named_accounts(table: RoutingTable, accounts: _Accounts) -> dict[ChannelId, set[AccountId]]:
    named = defaultdict(set, {channel: set(known) for channel, known in accounts.items()})
    for binding in table.bindings.values():
        if binding.account_id not in ("", ANY_ACCOUNT):
            named[binding.channel].add(binding.account_id)
    return named


def _ids_by_case(table: RoutingTable) -> dict[tuple[str, ...], set[str]]:
    spellings: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for binding in table.bindings.values():
        if binding.peer is not None:
            spellings[_folded_peer(binding)].add(binding.peer.id)
    return spellings


def _folded_peer(binding: Binding) -> tuple[str, ...]:
    if binding.peer is None:
        return ()
    return binding.channel, binding.peer.kind, binding.peer.id.lower()
