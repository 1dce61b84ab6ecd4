"""Transcripts: the rows themselves, and TranscriptService over a real gRPC server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from fased.api.executor.v1 import executor_service_pb2 as pb
from fased.api.executor.v1 import executor_service_pb2_grpc
from fased.api.types.v1 import message_pb2
from fased.bus import topics
from fased.bus.port import Received
from fased.core.access import Caller, Role
from fased.core.errors import InvalidArgument, PermissionDenied
from fased.core.names import Namespace, RunId, SessionId, SessionKey
from fased.core.transcripts import Role as Speaker
from fased.core.transcripts import TranscriptEntry
from fased.rpc.client import open_client
from fased.rpc.interceptors import actor_metadata
from fased.rpc.server import new_server
from fased.store import transcripts
from fased.store.database import Database, open_database, translate
from fased.store.transcripts import EndedRun
from fased.wire.times import to_timestamp
from fased.wire.transcripts import entry_from_pb, entry_to_pb
from services.executor.server.ended_runs import EndedRuns
from services.executor.server.transcripts import MAX_PAGE_CHARS, TranscriptServicer

TOKEN = "service-token-of-a-test"
ONE, TWO = Namespace("one"), Namespace("two")
KEY, ID = SessionKey("agent:main:main"), SessionId("s1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


def turn(run: int, asked: str, answer: str, session_id: SessionId = ID) -> list[TranscriptEntry]:
    lines = [(Speaker.USER, asked), (Speaker.ASSISTANT, answer)]
    return [
        TranscriptEntry(KEY, session_id, RunId(run), "act", at, role, text)
        for at, (role, text) in enumerate(lines)
    ]


async def append(
    database: Database, entries: Sequence[TranscriptEntry], namespace: Namespace = ONE
) -> None:
    async with database.queue.acquire() as conn:
        await transcripts.append(conn, [(namespace, each) for each in entries])


async def listed(
    database: Database, namespace: Namespace = ONE, session_id: str = ""
) -> list[TranscriptEntry]:
    async with database.queue.acquire() as conn:
        found = await transcripts.list_before(
            conn, namespace, KEY, SessionId(session_id), None, 1000
        )
    return found[::-1]


async def mark(database: Database, *ended: tuple[int, str, datetime]) -> None:
    async with database.queue.acquire() as conn:
        await transcripts.mark_ended(
            conn, [EndedRun(ONE, RunId(run), outcome, at) for run, outcome, at in ended]
        )


async def test_entries_take_their_places_in_the_order_they_were_said(database: Database) -> None:
    await append(database, turn(1, "a", "b"))
    await append(database, turn(2, "c", "d"))
    found = await listed(database)
    assert [(each.sequence, each.text) for each in found] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "d"),
    ]


async def test_an_entry_that_is_appended_again_changes_nothing_and_leaves_no_gap(
    database: Database,
) -> None:
    await append(database, turn(1, "a", "b"))
    await append(database, [replace(each, text="changed") for each in turn(1, "a", "b")])
    await append(database, turn(2, "c", "d"))
    assert [(each.sequence, each.text) for each in await listed(database)] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "d"),
    ]


async def test_a_half_written_turn_is_completed_by_its_repeat(database: Database) -> None:
    await append(database, turn(1, "a", "b")[:1])
    await append(database, turn(1, "a", "b"))
    assert [each.text for each in await listed(database)] == ["a", "b"]


async def test_turns_appended_at_once_and_twice_are_each_there_once_with_their_own_places(
    database: Database,
) -> None:
    turns = [turn(run, f"q{run}", f"a{run}") for run in range(1, 21)]
    await asyncio.gather(*(append(database, each) for each in [*turns, *turns]))
    found = await listed(database)
    assert sorted(each.text for each in found) == sorted(e.text for each in turns for e in each)
    assert len({each.sequence for each in found}) == 40
    places = {each.text: each.sequence for each in found}
    assert all(places[f"q{run}"] < places[f"a{run}"] for run in range(1, 21))


async def test_namespaces_with_equal_sessions_and_runs_never_see_each_other(
    database: Database,
) -> None:
    await append(database, turn(1, "mine", "yours"), ONE)
    await append(database, turn(1, "other", "line"), TWO)
    await mark(database, (1, "failed", NOW))
    assert [(each.text, each.undelivered) for each in await listed(database, ONE)] == [
        ("mine", True),
        ("yours", True),
    ]
    assert [
        (each.text, each.undelivered, each.sequence) for each in await listed(database, TWO)
    ] == [
        ("other", False, 1),
        ("line", False, 2),
    ]


async def test_a_session_id_lists_only_what_was_said_in_it(database: Database) -> None:
    await append(database, turn(1, "a", "b"))
    await append(database, turn(2, "c", "d", SessionId("s2")))
    assert [each.text for each in await listed(database, session_id="s2")] == ["c", "d"]
    assert len(await listed(database)) == 4


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "cancelled", "blocked"])
async def test_the_entries_of_a_run_that_ended_without_success_are_undelivered(
    database: Database, outcome: str
) -> None:
    await append(database, turn(1, "a", "b"))
    await append(database, turn(2, "c", "d"))
    await mark(database, (1, outcome, NOW), (2, "succeeded", NOW))
    assert [each.undelivered for each in await listed(database)] == [True, True, False, False]


async def test_an_entry_appended_after_its_run_failed_is_undelivered_too(
    database: Database,
) -> None:
    await mark(database, (1, "failed", NOW))
    await append(database, turn(1, "a", "b"))
    assert [each.undelivered for each in await listed(database)] == [True, True]


async def test_the_latest_end_of_a_run_decides_however_often_ends_are_told(
    database: Database,
) -> None:
    await append(database, turn(1, "a", "b"))
    failed, succeeded = (1, "failed", NOW), (1, "succeeded", NOW + timedelta(seconds=1))
    await mark(database, failed)
    await mark(database, succeeded)
    assert not (await listed(database))[0].undelivered
    await mark(database, failed, succeeded)
    assert not (await listed(database))[0].undelivered


async def test_the_bus_tells_which_runs_failed_and_a_repeat_changes_nothing(
    database: Database,
) -> None:
    await append(database, turn(1, "a", "b"))
    await append(database, turn(2, "c", "d"))
    records = [
        _record(1, message_pb2.RUN_EVENT_KIND_ENDED, "cancelled"),
        _record(2, message_pb2.RUN_EVENT_KIND_DELIVERY, ""),
        _record(3, message_pb2.RUN_EVENT_KIND_ENDED, "missed"),
    ]
    for _ in range(2):
        await EndedRuns(database).apply(records)
    assert [each.undelivered for each in await listed(database)] == [True, True, False, False]
    async with database.queue.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM executor.undelivered_run") == 1


async def test_notes_on_old_runs_that_said_nothing_are_forgotten(database: Database) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3)
    await append(database, turn(1, "a", "b"))
    await mark(database, (1, "failed", long_ago), (2, "failed", long_ago))
    await mark(database, (3, "failed", datetime.now(UTC)))
    async with database.queue.acquire() as conn:
        await transcripts.forget_silent(conn, timedelta(days=1))
        left = await conn.fetch("SELECT run_id FROM executor.undelivered_run ORDER BY run_id")
    assert [row["run_id"] for row in left] == [1, 3]


async def test_a_page_of_a_long_transcript_is_read_by_index(database: Database) -> None:
    async with database.queue.acquire() as conn:
        await conn.execute(
            "INSERT INTO executor.transcript (namespace, run_id, step, ordinal, session_key,"
            " session_id, sequence, role, text, sender, event_id)"
            " SELECT 'one', n, 'act', 0, 'k' || n % 10, 's' || n % 100, n, 'user', 'x', '', ''"
            " FROM generate_series(1, 50000) n"
        )
        await conn.execute(
            "INSERT INTO executor.undelivered_run (namespace, run_id, outcome, ended_at)"
            " SELECT 'one', n, 'failed', now() FROM generate_series(1, 50000, 2) n"
        )
        await conn.execute("ANALYZE executor.transcript, executor.undelivered_run")
        for query, arguments in (
            (transcripts._LIST_KEY, ("one", "k3", 40_000, 100)),
            (transcripts._LIST_SESSION, ("one", "k3", 40_000, 100, "s13")),
        ):
            plan = await conn.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
            assert "transcript_" in plan
            assert "Seq Scan" not in plan


class Server:
    """TranscriptService over a Unix socket, and a client that calls as its service or a person."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = executor_service_pb2_grpc.TranscriptServiceStub(channel)

    async def append(self, entries: Sequence[TranscriptEntry], namespace: str = ONE) -> None:
        addition = pb.TranscriptAddition(namespace=namespace, entries=map(entry_to_pb, entries))
        await self.stub.AppendTranscripts(pb.AppendTranscriptsRequest(additions=[addition]))

    async def tails(self, *wanted: tuple[Namespace, int, int]) -> list[list[TranscriptEntry]]:
        """The ends of the main sessions of namespaces, by most entries and characters."""
        tails = [
            pb.TranscriptTail(
                namespace=namespace,
                session_key=KEY,
                session_id=ID,
                max_entries=max_entries,
                max_chars=max_chars,
            )
            for namespace, max_entries, max_chars in wanted
        ]
        answer = await self.stub.ReadTranscripts(pb.ReadTranscriptsRequest(tails=tails))
        return [[entry_from_pb(each) for each in found.entries] for found in answer.transcripts]


@pytest.fixture
async def server(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    async with _serving(database, f"unix:{tmp_path}/s") as opened:
        yield opened


@asynccontextmanager
async def _serving(database: Database, address: str) -> AsyncIterator[Server]:
    server, _ = new_server(TOKEN, translate)
    executor_service_pb2_grpc.add_TranscriptServiceServicer_to_server(
        TranscriptServicer(database), server
    )
    server.add_insecure_port(address)
    await server.start()
    channel, client = open_client(address, TOKEN)
    try:
        yield Server(channel)
    finally:
        await client.close()
        await server.stop(None)


async def test_pages_come_latest_first_and_each_is_oldest_first(server: Server) -> None:
    for run in range(1, 6):
        await server.append(turn(run, f"q{run}", f"a{run}"))
    texts, token = [], ""
    while True:
        page = await server.stub.ListTranscript(
            pb.ListTranscriptRequest(
                parent="namespaces/one", session_key=KEY, page_size=4, page_token=token
            )
        )
        texts.append([each.text for each in page.entries])
        token = page.next_page_token
        if not token:
            break
    assert texts == [["q4", "a4", "q5", "a5"], ["q2", "a2", "q3", "a3"], ["q1", "a1"]]


async def test_a_page_is_never_larger_than_an_answer_may_be(server: Server) -> None:
    long = "x" * 199_000
    for run in range(1, 8):
        await server.append(turn(run, long, long))
    page = await server.stub.ListTranscript(
        pb.ListTranscriptRequest(parent="namespaces/one", session_key=KEY)
    )
    assert 0 < sum(len(each.text) for each in page.entries) <= MAX_PAGE_CHARS
    assert page.entries[-1].sequence == 14
    assert page.next_page_token


async def test_a_page_token_of_another_session_is_refused(server: Server) -> None:
    await server.append(turn(1, "a", "b"))
    page = await server.stub.ListTranscript(
        pb.ListTranscriptRequest(parent="namespaces/one", session_key=KEY, page_size=1)
    )
    with pytest.raises(InvalidArgument) as refused:
        await server.stub.ListTranscript(
            pb.ListTranscriptRequest(
                parent="namespaces/two", session_key=KEY, page_token=page.next_page_token
            )
        )
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


async def test_an_entry_that_cannot_be_kept_is_refused_whole(server: Server) -> None:
    good, bad = turn(1, "a", "b")
    for spoiled in (
        pb.TranscriptAddition(
            namespace=ONE, entries=[entry_to_pb(good), entry_to_pb(replace(bad, text="a\x00"))]
        ),
        pb.TranscriptAddition(namespace="No Namespace", entries=[entry_to_pb(good)]),
        pb.TranscriptAddition(namespace=ONE, entries=[entry_to_pb(replace(good, run_id=RunId(0)))]),
    ):
        fine = pb.TranscriptAddition(namespace=ONE, entries=[entry_to_pb(good)])
        with pytest.raises(InvalidArgument):
            await server.stub.AppendTranscripts(
                pb.AppendTranscriptsRequest(additions=[fine, spoiled])
            )
    page = await server.stub.ListTranscript(
        pb.ListTranscriptRequest(parent="namespaces/one", session_key=KEY)
    )
    assert not page.entries


async def test_entries_of_several_namespaces_are_added_in_one_call(server: Server) -> None:
    await server.append(turn(1, "a", "b"))
    again = pb.TranscriptAddition(namespace=ONE, entries=map(entry_to_pb, turn(1, "x", "y")))
    more = pb.TranscriptAddition(namespace=ONE, entries=map(entry_to_pb, turn(2, "c", "d")))
    other = pb.TranscriptAddition(namespace=TWO, entries=map(entry_to_pb, turn(1, "e", "f")))
    await server.stub.AppendTranscripts(pb.AppendTranscriptsRequest(additions=[again, more, other]))
    one, two = await server.tails((ONE, 10, 100), (TWO, 10, 100))
    assert [(each.sequence, each.text) for each in one] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert [(each.sequence, each.text) for each in two] == [(1, "e"), (2, "f")]


async def test_the_end_of_a_transcript_is_cut_by_entries_and_by_length(
    server: Server, database: Database
) -> None:
    for run in range(1, 4):
        await server.append(turn(run, "q" * run, "a" * run))
    await server.append(turn(4, "another", "session", SessionId("s2")))
    found = await server.tails((ONE, 3, 100), (ONE, 10, 6), (ONE, 10, 9), (ONE, 10, 0), (TWO, 1, 1))
    assert [[each.text for each in tail] for tail in found] == [
        ["aa", "qqq", "aaa"],
        ["qqq", "aaa"],
        ["aa", "qqq", "aaa"],
        [],
        [],
    ]
    await mark(database, (3, "failed", NOW))
    [tail] = await server.tails((ONE, 10, 4))
    # What nobody was shown takes no length from the rest, and is marked.
    assert [(each.text, each.undelivered) for each in tail] == [
        ("qq", False),
        ("aa", False),
        ("qqq", True),
        ("aaa", True),
    ]


async def test_one_call_asks_for_no_more_than_one_answer_can_hold(server: Server) -> None:
    half = MAX_PAGE_CHARS // 2 + 1
    with pytest.raises(InvalidArgument) as refused:
        await server.tails((ONE, 10, half), (TWO, 10, half))
    assert refused.value.reason == "TOO_MUCH_AT_ONCE"


async def test_a_person_reads_only_their_namespace_and_appends_nowhere(server: Server) -> None:
    await server.append(turn(1, "a", "b"))
    viewer = actor_metadata(Caller("ada", Role.VIEWER, ("one",)))
    page = await server.stub.ListTranscript(
        pb.ListTranscriptRequest(parent="namespaces/one", session_key=KEY), metadata=viewer
    )
    assert [entry_from_pb(each).text for each in page.entries] == ["a", "b"]
    with pytest.raises(PermissionDenied):
        await server.stub.ListTranscript(
            pb.ListTranscriptRequest(parent="namespaces/two", session_key=KEY), metadata=viewer
        )
    with pytest.raises(PermissionDenied):
        await server.stub.AppendTranscripts(pb.AppendTranscriptsRequest(), metadata=viewer)


def _record(run: int, kind: message_pb2.RunEventKind.ValueType, outcome: str) -> Received:
    event = message_pb2.RunEvent(
        id=f"e{run}",
        namespace=ONE,
        run_id=run,
        kind=kind,
        outcome=outcome,
        event_time=to_timestamp(NOW),
    )
    return Received(topics.RUN_EVENTS, 0, run, f"one/{run}", event.SerializeToString(), {}, NOW)
