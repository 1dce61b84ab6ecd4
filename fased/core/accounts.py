"""Channel accounts: one connection to a channel each, e.g. a bot. Decides which settings can be
meant; does not read credentials, and connects to nothing.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fased.core.addresses import why_no_address
from fased.core.credentials import parse_reference
from fased.core.delivery import UnknownPolicy
from fased.core.errors import InvalidArgument
from fased.core.names import AccountId, ChannelId, Namespace

# The channels whose accounts people make; WebChat's stands by itself.
CHANNELS = (ChannelId("telegram"),)


class ReceiveMode(StrEnum):
    """How messages come in: asked for again and again, or sent to our address."""

    POLL = "poll"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """What an account's owner chooses.

    `credential` is a reference (`core/credentials.py`). `api_base` is `""` for the platform's own
    API. `webhook_url` is the public address under which our webhooks are reached.
    """

    credential: str = ""
    mode: ReceiveMode = ReceiveMode.POLL
    api_base: str = ""
    webhook_url: str = ""
    unknown_policy: UnknownPolicy = UnknownPolicy.HOLD
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the platform says the account is; all `""` until it said so."""

    id: str = ""
    username: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """The last answer to "does it work?": well where `reason` is `""`."""

    at: datetime
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """What was seen of an account. `last_error` is one sentence, `""` when there was none."""

    is_connected: bool = False
    identity: Identity = field(default_factory=Identity)
    last_inbound_at: datetime | None = None
    last_outbound_at: datetime | None = None
    last_error_reason: str = ""
    last_error: str = ""
    last_error_at: datetime | None = None
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One connection to a channel, as stored."""

    namespace: Namespace
    channel: ChannelId
    account_id: AccountId
    settings: AccountSettings
    managed_by: str
    created_at: datetime
    status: AccountStatus = field(default_factory=AccountStatus)


def checked_settings(channel: ChannelId, settings: AccountSettings) -> AccountSettings:
    """Settings that can be meant; raises InvalidArgument naming the field."""
    if channel not in CHANNELS:
        raise _invalid("channel", f"accounts are made for {', '.join(CHANNELS)}")
    try:
        parse_reference(settings.credential)
    except InvalidArgument as exc:
        raise _invalid("credential", exc.message) from None
    _check_url("api_base", settings.api_base)
    _check_url("webhook_url", settings.webhook_url)
    if settings.mode is ReceiveMode.WEBHOOK and not settings.webhook_url:
        raise _invalid("webhook_url", "mode webhook needs the public address of our webhooks")
    return settings


def _check_url(field_name: str, url: str) -> None:
    if url and (why := why_no_address(url)):
        raise _invalid(field_name, why)


def _invalid(field_name: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field_name}: {why}", reason="INVALID_ACCOUNT", metadata={"field": field_name}
    )
