"""What the gateway is told at its start. Decides names, units and defaults only."""

from pydantic import Field

from fased.settings import SharedSettings


class Settings(SharedSettings):
    """The public door's own settings, beside the shared ones."""

    http_host: str = Field(default="127.0.0.1", description="Address that HTTP is served on.")
    http_port: int = Field(
        default=18789,
        ge=0,
        le=65535,
        description="Port that HTTP is served on; 0 takes a free one.",
    )
    http_names: str = Field(
        default="",
        description="Host names, beside loopback's, that requests may use; separated by commas.",
    )
    grpc_listen: str = Field(
        default="127.0.0.1:18790",
        description="Where public gRPC calls are taken: host:port or unix:/path.",
    )
    stream_heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        description="Seconds between signs of life of an event stream, and checks of its token.",
    )

    def allowed_hosts(self) -> frozenset[str]:
        """The names of `http_names`, lower-cased."""
        names = (name.strip().lower() for name in self.http_names.split(","))
        return frozenset(name for name in names if name)
