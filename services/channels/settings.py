"""What the channels are told by their environment. Decides units and defaults."""

from typing import Self

from pydantic import Field, model_validator
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

    @model_validator(mode="after")
    def _outlasting(self) -> Self:
        # A lease that ends first lets two replicas poll, or send, at once.
        if self.connection_lease_s <= self.poll_s:
            raise ValueError("FASED_CONNECTION_LEASE_S must be more than FASED_POLL_S")
        if self.send_lease_s <= self.send_timeout_s:
            raise ValueError("FASED_SEND_LEASE_S must be more than FASED_SEND_TIMEOUT_S")
        return self


class Settings(SharedSettings, ChannelsSettings):
    """The channels as a process of their own."""
