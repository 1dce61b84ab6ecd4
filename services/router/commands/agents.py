"""`/agent`: which Agent answers in this chat. Decides which binding says so, and the words."""

import uuid
from dataclasses import replace

from fased.core.bindings import CHAT_POSITION, Binding, BindingPeer, make_binding
from fased.core.commands import AgentAction, AgentCommand
from fased.core.errors import InvalidArgument
from fased.core.names import AgentId, canonical_id
from fased.core.owners import check_owner
from fased.store.router import bindings
from fased.store.router.bindings import StoredBinding
from services.router.commands.chat import Chat, Rows
from services.router.tables import KnownAgent

_CHATS = uuid.UUID("d3b0b6a2-0f0e-4a55-93b7-5b8f9a4b6c11")


async def agent(chat: Chat, rows: Rows, command: AgentCommand) -> str:
    """Show the Agent, list all, or let another one answer here."""
    match command.action:
        case AgentAction.CURRENT:
            decision = chat.placed.routed.decision
            return f"Agent {chat.describe_agent(chat.agent_id)} answers here. {decision.message}"
        case AgentAction.LIST:
            return _listed(chat)
        case AgentAction.SWITCH:
            return await _switch(chat, rows, command.target)


def _listed(chat: Chat) -> str:
    if not chat.agents:
        return "There are no Agents. Add one with: fased agents add <id>"
    lines = ["Agents:"]
    for known in chat.agents:
        name = f" ({known.display_name})" if known.display_name else ""
        here = ", answers here" if known.id == chat.agent_id else ""
        lines.append(f"- {known.id}{name}: {known.model or 'no model of its own'}{here}")
    return "\n".join(lines)


async def _switch(chat: Chat, rows: Rows, target: str) -> str:
    found = _find(chat.agents, target)
    if found is None:
        return f'Unknown Agent "{target}". Run /agent list.'
    await _bind(chat, rows, found.id)
    name, event = found.display_name or found.id, chat.event
    return (
        f"Agent switched to {name} for {event.channel} · {event.peer.kind}:{event.peer.id}. "
        "New messages in this chat will use that Agent."
    )


def _find(agents: tuple[KnownAgent, ...], target: str) -> KnownAgent | None:
    """The Agent of that id, else the first of that name."""
    by_id = [known for known in agents if known.id == canonical_id(target)]
    name = target.strip().casefold()
    by_name = [known for known in agents if known.display_name.casefold() == name]
    return next(iter(by_id + by_name), None)


async def _bind(chat: Chat, rows: Rows, agent_id: AgentId) -> None:
    wanted = _binding_of(chat, agent_id)
    if not wanted.is_matchable:
        raise InvalidArgument(
            "This chat has no id of its own, so that no binding can name it.",
            reason="CHAT_WITHOUT_ID",
            metadata={"field": "peer"},
        )
    await bindings.lock(rows.sql, chat.namespace)
    routes = await bindings.read(rows.sql, chat.namespace)
    for known in routes.bindings:
        if known.binding.selectors == wanted.selectors:
            check_owner("this chat's binding", known.binding.id, known.managed_by, "")
            wanted = replace(known.binding, agent_id=agent_id)
            if wanted == known.binding:
                return
            break
    await bindings.put(rows.sql, chat.namespace, StoredBinding(wanted))
    await bindings.next_version(rows.sql, chat.namespace)


def _binding_of(chat: Chat, agent_id: AgentId) -> Binding:
    event, decision = chat.event, chat.placed.routed.decision
    parts = (decision.channel, decision.account_id, event.peer.kind, event.peer.id)
    return make_binding(
        id=f"chat-{uuid.uuid5(_CHATS, '/'.join(parts)).hex[:12]}",
        position=CHAT_POSITION,
        agent_id=agent_id,
        channel=decision.channel,
        account_id=decision.account_id,
        peer=BindingPeer(event.peer.kind, event.peer.id),
    )
