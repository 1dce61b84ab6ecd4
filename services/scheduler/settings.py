"""What the scheduler is told by its environment. Decides units and defaults."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fased.settings import PREFIX, SharedSettings


class SchedulerSettings(BaseSettings):
    """How the queue is kept."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    one_process: bool = Field(
        default=False,
        description="Whether this process owns the database alone: then it ends all leases at "
        "its start, since whoever held them is gone.",
    )
    history_days: int = Field(
        default=30, ge=1, le=3650, description="Days that ended runs are kept."
    )
    key_days: int = Field(
        default=8,
        ge=1,
        description="Days that enqueue keys are kept; more than the bus keeps an event.",
    )


class Settings(SharedSettings, SchedulerSettings):
    """The scheduler as a process of its own."""
