"""TranscriptService: keeps what was said. Decides nothing itself (`core/transcripts.py`)."""

from typing import Any

from fased.api.executor.v1 import executor_service_pb2 as pb
from fased.api.executor.v1 import executor_service_pb2_grpc
from fased.core.errors import InvalidArgument
from fased.core.names import SessionId, SessionKey, parse_namespace, parse_parent
from fased.core.transcripts import TranscriptEntry, checked_entry
from fased.rpc import paging
from fased.store import transcripts
from fased.store.database import Database
from fased.wire.transcripts import entry_from_pb, entry_to_pb

MAX_ENTRIES = 1000
# Well under what one gRPC message may hold, at four bytes a character.
MAX_PAGE_CHARS = 2_000_000


class TranscriptServicer(executor_service_pb2_grpc.TranscriptServiceServicer):
    """Transcripts over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def AppendTranscript(
        self, request: pb.AppendTranscriptRequest, context: Any
    ) -> pb.AppendTranscriptResponse:
        """Add entries; those whose key is known are left as they are."""
        namespace = parse_namespace(request.namespace)
        if len(request.entries) > MAX_ENTRIES:
            raise InvalidArgument(
                f"at most {MAX_ENTRIES} entries at once",
                reason="TOO_MANY_ENTRIES",
                metadata={"field": "entries"},
            )
        entries = [checked_entry(entry_from_pb(each)) for each in request.entries]
        async with self._pool.acquire() as conn:
            await transcripts.append(conn, namespace, entries)
        return pb.AppendTranscriptResponse()

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


def _fitting(entries: list[TranscriptEntry]) -> list[TranscriptEntry]:
    """The first entries that one answer can hold, at least one."""
    chars = 0
    for at, entry in enumerate(entries):
        chars += len(entry.text)
        if chars > MAX_PAGE_CHARS and at:
            return entries[:at]
    return entries
