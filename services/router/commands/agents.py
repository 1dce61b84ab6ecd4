"""`/agent`: which Agent answers in this chat."""

import uuid

from fased.core.agents import check_owner
from fased.core.bindings import BindingPeer, make_binding
from fased.core.commands import AgentAction, AgentCommand
from fased.core.names import canonical_agent
from fased.store.router import bindings
from fased.store.router.bindings import StoredBinding
from services.router.commands.chat import Chat

_CHATS = uuid.UUID("d3b0b6a2-0f0e-4a55-93b7-5b8f9a4b6c11")


async def agent(chat: Chat, command: AgentCommand) -> str:
    """Show the Agent, list all, or let another one answer here."""
    match command.action:
        case AgentAction.CURRENT:
            decision = chat.placed.routed.decision
            return f"Agent {chat.describe_agent(chat.agent_id)} answers here. {decision.message}"
        case AgentAction.LIST:
            return _listed(chat)
        case AgentAction.SWITCH:
            return await _switch(chat, command.target)


def _listed(chat: Chat) -> str:
    if not chat.agents:
        return "There are no Agents. Add one with: fased agents add <id>"
    lines = ["Agents:"]
    for known in chat.agents:
        name = f" ({known.display_name})" if known.display_name else ""
        here = ", answers here" if known.id == chat.agent_id else ""
        lines.append(f"- {known.id}{name}: {known.model or 'no model of its own'}{here}")
    return "\n".join(lines)


async def _switch(chat: Chat, target: str) -> str:
    wanted = target.strip().lower()
    found = next(
        (
            known
            for known in chat.agents
            if known.id == canonical_agent(target) or known.display_name.lower() == wanted
        ),
        None,
    )
    if found is None:
        return f'Unknown Agent "{target}". Run /agent list.'
    event = chat.event
    where = f"{event.channel} · {event.peer.kind}:{event.peer.id}"
    await _bind(chat, found.id)
    name = found.display_name or found.id
    return f"Agent switched to {name} for {where}. New messages in this chat will use that Agent."


async def _bind(chat: Chat, agent_id: str) -> None:
    event = chat.event
    engine = chat.host.database.engine
    # Its own transaction: repeated after a crash it finds the binding it wrote and changes nothing.
    async with engine.begin() as conn:
        await bindings.lock(conn, chat.namespace)
        routing = await bindings.read(conn, chat.namespace)
        wanted = make_binding(
            id=f"chat-{uuid.uuid5(_CHATS, f'{chat.namespace}/{event.peer.id}').hex[:12]}",
            position=await bindings.next_position(conn, chat.namespace),
            agent_id=agent_id,
            channel=event.channel,
            account_id=event.account_id,
            peer=BindingPeer(event.peer.kind, event.peer.id),
        )
        known = next((s for s in routing.bindings if _same_chat(s, wanted.peer, chat)), None)
        if known is not None:
            check_owner("the binding of this chat", known.binding.id, known.managed_by, "")
            if known.binding.agent_id == agent_id:
                return
            wanted = make_binding(
                id=known.binding.id,
                position=known.binding.position,
                agent_id=agent_id,
                channel=event.channel,
                account_id=event.account_id,
                peer=wanted.peer,
            )
        await bindings.put(conn, chat.namespace, StoredBinding(wanted))
        await bindings.next_version(conn, chat.namespace)


def _same_chat(stored: StoredBinding, peer: BindingPeer | None, chat: Chat) -> bool:
    binding = stored.binding
    return (
        binding.channel == chat.event.channel
        and binding.account_scope == chat.event.account_id
        and binding.peer == peer
        and not (binding.guild_id or binding.team_id or binding.role_ids)
    )
