"""Brokers that want TLS, a name and a password: who is let in, and how a refusal reads."""

import ssl
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fased.bus import kafka_topics
from fased.bus.kafka import open_kafka
from fased.bus.kafka_security import security_options
from fased.bus.port import Record
from fased.bus.topics import INBOUND, Topic
from fased.core.errors import InvalidArgument, Unavailable
from fased.settings import KafkaSettings
from tests.support.kafka import Broker, temporary_broker

USER, PASSWORD = "fased", "correct-horse"
TOPIC = Topic(INBOUND, partitions=2, retention=timedelta(hours=1))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority's certificate (ca.pem) and the broker's own, with its key."""
    folder = tmp_path_factory.mktemp("pki")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(folder, "req", "-x509", *curve, "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem")
    run(folder, "req", *curve, "-subj", "/CN=broker", "-keyout", "key.pem", "-out", "broker.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    run(folder, "x509", "-req", "-in", "broker.csr", *signed_by, "-out", "cert.pem")
    both = (folder / "key.pem").read_text() + (folder / "cert.pem").read_text()
    (folder / "broker.pem").write_text(both)
    return folder


def run(folder: Path, *words: str) -> None:
    """One call of openssl."""
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def broker(certificates: Path) -> Iterator[Broker]:
    """A broker that takes TLS with a name and a password only."""
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
    security = {
        "listeners": "SASL_SSL://127.0.0.1:@PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@",
        "advertised.listeners": "SASL_SSL://127.0.0.1:@PORT@",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            f'{scram} required username="{USER}" password="{PASSWORD}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
    }
    with temporary_broker(
        scram=f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]",
        security=security,
        client=security_options(settings(certificates)),
    ) as started:
        yield started


def settings(certificates: Path, **changed: object) -> KafkaSettings:
    """What lets us in, with some of it changed."""
    right: dict[str, object] = {
        "kafka_tls": True,
        "kafka_tls_ca_file": str(certificates / "ca.pem"),
        "kafka_username": USER,
        "kafka_password": PASSWORD,
    }
    return KafkaSettings.model_validate(right | changed)


async def test_a_bus_works_over_tls_with_a_name_and_a_password(
    broker: Broker, certificates: Path
) -> None:
    security = security_options(settings(certificates))
    await kafka_topics.ensure_topics(broker.bootstrap, [TOPIC], replicas=1, security=security)
    async with open_kafka(
        broker.bootstrap, client_id="test", known=(TOPIC,), security=security
    ) as bus:
        await bus.publish([Record(INBOUND, "key", b"value", {"ce-id": "1"})])
        async with bus.consumer("group", [INBOUND]) as consumer:
            batch = await consumer.next_batch()
            assert [record.value for record in batch.records] == [b"value"]
            await consumer.commit(batch, batch.next_offset)
            consumer.finish(batch)
        assert await bus.lag("group", [INBOUND]) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"kafka_password": "wrong-horse"},
        {"kafka_sasl_mechanism": "PLAIN"},
        {"kafka_tls_ca_file": ""},
        {"kafka_tls": False},
    ],
)
async def test_who_is_not_let_in_is_told_which_settings_to_look_at(
    broker: Broker, certificates: Path, changed: dict[str, object]
) -> None:
    security = security_options(settings(certificates, **changed))
    with pytest.raises(Unavailable, match="FASED_KAFKA_PASSWORD") as refused:
        async with open_kafka(broker.bootstrap, client_id="test", security=security):
            pass
    assert "horse" not in str(refused.value)
    with pytest.raises(Unavailable, match="FASED_KAFKA_PASSWORD"):
        await kafka_topics.ensure_topics(broker.bootstrap, [TOPIC], replicas=1, security=security)


def test_settings_that_cannot_be_meant_are_refused_with_their_name(
    certificates: Path, tmp_path: Path
) -> None:
    no_certificate = tmp_path / "empty.pem"
    no_certificate.touch()
    wrong: dict[str, dict[str, object]] = {
        "kafka_password": {"kafka_password": None},
        "kafka_tls_cert_file": {"kafka_tls_key_file": "key.pem"},
        "kafka_tls_ca_file": {"kafka_tls_ca_file": str(no_certificate)},
    }
    for field, changed in wrong.items():
        with pytest.raises(InvalidArgument) as refused:
            security_options(settings(certificates, **changed))
        assert refused.value.metadata == {"field": field}


def test_without_settings_the_brokers_are_spoken_to_in_the_open() -> None:
    assert security_options(KafkaSettings.model_validate({})) == {"security_protocol": "PLAINTEXT"}
    tls = security_options(KafkaSettings.model_validate({"kafka_tls": True}))
    assert isinstance(tls["ssl_context"], ssl.SSLContext)
    assert tls["ssl_context"].verify_mode is ssl.CERT_REQUIRED
