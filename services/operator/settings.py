"""What the operator is told at its start. Decides names, units and defaults only."""

from pydantic import Field

from fased.settings import SharedSettings


class Settings(SharedSettings):
    """The operator's own settings, beside the shared ones; it needs no database."""

    database_url: str = Field(default="", description="Not used: the operator keeps no rows.")
    namespaces: str = Field(
        default="", description="Namespaces that are served, by commas; empty: the whole cluster."
    )
    lease_namespace: str = Field(
        default="", description="Where the Lease of the active replica is; empty: our own."
    )
    lease_name: str = Field(default="fased-operator", description="The Lease's name.")
    lease_s: float = Field(
        default=15.0, ge=8, description="Seconds after which a silent replica is replaced."
    )
    sweep_s: float = Field(
        default=60.0, gt=0, description="Seconds between looks for rows without a resource."
    )
    poll_s: float = Field(
        default=15.0, gt=0, description="Seconds between looks at what is told in status."
    )
    unready_poll_s: float = Field(
        default=4.0, gt=0, description="The same for what a resource waits for, such as a Secret."
    )
    reconciles: int = Field(default=16, ge=1, description="Resources worked on at the same time.")
    statuses_per_s: float = Field(
        default=50.0, gt=0, description="Statuses written a second because of runs and polls."
    )

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces of `namespaces`; none for the whole cluster."""
        return tuple(name.strip() for name in self.namespaces.split(",") if name.strip())
