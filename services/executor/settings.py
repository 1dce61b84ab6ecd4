"""What the executor is told by its environment. Decides units and defaults."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fased.settings import PREFIX, SharedSettings


class WorkerSettings(BaseSettings):
    """How one worker leases and acts."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    run_concurrency: int = Field(
        default=8, ge=1, le=1000, description="Runs that one worker carries out at once."
    )
    context_tokens: int = Field(
        default=12_000, ge=500, description="Tokens that a model is shown at most, estimated."
    )
    context_entries: int = Field(
        default=100, ge=0, le=1000, description="Lines of the transcript that a model is shown."
    )
    model_silence_s: float = Field(
        default=60.0, gt=0, description="Seconds that a model may send nothing."
    )
    lease_s: float = Field(
        default=15.0, gt=0, description="Seconds that a lease stands without a heartbeat."
    )
    heartbeat_s: float = Field(default=5.0, gt=0, description="Seconds between heartbeats.")
    lease_wait_s: float = Field(
        default=20.0, gt=0, le=30, description="Seconds to wait for a run in one call."
    )
    grace_s: float = Field(
        default=10.0, ge=0, description="Seconds that runs under way have to end in at a stop."
    )


class Settings(SharedSettings, WorkerSettings):
    """The executor as a process of its own."""
