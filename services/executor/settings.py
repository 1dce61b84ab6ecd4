"""What the executor is told by its environment. Decides units and defaults."""

from pydantic import Field

from fased.settings import SharedSettings


class Settings(SharedSettings):
    """How its worker leases and acts; `grace_s` is what its runs have to end in at a stop."""

    run_concurrency: int = Field(
        default=32, ge=1, le=1000, description="Runs that one worker carries out at once."
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
