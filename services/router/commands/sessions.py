"""`/session`, `/new`, `/reset`, `/model`: which conversation this chat is in."""

from fased.core import sessions as core_sessions
from fased.core.commands import Model, ModelAction, New, Reset, SessionAction, SessionCommand
from fased.core.stored_session import Session
from fased.store.router import sessions
from services.router.commands.chat import Chat


async def new(chat: Chat, command: New | Reset) -> str:
    """Start a fresh session id under the same key."""
    model = command.model if isinstance(command, New) else ""
    session = chat.session
    await sessions.renew(chat.conn, session.namespace, session.session_key, model or None)
    suffix = f" It uses {model}." if model else ""
    return f"Started afresh: earlier messages of {_name(session)} are no longer read.{suffix}"


async def model(chat: Chat, command: Model) -> str:
    """Show or set the model of this session."""
    session = chat.session
    known = next((agent for agent in chat.agents if agent.id == chat.agent_id), None)
    of_agent = (known.model if known else "") or "the worker's default model"
    match command.action:
        case ModelAction.SET:
            await _set_model(chat, command.ref)
            return f"This session now uses {command.ref}. The Agent's own model stays {of_agent}."
        case ModelAction.STATUS | ModelAction.LIST:
            own = f"This session uses {session.model}." if session.model else ""
            return f"{own} Agent {chat.describe_agent(chat.agent_id)} uses {of_agent}.".strip()


async def session(chat: Chat, command: SessionCommand) -> str:
    """Show, make, choose or close named sessions of this chat."""
    match command.action:
        case SessionAction.CURRENT:
            return f"This chat is in {_name(chat.session)} ({chat.session.session_key})."
        case SessionAction.LIST:
            return await _listed(chat)
        case SessionAction.NEW:
            return await _make(chat, command.name)
        case SessionAction.SWITCH:
            return await _switch(chat, command.name)
        case SessionAction.CLOSE:
            return await _close(chat)


async def _set_model(chat: Chat, ref: str) -> None:
    await sessions.set_model(chat.conn, chat.namespace, chat.session.session_key, ref)


async def _listed(chat: Chat) -> str:
    named = await sessions.named_under(chat.conn, chat.namespace, chat.base_key)
    lines = ["Sessions:"]
    for each in (chat.placed.base, *named):
        here = ", in use" if each.session_key == chat.session.session_key else ""
        lines.append(f"- {_name(each)} ({_slug(each)}{here})")
    return "\n".join(lines)


async def _make(chat: Chat, name: str) -> str:
    title = " ".join(name.split())[: core_sessions.MAX_SLUG_CHARS] or "Chat"
    taken = await sessions.slugs_under(chat.conn, chat.namespace, chat.base_key)
    key = core_sessions.named_key(chat.base_key, core_sessions.chat_slug(title, taken))
    await sessions.add_named(chat.conn, chat.placed.base, key, title)
    await sessions.activate(chat.conn, chat.namespace, chat.base_key, key)
    return f'Created session "{title}". New messages in this chat will use it.'


async def _switch(chat: Chat, name: str) -> str:
    wanted = name.strip().lower()
    if wanted == "main":
        await sessions.activate(chat.conn, chat.namespace, chat.base_key, "")
        return "Switched to the main session. New messages in this chat will use it."
    for each in await sessions.named_under(chat.conn, chat.namespace, chat.base_key):
        if wanted in (each.title.lower(), _slug(each)):
            await sessions.activate(chat.conn, chat.namespace, chat.base_key, each.session_key)
            return f'Switched to session "{each.title}". New messages in this chat will use it.'
    return f'Unknown session "{name}". Run /session list.'


async def _close(chat: Chat) -> str:
    if not chat.session.base_key:
        return "The main session stays open. Run /session switch to choose another."
    await sessions.close(chat.conn, chat.namespace, chat.session.session_key)
    await sessions.activate(chat.conn, chat.namespace, chat.base_key, "")
    return f'Closed session "{chat.session.title}". New messages here use the main session.'


def _name(session: Session) -> str:
    return f'session "{session.title}"' if session.title else "the main session"


def _slug(session: Session) -> str:
    return session.session_key.rpartition(":")[2] if session.base_key else "main"
