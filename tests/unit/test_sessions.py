"""Session keys, slugs and resets: the recorded rows and the laws."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fased.core import names, sessions
from fased.core.errors import InvalidArgument
from fased.core.messages import Peer, PeerKind, Thread, ThreadKind
from fased.core.names import AccountId, AgentId, ChannelId, SessionKey, TaskId
from fased.core.sessions import DmScope, ResetPolicy, SessionKind, SessionPolicy

ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "sessionkey.json").read_text(encoding="utf-8")
)
A = AgentId("a")
TELEGRAM = ChannelId("telegram")
DEFAULT = AccountId("default")
DAY = timedelta(days=1)


def _shape(text: str | None) -> str:
    try:
        sessions.parse_session_key(text or "")
    except InvalidArgument:
        return "refused"
    return "agent"


def _parts(text: str) -> dict[str, str]:
    agent_id, rest = sessions.parse_session_key(text)
    return {"agentId": agent_id, "rest": rest}


def _built(asked: dict[str, Any]) -> str:
    policy = SessionPolicy(DmScope(asked["dmScope"]))
    peer = Peer(PeerKind(asked["peer"]["kind"]), asked["peer"]["id"])
    agent_id, channel = AgentId(asked["agentId"]), ChannelId(asked["channel"])
    account_id = AccountId(asked["accountId"])
    return sessions.session_key(
        sessions.conversation_identity(policy, agent_id, channel, account_id, peer)
    )


ASKED: dict[str, Callable[[Any], Any]] = {
    # Only `agent:…` keys are keys here: an empty, malformed or legacy one is refused alike.
    "classifySessionKeyShape": _shape,
    "parseAgentSessionKey": _parts,
    "buildAgentSessionKey": _built,
    "isValidAgentId": lambda text: bool(text) and names.canonical_id(text) == text,
    "normalizeAccountId": names.canonical_account,
    "normalizeOptionalAccountId": lambda text: names.canonical_id(text) or None,
}
LEFT_OUT = {
    "getSubagentDepth": "a run's depth is counted by its parents, not read from a key",
    "isCronSessionKey": "a task's session is known from its row; our key says task, not cron",
    "parseThreadSessionSuffix": "keys are built from peer and thread, never taken apart",
    "resolveThreadParentSessionKey": "the base key is stored beside a session",
    "isThreadSessionKey": "the kind comes from the message (session_kind), not from the key",
    "resolveSessionResetType": "as isThreadSessionKey",
    "deriveSessionChatType": "as isThreadSessionKey",
    "toAgentStoreSessionKey": "there are no keys without an Agent to complete",
    "resolveAccountEntry": "a look-up in the reference's settings; ids are canonical here",
    "resolveNormalizedAccountEntry": "as resolveAccountEntry",
    "resolveSessionKey": "repairs keys of the reference's older versions",
    "normalizeExplicitSessionKey": "as resolveSessionKey",
    "looksLikeSessionId": "a session is named by its key; ids are not typed",
    "resolvePreferredSessionKeyForSessionIdMatches": "as looksLikeSessionId",
    "resolveSessionIdMatchSelection": "as looksLikeSessionId",
    "resolveSendPolicy": "a send policy per session is not part of the product",
}


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["function"] in ASKED], ids=lambda row: row["id"]
)
def test_a_recorded_key_is_as_the_row_says(row: dict[str, Any]) -> None:
    expected = row["expect"]
    if row["function"] == "classifySessionKeyShape" and expected != "agent":
        expected = "refused"
    assert ASKED[row["function"]](row["args"][0]) == expected


def test_every_recorded_function_is_asked_or_left_out_with_a_reason() -> None:
    assert {row["function"] for row in ROWS} == ASKED.keys() | LEFT_OUT.keys()
    assert not ASKED.keys() & LEFT_OUT.keys()


IDS = st.text(st.characters(codec="utf-8", exclude_characters=":"), max_size=12)
PEERS = st.builds(Peer, st.sampled_from(PeerKind), IDS)
SCOPES = st.sampled_from(DmScope)


def key(
    peer: Peer | None,
    scope: DmScope = DmScope.MAIN,
    channel: str = "telegram",
    account: str = "default",
    thread: Thread | None = None,
    agent: str = "a",
    links: Mapping[str, tuple[str, ...]] | None = None,
) -> SessionKey:
    return sessions.session_key(
        sessions.conversation_identity(
            SessionPolicy(scope, links or {}),
            AgentId(agent),
            ChannelId(channel),
            AccountId(account),
            peer,
            thread,
        )
    )


@given(st.none() | PEERS, SCOPES, IDS)
def test_a_key_is_lower_case_and_names_its_agent(
    peer: Peer | None, scope: DmScope, thread_id: str
) -> None:
    made = key(peer, scope, thread=Thread(ThreadKind.TOPIC, thread_id))
    assert made == made.lower()
    assert sessions.parse_session_key(made)[0] == "a"
    assert made != key(peer, scope, thread=Thread(ThreadKind.TOPIC, thread_id), agent="b")


@given(PEERS, PEERS, SCOPES)
def test_two_chats_share_a_key_only_where_the_scope_says_so(
    one: Peer, other: Peer, scope: DmScope
) -> None:
    def shown(peer: Peer) -> tuple[str, str]:
        return peer.kind, peer.id.strip().lower() or "unknown"

    both_direct = one.kind is other.kind is PeerKind.DIRECT
    shares = shown(one) == shown(other) or (both_direct and scope is DmScope.MAIN)
    assert (key(one, scope) == key(other, scope)) is shares


@given(PEERS)
def test_groups_are_kept_apart_by_channel_and_direct_chats_by_scope(peer: Peer) -> None:
    is_direct = peer.kind is PeerKind.DIRECT
    for scope in DmScope:
        apart_by_channel = not is_direct or scope in (
            DmScope.PER_CHANNEL_PEER,
            DmScope.PER_ACCOUNT_CHANNEL_PEER,
        )
        apart_by_account = is_direct and scope is DmScope.PER_ACCOUNT_CHANNEL_PEER
        assert (key(peer, scope) != key(peer, scope, channel="slack")) is apart_by_channel
        assert (key(peer, scope) != key(peer, scope, account="biz")) is apart_by_account


@pytest.mark.parametrize(
    ("peer", "thread", "expected"),
    [
        (
            Peer(PeerKind.GROUP, "-1001234567890"),
            Thread(ThreadKind.TOPIC, "42"),
            "agent:a:telegram:group:-1001234567890:topic:42",
        ),
        (
            Peer(PeerKind.CHANNEL, "C1"),
            Thread(ThreadKind.THREAD, "1699.01"),
            "agent:a:telegram:channel:c1:thread:1699.01",
        ),
        (Peer(PeerKind.DIRECT, "7"), Thread(ThreadKind.TOPIC, "9"), "agent:a:main:topic:9"),
        (Peer(PeerKind.GROUP, "-1"), Thread(ThreadKind.TOPIC, " "), "agent:a:telegram:group:-1"),
        (None, None, "agent:a:main"),
    ],
)
def test_a_thread_extends_the_key_of_its_chat(
    peer: Peer | None, thread: Thread | None, expected: str
) -> None:
    assert key(peer, thread=thread) == expected


def test_an_empty_peer_or_channel_stands_as_unknown() -> None:
    assert key(Peer(PeerKind.GROUP, " "), channel="") == "agent:a:unknown:group:unknown"
    direct = Peer(PeerKind.DIRECT, "")
    assert key(direct, DmScope.PER_CHANNEL_PEER, "") == "agent:a:unknown:direct:unknown"


def test_identity_links_join_a_person_across_channels() -> None:
    links = {"Alice": ("TELEGRAM:1", "slack:U1"), "bob": ("2",)}
    alice = key(Peer(PeerKind.DIRECT, "1"), DmScope.PER_PEER, links=links)
    assert alice == "agent:a:direct:alice"
    assert alice == key(Peer(PeerKind.DIRECT, "u1"), DmScope.PER_PEER, "slack", links=links)
    assert alice != key(Peer(PeerKind.DIRECT, "1"), DmScope.PER_PEER, "slack", links=links)
    bob = key(Peer(PeerKind.DIRECT, "2"), DmScope.PER_CHANNEL_PEER, links=links)
    assert bob == "agent:a:telegram:direct:bob"


def test_identity_links_do_not_touch_groups_or_the_main_session() -> None:
    links = {"alice": ("1",)}
    assert key(Peer(PeerKind.GROUP, "1"), DmScope.PER_PEER, links=links).endswith(":group:1")
    assert key(Peer(PeerKind.DIRECT, "1"), links=links) == "agent:a:main"


@pytest.mark.parametrize("linked", ["telegram:1", "1"])
def test_of_two_names_for_one_person_the_first_in_order_holds(linked: str) -> None:
    person = Peer(PeerKind.DIRECT, "1")
    links = {"first": (linked,), "second": ("1",)}
    assert key(person, DmScope.PER_PEER, links=links) == "agent:a:direct:first"
    turned = dict(reversed(links.items()))
    assert key(person, DmScope.PER_PEER, links=turned) == "agent:a:direct:second"


def test_blank_names_and_ids_link_nobody() -> None:
    person = Peer(PeerKind.DIRECT, "1")
    assert key(person, DmScope.PER_PEER, links={" ": ("1",), "x": ("",)}) == "agent:a:direct:1"


def test_keys_of_helpers_tasks_and_named_sessions() -> None:
    main = sessions.main_key(A)
    assert main == "agent:a:main"
    assert sessions.helper_key(A, "0190-AB") == "agent:a:subagent:0190-ab"
    assert sessions.task_key(A, TaskId("T1")) == "agent:a:task:t1"
    assert sessions.named_key(main, "notes") == "agent:a:main:chat:notes"


@given(st.text(max_size=80), st.integers(0, 30))
@example("x" * 60, 12)
@example("main", 1)
def test_slugs_are_short_distinct_and_fit_for_a_key(name: str, clashes: int) -> None:
    taken: list[str] = []
    for _ in range(clashes + 1):
        slug = sessions.chat_slug(name, taken)
        assert slug not in taken
        assert 0 < len(slug) <= sessions.MAX_SLUG_CHARS
        assert slug == slug.lower() == slug.strip("-")
        assert not set(slug) & set(": /")
        taken.append(slug)


@pytest.mark.parametrize(
    ("name", "taken", "slug"),
    [
        ("Service watch", [], "service-watch"),
        ("Service  watch!", ["service-watch"], "service-watch-2"),
        ("service watch", ["service-watch", "service-watch-2"], "service-watch-3"),
        ("Main", [], "main-2"),
        ("???", [], "chat"),
        ("日本 Ünïcode", [], "日本-ünïcode"),
        ("हिन्दी", [], "हिन्दी"),
        ("x" * 60, ["x" * 48], "x" * 46 + "-2"),
    ],
)
def test_a_slug_is_what_a_person_would_type(name: str, taken: list[str], slug: str) -> None:
    assert sessions.chat_slug(name, taken) == slug


@given(st.text(max_size=90))
@example("_" + "a" * 62 + " x")
@example("a" * 63 + " x")
def test_canonical_ids_are_canonical_already(text: str) -> None:
    once = names.canonical_account(text)
    assert names.canonical_account(once) == once
    assert 0 < len(once) <= names.MAX_ID_CHARS


def test_the_kind_of_a_session_follows_its_chat() -> None:
    group = Peer(PeerKind.GROUP, "1")
    assert sessions.session_kind(None, None) is SessionKind.DIRECT
    assert sessions.session_kind(Peer(PeerKind.DIRECT, "1"), None) is SessionKind.DIRECT
    assert sessions.session_kind(group, None) is SessionKind.GROUP
    assert sessions.session_kind(Peer(PeerKind.CHANNEL, "1"), None) is SessionKind.GROUP
    assert sessions.session_kind(group, Thread(ThreadKind.TOPIC, "2")) is SessionKind.THREAD


INSTANTS = st.timedeltas(timedelta(0), 18_000 * DAY).map(
    lambda since: datetime(2000, 1, 3, tzinfo=UTC) + since
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Asia/Gaza"])
POLICIES = st.builds(
    ResetPolicy,
    daily_hour=st.none() | st.integers(0, 23),
    zone=ZONES,
    idle=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(days=3)),
)


@given(POLICIES, INSTANTS, st.timedeltas(timedelta(0), 3 * DAY), st.timedeltas(timedelta(0), DAY))
def test_a_stale_session_stays_stale(
    policy: ResetPolicy, last_at: datetime, silence: timedelta, more: timedelta
) -> None:
    if sessions.is_stale(policy, last_at, last_at + silence):
        assert sessions.is_stale(policy, last_at, last_at + silence + more)
        assert sessions.is_stale(policy, last_at - more, last_at + silence)


@given(POLICIES, INSTANTS)
def test_a_session_just_used_is_fresh_and_a_daily_one_stale_after_two_days(
    policy: ResetPolicy, last_at: datetime
) -> None:
    assert not sessions.is_stale(policy, last_at, last_at)
    has_rule = policy.daily_hour is not None or policy.idle is not None
    assert sessions.is_stale(policy, last_at, last_at + 3 * DAY) is has_rule


@pytest.mark.parametrize(
    ("last", "now", "stale"),
    [
        ("2026-01-10 02:59:59", "2026-01-10 03:00:00", True),
        ("2026-01-10 03:00:00", "2026-01-11 02:59:59", False),
        ("2026-01-10 03:00:00", "2026-01-11 03:00:00", True),
        ("2026-07-10 01:59:59", "2026-07-10 02:00:00", True),
        ("2026-07-10 02:00:00", "2026-07-10 03:30:00", False),
    ],
)
def test_a_daily_reset_falls_on_the_hour_of_its_zone(last: str, now: str, stale: bool) -> None:
    policy = ResetPolicy(daily_hour=4, zone="Europe/Berlin")
    instants = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (last, now)]
    assert sessions.is_stale(policy, *instants) is stale


@pytest.mark.parametrize(
    ("now", "stale"), [("2026-03-29 00:59:59", False), ("2026-03-29 01:00:00", True)]
)
def test_a_reset_hour_that_the_clock_jumps_over_falls_on_the_jump(now: str, stale: bool) -> None:
    policy = ResetPolicy(daily_hour=2, zone="Europe/Berlin")
    last_at = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert sessions.is_stale(policy, last_at, datetime.fromisoformat(now + "+00:00")) is stale


def test_of_a_daily_reset_and_idle_minutes_the_first_counts() -> None:
    policy = ResetPolicy(daily_hour=4, idle=timedelta(minutes=30))
    noon = datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert not sessions.is_stale(policy, noon, noon + timedelta(minutes=29))
    assert sessions.is_stale(policy, noon, noon + timedelta(minutes=30))
    before_four = datetime(2026, 1, 10, 3, 50, tzinfo=UTC)
    assert sessions.is_stale(policy, before_four, before_four + timedelta(minutes=10))
