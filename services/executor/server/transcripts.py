"""TranscriptService: keeps what was said. Decides nothing itself (`core/transcripts.py`)."""

from typing import Any

from fased.api.executor.v1 import executor_service_pb2 as pb
from fased.api.executor.v1 import executor_service_pb2_grpc
from fased.core.errors import InvalidArgument
from fased.core.names import SessionId, SessionKey, parse_namespace, parse_parent
from fased.core.transcripts import TranscriptEntry, checked_entry
from fased.rpc import paging
from fased.rpc.batches import check_count
from fased.store import transcripts
from fased.store.database import Database
from fased.store.transcripts import Tail
from fased.wire.transcripts import entry_from_pb, entry_to_pb

# Well under what one gRPC message may hold, at four bytes a character.
MAX_PAGE_CHARS = 2_000_000


class TranscriptServicer(executor_service_pb2_grpc.TranscriptServiceServicer):
    """Transcripts over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def AppendTranscripts(
        self, request: pb.AppendTranscriptsRequest, context: Any
    ) -> pb.AppendTranscriptsResponse:
        """Add entries; those whose key is known are left as they are."""
        check_count("entries", sum(len(each.entries) for each in request.additions))
        additions = [
            (parse_namespace(addition.namespace), checked_entry(entry_from_pb(entry)))
            for addition in request.additions
            for entry in addition.entries
        ]
        async with self._pool.acquire() as conn:
            await transcripts.append(conn, additions)
        return pb.AppendTranscriptsResponse()

    async def ReadTranscripts(
        self, request: pb.ReadTranscriptsRequest, context: Any
    ) -> pb.ReadTranscriptsResponse:
        """The ends of sessions' transcripts, oldest entry first."""
        check_count("tails", len(request.tails))
        wanted = [_tail(each) for each in request.tails]
        if len(wanted) > 1 and sum(each.max_chars for each in wanted) > MAX_PAGE_CHARS:
            raise InvalidArgument(
                f"the tails of one call have at most {MAX_PAGE_CHARS} characters",
                reason="TOO_MUCH_AT_ONCE",
                metadata={"field": "tails.max_chars"},
            )
        async with self._pool.acquire() as conn:
            found = await transcripts.tails(conn, wanted)
        return pb.ReadTranscriptsResponse(
            transcripts=[pb.TranscriptEntries(entries=map(entry_to_pb, each)) for each in found]
        )

    async def ListTranscript(
        self, request: pb.ListTranscriptRequest, context: Any
    ) -> pb.ListTranscriptResponse:
        """A session's entries, oldest first, the last page first."""
        namespace = parse_parent(request.parent)
        query = {"in": namespace, "key": request.session_key, "id": request.session_id}
        position = paging.decode(request.page_token, query)
        size = paging.page_size(request.page_size)
        async with self._pool.acquire() as conn:
            found = await transcripts.list_before(
                conn,
                namespace,
                SessionKey(request.session_key),
                SessionId(request.session_id),
                None if position is None else int(position[0]),
                size + 1,
            )
        page = _fitting(found[:size])
        more = len(found) > len(page)
        return pb.ListTranscriptResponse(
            entries=[entry_to_pb(each) for each in reversed(page)],
            next_page_token=paging.encode([page[-1].sequence], query) if more else "",
        )


def _tail(tail: pb.TranscriptTail) -> Tail:
    return Tail(
        parse_namespace(tail.namespace),
        SessionKey(tail.session_key),
        SessionId(tail.session_id),
        max(0, min(tail.max_entries, paging.MAX_PAGE_SIZE)),
        max(0, min(tail.max_chars, MAX_PAGE_CHARS)),
    )


def _fitting(entries: list[TranscriptEntry]) -> list[TranscriptEntry]:
    """The first entries that one answer can hold, at least one."""
    chars = 0
    for at, entry in enumerate(entries):
        chars += len(entry.text)
        if chars > MAX_PAGE_CHARS and at:
            return entries[:at]
    return entries
