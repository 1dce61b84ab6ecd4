"""Channel accounts: one connection to a channel each. Decides their shape only."""

from dataclasses import dataclass
from datetime import datetime

from fased.core.names import AccountId, ChannelId, Namespace


@dataclass(frozen=True, slots=True)
class Account:
    """One connection to a channel; `credential` is a reference, `""` where none is needed."""

    namespace: Namespace
    channel: ChannelId
    account_id: AccountId
    credential: str
    is_enabled: bool
    managed_by: str
    last_error: str
    created_at: datetime
    last_inbound_at: datetime | None
    last_outbound_at: datetime | None
