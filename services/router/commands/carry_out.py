"""Carries out a command of an event, once. Decides which effect a command has; not how it is
written (`core/command_words.py`).

One transaction holds the mark of the event, the effect on the router's rows and the reply, so a
redelivered event finds its mark and does nothing. An effect of another service comes before the
commit and under a request id that the event gives, so its repeat is answered, not repeated.
"""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from fased.bus import topics
from fased.core import commands
from fased.core.command_catalogue import COMMANDS
from fased.core.errors import DeadlineExceeded, FasedError, Unavailable
from fased.core.events import OutboxEvent
from fased.core.messages import MessageKind, OutboundMessage, bus_key
from fased.process import Host
from fased.store import outbox
from fased.store.router import effects
from fased.wire.messages import outbound_to_pb
from services.router.commands import agents, sessions, status, tasks
from services.router.commands.chat import Chat, Services
from services.router.placing import Placed
from services.router.tables import KnownAgent

SCHEMA = "router"
_REPLIES = uuid.UUID("0b0d3c39-7b1c-4a47-8d1c-0f6f5a2b9a10")

Effect = Callable[[Chat, Any], Awaitable[str | None]]

_EFFECTS: dict[type, Effect] = {
    commands.Status: status.status,
    commands.WhoAmI: status.whoami,
    commands.Stop: status.stop,
    commands.New: sessions.new,
    commands.Reset: sessions.new,
    commands.Model: sessions.model,
    commands.AgentCommand: agents.agent,
    commands.SessionCommand: sessions.session,
    commands.TaskNew: tasks.new,
    commands.TaskList: tasks.list_,
    commands.TaskAction: tasks.act,
    commands.TaskRuns: tasks.runs,
    commands.RunAction: status.run,
}
_UNSERVED = frozenset(
    {"usage", "approve", "task force", "task edit", "task approve", "task ask", "task repair"}
)
AVAILABLE = frozenset(entry.key for entry in COMMANDS) - _UNSERVED


async def carry_out(
    host: Host,
    services: Services,
    placed: Placed,
    agents_known: tuple[KnownAgent, ...],
    command: commands.Command | FasedError,
) -> None:
    """Carry out a command, or answer a malformed one with its error.

    Raises Unavailable and DeadlineExceeded: the event comes again.
    """
    event = placed.routed.event
    async with host.database.queue.acquire() as conn, conn.transaction():
        if not await effects.claim_event(conn, event.namespace, event.event_id):
            return
        chat = Chat(placed, agents_known, services, host, conn)
        reply = await _reply(chat, command)
        if reply is not None:
            await outbox.insert(conn, SCHEMA, [reply_event(chat, reply)])
    host.hints.send(outbox.hint_name(SCHEMA))


async def _reply(chat: Chat, command: commands.Command | FasedError) -> str | None:
    try:
        if isinstance(command, FasedError):
            raise command
        if isinstance(command, commands.Help):
            return status.help_(AVAILABLE, command)
        effect = _EFFECTS.get(type(command))
        if effect is None or command.key in _UNSERVED:
            return f"/{command.key} is not available in this version. Run /help."
        return await effect(chat, command)
    except (Unavailable, DeadlineExceeded):
        raise
    except FasedError as exc:
        return exc.message


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
