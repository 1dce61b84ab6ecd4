"""`fased sessions`: conversations and their transcripts. Decides words and layout only."""

from typing import Annotated

import typer

from cli import connection
from cli.connection import Connection
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, note, show
from fased.api.executor.v1 import executor_service_pb2, executor_service_pb2_grpc, transcript_pb2
from fased.api.router.v1 import router_service_pb2, router_service_pb2_grpc, session_pb2
from fased.core import task_text
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.plain import plain
from fased.wire.times import from_timestamp

MAX_LISTED = 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Sessions."""


@app.command("list")
def list_sessions(
    agent: Annotated[str, typer.Option(help="Only those of this Agent.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="At most this many.")] = 100,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """List sessions, the last used first.

    \b
    Examples:
      fased sessions list
      fased sessions list --agent coding -o json
    """

    async def ask(to: Connection) -> router_service_pb2.ListSessionsResponse:
        return await router_service_pb2_grpc.SessionServiceStub(to.channel).ListSessions(
            router_service_pb2.ListSessionsRequest(
                parent=to.parent, agent_id=agent, page_size=limit
            )
        )

    listed = connection.run(namespace, ask)
    table = Table(
        ("SESSION", "AGENT", "TITLE", "CHAT", "LAST MESSAGE"),
        [_row(session) for session in listed.sessions],
        empty="No sessions yet.",
    )
    show(output, {"sessions": [plain(session) for session in listed.sessions]}, table)
    if listed.next_page_token:
        note(f"There are more than {limit}: ask with a higher --limit.")


@app.command("show")
def show_session(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As in agent:main:main.")],
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="The last so many lines.")] = 50,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Show a session and the end of its transcript.

    \b
    Examples:
      fased sessions show agent:main:main
      fased sessions show agent:coding:main --limit 200 -o yaml
    """

    async def ask(
        to: Connection,
    ) -> tuple[session_pb2.Session, list[transcript_pb2.TranscriptEntry]]:
        sessions = router_service_pb2_grpc.SessionServiceStub(to.channel)
        transcripts = executor_service_pb2_grpc.TranscriptServiceStub(to.channel)
        found = await sessions.GetSession(
            router_service_pb2.GetSessionRequest(name=to.name("sessions", key))
        )
        said = await transcripts.ListTranscript(
            executor_service_pb2.ListTranscriptRequest(
                parent=to.parent, session_key=found.session.session_key, page_size=limit
            )
        )
        return found.session, list(said.entries)

    session, entries = connection.run(namespace, ask)
    show(
        output,
        {"session": plain(session), "transcript": [plain(entry) for entry in entries]},
        _facts(session),
        "",
        *([_line(entry) for entry in entries] or ["Nothing was said yet."]),
    )


def _row(session: session_pb2.Session) -> tuple[str, ...]:
    return (
        session.session_key,
        session.agent_id,
        session.title or "-",
        f"{session.channel}:{session.account_id}" if session.channel else "-",
        task_text.instant(from_timestamp(session, "last_message_time")),
    )


def _facts(session: session_pb2.Session) -> Table:
    facts = [
        ("session", session.session_key),
        ("title", session.title),
        ("Agent", session.agent_id),
        ("session id", session.session_id),
        ("active", session.active_key),
        ("chat", f"{session.channel}:{session.account_id}:{session.peer_id}".strip(":")),
        ("model", session.model),
        ("made", task_text.instant(from_timestamp(session, "create_time"))),
        ("last message", task_text.instant(from_timestamp(session, "last_message_time"))),
        ("closed", "yes" if session.closed else ""),
    ]
    return Table((), [fact for fact in facts if fact[1]])


def _line(entry: transcript_pb2.TranscriptEntry) -> str:
    at = task_text.instant(from_timestamp(entry, "create_time"))
    who = entry.sender or entry.role
    kept = " (not delivered)" if entry.undelivered else ""
    return f"[{at}] {who}{kept}: {entry.text}"
