"""`/session`, `/new`, `/reset`, `/model`: which conversation this chat is in. Decides the words,
and which session the chat points to.

A chat points from its base session, the one that routing or the person on a page picked. Named
sessions all stand beside one main session, also where the base is itself a named one.
"""

from fased.core import sessions as core_sessions
from fased.core.commands import Model, ModelAction, New, Reset, SessionAction, SessionCommand
from fased.core.names import SessionKey
from fased.core.stored_session import Session
from fased.store.router import sessions
from services.router.commands.chat import Chat, Rows

_NEW_TITLE = "Chat"


async def new(chat: Chat, rows: Rows, command: New | Reset) -> str:
    """Start a fresh session id under the same key."""
    model = command.model if isinstance(command, New) else ""
    session = chat.session
    await sessions.renew(rows.driver, session.namespace, session.session_key, model or None)
    suffix = f" It uses {model}." if model else ""
    return f"Started afresh: earlier messages of {_name(session)} are no longer read.{suffix}"


async def model(chat: Chat, rows: Rows, command: Model) -> str:
    """Show or set the model of this session."""
    session = chat.session
    known = next((agent for agent in chat.agents if agent.id == chat.agent_id), None)
    of_agent = (known.model if known else "") or "the worker's default model"
    match command.action:
        case ModelAction.SET:
            await sessions.set_model(rows.driver, chat.namespace, session.session_key, command.ref)
            return f"This session now uses {command.ref}. The Agent's own model stays {of_agent}."
        case ModelAction.STATUS:
            own = f"This session uses {session.model}. " if session.model else ""
            return f"{own}Agent {chat.describe_agent(chat.agent_id)} uses {of_agent}."
        case ModelAction.LIST:
            return _listed_models(chat)


async def session(chat: Chat, rows: Rows, command: SessionCommand) -> str:
    """Show, make, choose or close named sessions of this chat."""
    match command.action:
        case SessionAction.CURRENT:
            return f"This chat is in {_name(chat.session)} ({chat.session.session_key})."
        case SessionAction.LIST:
            return await _listed(chat, rows)
        case SessionAction.NEW:
            return await _make(chat, rows, command.name)
        case SessionAction.SWITCH:
            return await _switch(chat, rows, command.name)
        case SessionAction.CLOSE:
            return await _close(chat, rows)


def _listed_models(chat: Chat) -> str:
    lines = ["Models of the Agents:"]
    for ref in dict.fromkeys(agent.model for agent in chat.agents if agent.model):
        lines.append(f"- {ref}{', in use' if ref == chat.session.model else ''}")
    if len(lines) == 1:
        lines = ["No Agent names a model: the worker's default model is used."]
    return "\n".join([*lines, "Any other: /model <provider/model>"])


async def _listed(chat: Chat, rows: Rows) -> str:
    main = await _main(chat, rows)
    named = await sessions.named_beside(rows.driver, main)
    lines = ["Sessions:"]
    for each in (main, *named):
        here = ", in use" if each.session_key == chat.session.session_key else ""
        lines.append(f"- {_name(each)} ({_slug(each)}{here})")
    return "\n".join(lines)


async def _make(chat: Chat, rows: Rows, name: str) -> str:
    title = " ".join(name.split())[: core_sessions.MAX_SLUG_CHARS] or _NEW_TITLE
    made = await sessions.add_named(rows.driver, await _main(chat, rows), title)
    await _point(chat, rows, made.session_key)
    return f'Created session "{title}". New messages in this chat will use it.'


async def _switch(chat: Chat, rows: Rows, name: str) -> str:
    wanted, main = name.strip().casefold(), await _main(chat, rows)
    if wanted == _slug(main):
        await _point(chat, rows, main.session_key)
        return "Switched to the main session. New messages in this chat will use it."
    named = await sessions.named_beside(rows.driver, main)
    by_slug = [each for each in named if _slug(each) == wanted]
    by_title = [each for each in named if each.title.casefold() == wanted]
    for found in by_slug + by_title:
        await _point(chat, rows, found.session_key)
        return f'Switched to session "{found.title}". New messages in this chat will use it.'
    return f'Unknown session "{name}". Run /session list.'


async def _close(chat: Chat, rows: Rows) -> str:
    if not chat.session.base_key:
        return "The main session stays open. Run /session switch to choose another."
    await sessions.close(rows.driver, chat.namespace, chat.session.session_key)
    await _point(chat, rows, SessionKey(chat.session.base_key))
    return f'Closed session "{chat.session.title}". New messages here use the main session.'


async def _main(chat: Chat, rows: Rows) -> Session:
    base = chat.placed.base
    if not base.base_key:
        return base
    return await sessions.get(rows.driver, base.namespace, SessionKey(base.base_key)) or base


async def _point(chat: Chat, rows: Rows, key: SessionKey) -> None:
    base = chat.placed.base
    active = "" if key == base.session_key else key
    await sessions.activate(rows.driver, base.namespace, base.session_key, active)


def _name(session: Session) -> str:
    return f'session "{session.title}"' if session.title else "the main session"


def _slug(session: Session) -> str:
    return session.session_key.rpartition(":")[2] if session.base_key else "main"
