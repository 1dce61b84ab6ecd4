"""Settings that services share. Decides names, units and defaults; values come from the
environment (prefix `FASED_`), read once in a `__main__` and passed down.
"""

import os
import sys
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICES = ("channels", "router", "policy", "scheduler", "executor", "gateway")
PREFIX = "FASED_"


class KafkaSettings(BaseSettings):
    """Where the brokers are and how they are spoken to."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    kafka_bootstrap: str = Field(
        default="",
        description="Kafka brokers as host:port, by commas; empty: the bus is a log in PostgreSQL.",
    )
    kafka_tls: bool = Field(default=False, description="Whether the brokers are spoken to by TLS.")
    kafka_tls_ca_file: str = Field(
        default="", description="Who signed the brokers' certificates, PEM; empty: the system's."
    )
    kafka_tls_cert_file: str = Field(
        default="", description="Our own certificate, PEM, where the brokers ask for one."
    )
    kafka_tls_key_file: str = Field(
        default="", description="Its key, PEM; empty when it is in the certificate's file."
    )
    kafka_username: str = Field(default="", description="Our name at the brokers; empty: none.")
    kafka_password: SecretStr | None = Field(default=None, description="The name's password.")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="How the name is proved."
    )


class SharedSettings(KafkaSettings):
    """What every service needs to know."""

    database_url: str = Field(description="PostgreSQL, as postgresql://user@host:port/database.")
    service_token: SecretStr = Field(
        min_length=16, description="Proves one service of Fased to another."
    )
    listen: str = Field(
        default="[::]:50051", description="Where this service's gRPC server listens."
    )
    metrics_listen: str = Field(
        default="0.0.0.0:9090", description="Where Prometheus metrics are served."
    )
    kafka_instance_id: str = Field(
        default="",
        description="Another in each process makes its consumers static; empty: they are not.",
    )
    drain_s: float = Field(
        default=0.0, ge=0, description="Seconds between NOT_SERVING and the end of consuming."
    )
    grace_s: float = Field(
        default=10.0, ge=0, description="Seconds that work under way has to end in."
    )
    log_level: str = Field(default="info", description="debug, info, warning or error.")
    otlp_endpoint: str = Field(
        default="", description="OTLP/HTTP endpoint for traces; empty exports none."
    )
    channels_address: str = Field(default="dns:///channels:50051", description="Channels' gRPC.")
    router_address: str = Field(default="dns:///router:50051", description="Router's gRPC.")
    policy_address: str = Field(default="dns:///policy:50051", description="Policy's gRPC.")
    scheduler_address: str = Field(
        default="dns:///scheduler:50051", description="Scheduler's gRPC."
    )
    executor_address: str = Field(default="dns:///executor:50051", description="Executor's gRPC.")

    def address_of(self, service: str) -> str:
        """The gRPC address of a service by its name."""
        return str(getattr(self, f"{service}_address"))


S = TypeVar("S", bound=BaseSettings)


def read(cls: type[S]) -> S:
    """The settings of `cls` from the environment, or an exit with one line a person can act on.

    A `FASED_` variable that looks like a misspelling is left alone: other services read theirs
    from the same environment.
    """
    try:
        return cls()
    except ValidationError as exc:
        first = exc.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        print(f"{name}: {first['msg'].lower()}", file=sys.stderr)
        sys.exit(os.EX_CONFIG)
