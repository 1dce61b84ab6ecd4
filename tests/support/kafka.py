"""A real Kafka broker for tests: one a run, as broker and controller in one, its log thrown away.

`FASED_TEST_KAFKA` (`host:port`) points the tests at brokers that are there; then those that crash
the broker are skipped.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.support.postgres import blocking

START_TIMEOUT_S = 180.0
_HERE = Path(__file__).parent
_POM = _HERE / "kafka" / "pom.xml"
_ENSURE = _HERE.parents[1] / "scripts" / "ensure-kafka.sh"

# The first compiler only: up in 3 s instead of 8, and quick enough for tests.
_JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://{address}:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://{address}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
"""


class Broker:
    """A broker of our own, to stop in hard ways; after a stop it keeps its port and its log."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        scram: str = "",
        security: Mapping[str, str] = MappingProxyType({}),
        client: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`address` is one of this machine, `security` are properties that replace those of an open
        listener, `scram` a user that the log folder is formatted with, and `client` how aiokafka
        speaks to it all.
        """
        self._folder = folder
        self._client = client
        self._format = ["--add-scram", scram] if scram else []
        port, controller_port = _free_ports(2)
        self.bootstrap = f"{address}:{port}"
        properties = _PROPERTIES.format(
            address=address, port=port, controller_port=controller_port, folder=folder
        )
        # The last of two lines for one property is the one that holds.
        properties += "".join(f"{name}={value}\n" for name, value in security.items())
        properties = properties.replace("@PORT@", str(port)).replace(
            "@CONTROLLER_PORT@", str(controller_port)
        )
        (folder / "server.properties").write_text(properties)
        (folder / "log4j2.properties").write_text(_LOGGING)
        self._process: subprocess.Popen[bytes] | None = None

    def format(self) -> None:
        """Prepare the log folder, once."""
        made = self._java("kafka.tools.StorageTool", "random-uuid")
        identity = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
        config = str(self._folder / "server.properties")
        command = self._java(
            "kafka.tools.StorageTool", "format", "-t", identity, "-c", config, *self._format
        )
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    async def restart(self) -> None:
        """Start it, after any stop; returns when it answers."""
        process = self._start()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._answers():
                    assert process.poll() is None, self._last_words()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(self._last_words()) from None

    async def stop_immediate(self) -> None:
        """Kill -9: no clean shutdown, its log is checked at the next start."""
        await self._stop(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM; returns when it is gone."""
        await self._stop(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._folder / "server.properties")),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self._process

    async def _stop(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            await asyncio.to_thread(self._process.wait)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self.bootstrap.split(":"))
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self.bootstrap, request_timeout_ms=5000, **self._client
        )
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()

    def _java(self, main: str, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"
        return ["java", *_JVM, logging, "-cp", f"{_libraries()}/*", main, *arguments]

    def _last_words(self) -> str:
        lines = (self._folder / "broker.log").read_text(errors="replace").splitlines()
        return "the Kafka broker does not start:\n" + "\n".join(lines[-30:])


@contextmanager
def temporary_broker(**options: Any) -> Iterator[Broker]:
    """A started broker with a log of its own; both are gone after the block."""
    subprocess.run([str(_ENSURE)], check=True)
    folder = Path(tempfile.mkdtemp(prefix="fased-test-kafka-"))
    broker = Broker(folder, **options)
    try:
        broker.format()
        blocking(broker.restart())
        yield broker
    finally:
        blocking(broker.stop_immediate())
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def own_kafka() -> Iterator[Broker]:
    """The broker of this run, which a test may crash if it starts it again."""
    if os.environ.get("FASED_TEST_KAFKA"):
        pytest.skip("FASED_TEST_KAFKA names brokers that are not ours to crash")
    with temporary_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> str:
    """Where the brokers of this run are, as `host:port`."""
    given = os.environ.get("FASED_TEST_KAFKA")
    if given:
        return given
    broker: Broker = request.getfixturevalue("own_kafka")
    return broker.bootstrap


def _libraries() -> Path:
    version = re.search(r"<kafka.version>(.*)</kafka.version>", _POM.read_text())
    assert version is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "fased-testbed" / f"kafka-{version[1]}" / "libs"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
