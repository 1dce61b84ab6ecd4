"""What policy is told by its environment. Decides names and defaults."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from fased.core.names import DEFAULT_AGENT
from fased.settings import PREFIX, SharedSettings

MIN_SECRET_CHARS = 32


class FirstSettings(BaseSettings):
    """What a new installation starts with."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    admin_token: SecretStr | None = Field(
        default=None,
        min_length=MIN_SECRET_CHARS,
        description="Secret of the token `admin`, for all namespaces; another one replaces it at "
        "the next start. Without it, that token is left as it is.",
    )
    default_agent: str = Field(
        default=DEFAULT_AGENT,
        description="Agent that is made where the namespace `default` has none; empty: none is.",
    )


class Settings(SharedSettings, FirstSettings):
    """Policy as a process of its own."""
