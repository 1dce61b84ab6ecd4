"""What the channels are told by their environment. Decides units and defaults."""

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fased.settings import PREFIX, SharedSettings


class ChannelsSettings(BaseSettings):
    """How platforms are spoken to."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    one_process: bool = Field(
        default=False,
        description="Whether this process owns the database alone: then it ends all leases at "
        "its start, since whoever held them is gone.",
    )
    webhook_listen: str = Field(
        default="",
        description="host:port that platforms' webhooks are taken on; empty takes none.",
    )
    poll_s: int = Field(
        default=10, ge=1, le=50, description="Seconds that a long poll waits for a message."
    )
    connection_lease_s: float = Field(
        default=20.0,
        gt=0,
        description="Seconds that an account is a replica's own; more than a poll takes.",
    )
    send_lease_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that a chat is a replica's own; more than a send takes.",
    )
    send_timeout_s: float = Field(
        default=15.0, gt=0, description="Seconds after which the outcome of a send is unknown."
    )
    sends_per_account: int = Field(
        default=16, ge=1, le=256, description="Chats of one account that are sent to at once."
    )

    delivery_days: int = Field(
        default=30,
        ge=8,
        description="Days that ended deliveries are kept; more than the bus keeps a message.",
    )
    conversation_days: int = Field(
        default=0,
        ge=0,
        description="Days that a WebChat conversation is kept without anything new; 0 keeps it.",
    )

    # A lease that ends first would let two replicas poll, or send, at once.

    @field_validator("connection_lease_s")
    @classmethod
    def _outlasts_a_poll(cls, lease_s: float, info: ValidationInfo) -> float:
        if lease_s <= info.data.get("poll_s", 0):
            raise ValueError("is more than FASED_POLL_S")
        return lease_s

    @field_validator("send_timeout_s")
    @classmethod
    def _ends_within_the_lease(cls, timeout_s: float, info: ValidationInfo) -> float:
        if timeout_s >= info.data.get("send_lease_s", timeout_s + 1):
            raise ValueError("is less than FASED_SEND_LEASE_S")
        return timeout_s


class Settings(SharedSettings, ChannelsSettings):
    """The channels as a process of their own."""
