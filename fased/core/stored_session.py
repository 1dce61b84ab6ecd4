"""The row behind a session key. Decides its shape, and a key for a chat that must not share one.

Keys themselves are `sessions.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

from fased.core.names import AgentId, Namespace, SessionId, SessionKey


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation's row. `active_key` names the named session that is in use instead, on a base
    key's row; `base_key` is the base of a named one. `identity` keeps the platform's case.
    """

    namespace: Namespace
    session_key: SessionKey
    identity: str
    agent_id: AgentId
    session_id: SessionId
    title: str = ""
    base_key: str = ""
    active_key: str = ""
    channel: str = ""
    account_id: str = ""
    peer_id: str = ""
    model: str = ""
    created_at: datetime | None = None
    last_message_at: datetime | None = None
    closed_at: datetime | None = None


def distinct_key(key: SessionKey, identity: str) -> SessionKey:
    """Another key for a chat whose id differs from a known chat's only in case.

    Both would have the key in lower case and share a transcript in silence.
    """
    return SessionKey(f"{key}~{crc32(identity.encode()):08x}")
