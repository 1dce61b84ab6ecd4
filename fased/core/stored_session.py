"""The row behind a session key. Decides its shape, and a key for a chat that must not share one.

Keys themselves are `sessions.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from zlib import crc32

from fased.core.names import AgentId, Namespace, SessionId, SessionKey


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation's row.

    `active_key` names the session that is in use in this conversation instead of it, `""` for
    itself; `base_key` is what a named session stands beside, `""` for one that is no named one.
    `identity` is the key with the case of the platform's ids kept. A session that no message has
    come to yet has its beginning as `last_message_at`.
    """

    namespace: Namespace
    session_key: SessionKey
    identity: str
    agent_id: AgentId
    session_id: SessionId
    created_at: datetime
    last_message_at: datetime
    title: str = ""
    base_key: str = ""
    active_key: str = ""
    channel: str = ""
    account_id: str = ""
    peer_id: str = ""
    model: str = ""
    closed_at: datetime | None = None


def distinct_key(key: SessionKey, identity: str) -> SessionKey:
    """Another key for a chat whose id differs from a known chat's only in case.

    Both would have the key in lower case and share a transcript in silence.
    """
    return SessionKey(f"{key}~{crc32(identity.encode()):08x}")
