"""Carries out a command of an event, once. Decides which effect a command has; not how it is
written (`core/command_words.py`).

One transaction holds the mark of the event, the change of the router's own rows and the reply, so
that a redelivered event finds its mark and does nothing. Another service is asked before it, under
a request id that the event gives, so that its repeat is answered and not repeated; and while no
transaction is open, since that service may come back to this one and must not wait for it.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fased.bus import topics
from fased.core import command_catalogue, commands
from fased.core.command_catalogue import COMMANDS
from fased.core.errors import Aborted, DeadlineExceeded, FasedError, ResourceExhausted, Unavailable
from fased.core.events import OutboxEvent
from fased.core.messages import MessageKind, OutboundMessage, bus_key
from fased.process import Host
from fased.store import database, outbox
from fased.store.router import effects
from fased.wire.messages import outbound_to_pb
from services.router.commands import agents, sessions, status, tasks
from services.router.commands.chat import Chat, Rows

SCHEMA = "router"
_REPLIES = uuid.UUID("0b0d3c39-7b1c-4a47-8d1c-0f6f5a2b9a10")

# What a command says; None where the answer comes later, from the run it started.
Ask = Callable[[Chat, Any], Awaitable[str | None]]
Change = Callable[[Chat, Rows, Any], Awaitable[str]]

_ASKS: Mapping[type, Ask] = {
    commands.Status: status.status,
    commands.WhoAmI: status.whoami,
    commands.Stop: status.stop,
    commands.TaskNew: tasks.new,
    commands.TaskList: tasks.list_,
    commands.TaskAction: tasks.act,
    commands.TaskRuns: tasks.runs,
    commands.RunAction: status.run,
}
_CHANGES: Mapping[type, Change] = {
    commands.New: sessions.new,
    commands.Reset: sessions.new,
    commands.Model: sessions.model,
    commands.AgentCommand: agents.agent,
    commands.SessionCommand: sessions.session,
}
_UNSERVED = frozenset(
    {"usage", "approve", "task force", "task edit", "task approve", "task ask", "task repair"}
)
AVAILABLE = frozenset(entry.key for entry in COMMANDS) - _UNSERVED


async def carry_out(host: Host, chat: Chat, command: commands.Command | FasedError) -> None:
    """Carry out a command, or answer a malformed one with its error.

    Raises what waiting may mend, with nothing marked: the event comes again.
    """
    async with host.database.queue.acquire() as conn:
        if await effects.is_known(conn, chat.namespace, chat.event.event_id):
            return
    change = _CHANGES.get(type(command))
    reply = None if change else await _said(_answer(chat, command))
    async with host.database.engine.begin() as sql:
        rows = Rows(sql, await database.driver(sql))
        if not await effects.claim_event(rows.driver, chat.namespace, chat.event.event_id):
            return
        if change:
            reply = await _said(_changed(change, chat, rows, command))
        if reply is not None:
            await outbox.insert(rows.driver, SCHEMA, [reply_event(chat, reply)])
    host.hints.send(outbox.hint_name(SCHEMA))


async def _said(effect: Awaitable[str | None]) -> str | None:
    """What an effect says: a refusal in its own words. What waiting may mend is raised."""
    try:
        return await effect
    except (Unavailable, DeadlineExceeded, Aborted):
        raise
    except ResourceExhausted as exc:
        if exc.reason == "DATABASE_EXHAUSTED":
            raise
        return exc.message
    except FasedError as exc:
        return exc.message


async def _answer(chat: Chat, command: commands.Command | FasedError) -> str | None:
    if isinstance(command, FasedError):
        raise command
    if isinstance(command, commands.Help):
        return command_catalogue.help_text(AVAILABLE)
    if command.key in _UNSERVED:
        return f"/{command.key} is not available in this version. Run /help."
    return await _ASKS[type(command)](chat, command)


async def _changed(change: Change, chat: Chat, rows: Rows, command: object) -> str:
    # A refusal half way leaves nothing of the change, and yet the mark and the reply.
    async with rows.sql.begin_nested():
        return await change(chat, rows, command)


def reply_event(chat: Chat, text: str) -> OutboxEvent:
    """The outbox row of a reply to the command's chat; its id follows from the event."""
    event = chat.event
    message_id = str(uuid.uuid5(_REPLIES, f"{event.namespace}/{event.event_id}"))
    message = OutboundMessage(
        id=message_id,
        namespace=event.namespace,
        agent_id=chat.agent_id,
        session_key=chat.session.session_key,
        target=chat.target,
        text=text,
        kind=MessageKind.NOTICE,
        event_id=event.event_id,
    )
    return OutboxEvent(
        topic=topics.OUTBOUND,
        key=bus_key(event.namespace, event.channel, event.account_id, event.peer),
        event_id=message_id,
        value=outbound_to_pb(message).SerializeToString(),
    )
