"""How the brokers are spoken to: in the open, over TLS, with a name and a password.

Decides what the settings mean to aiokafka, and refuses those that cannot be meant.
"""

from collections.abc import Mapping
from typing import Any

from aiokafka.helpers import create_ssl_context

from fased.core.errors import InvalidArgument
from fased.settings import KafkaSettings


def security_options(settings: KafkaSettings) -> Mapping[str, Any]:
    """What aiokafka is told beside the address. Raises InvalidArgument naming the variable."""
    secret = settings.kafka_password.get_secret_value() if settings.kafka_password else ""
    if bool(settings.kafka_username) != bool(secret):
        raise _invalid("kafka_password", "a name and a password belong together")
    if settings.kafka_tls_key_file and not settings.kafka_tls_cert_file:
        raise _invalid("kafka_tls_cert_file", "the key needs its certificate")
    is_named, is_tls = bool(settings.kafka_username), settings.kafka_tls
    options: dict[str, Any] = {"security_protocol": _PROTOCOLS[is_named, is_tls]}
    if is_tls:
        options["ssl_context"] = _tls_context(settings)
    if is_named:
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": secret,
        }
    return options


_PROTOCOLS = {
    (False, False): "PLAINTEXT",
    (False, True): "SSL",
    (True, False): "SASL_PLAINTEXT",
    (True, True): "SASL_SSL",
}


def _tls_context(settings: KafkaSettings) -> Any:
    try:
        return create_ssl_context(
            cafile=settings.kafka_tls_ca_file or None,
            certfile=settings.kafka_tls_cert_file or None,
            keyfile=settings.kafka_tls_key_file or None,
        )
    except OSError as exc:
        # ssl.SSLError is one too: a file that is missing, or is no certificate.
        files = "FASED_KAFKA_TLS_CA_FILE, _CERT_FILE or _KEY_FILE"
        raise _invalid(
            "kafka_tls_ca_file", f"{files} cannot be used ({exc.strerror or exc})"
        ) from exc


def _invalid(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"FASED_{field.upper()}: {why}",
        reason="INVALID_KAFKA_SETTING",
        metadata={"field": field},
    )
