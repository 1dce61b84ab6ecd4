"""A PostgreSQL 15 server over TCP, as a cluster brings its own: Debian's, of a test's own.

Decides nothing about what is in it. Where Debian's is not installed, the embedded one stands in.
"""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.support import ports
from tests.support.postgres import PrivatePostgres, blocking, temporary_folder, temporary_server

BINARIES = Path("/usr/lib/postgresql/15/bin")
START_TIMEOUT_S = 60.0
POLL_PERIOD_S = 0.05
# Each of a dozen processes may hold 16 connections and a few for hints.
_MAX_CONNECTIONS = "400"


class Postgres(Protocol):
    """A server that a test may stop in hard ways."""

    dsn: str

    async def restart(self) -> None:
        """Start it again after any stop; returns when it takes connections."""

    async def stop_immediate(self) -> None:
        """As `pg_ctl stop -m immediate`: no checkpoint, recovery at the next start."""


class Postgres15:
    """Debian's server on a port of its own."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self._folder = folder
        self._address = address
        self._port = ports.free_port()
        self.dsn = f"postgresql://fased@{address}:{self._port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make its data directory, once."""
        data = str(self._folder / "data")
        words = ("-D", data, "--username=fased", "--auth=trust", "--encoding=UTF8", "--no-sync")
        subprocess.run(
            [BINARIES / "initdb", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            **_account(),
        )

    def admit(self, network: str) -> None:
        """Let the clients of a network in, before the start."""
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\n")

    async def restart(self) -> None:
        """See `Postgres`."""
        self.start()

    async def stop_immediate(self) -> None:
        """See `Postgres`."""
        self.stop(signal.SIGQUIT)

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        settings = {
            "listen_addresses": self._address,
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": _MAX_CONNECTIONS,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARIES / "postgres", "-D", self._folder / "data", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **_account(),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._asked() != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "postgres.log").read_text(errors="replace")
                raise AssertionError(f"PostgreSQL does not start:\n{said[-4000:]}")
            time.sleep(POLL_PERIOD_S)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it; returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def _asked(self) -> int:
        words = ("--quiet", f"--host={self._address}", f"--port={self._port}")
        return subprocess.run([BINARIES / "pg_isready", *words], check=False).returncode


@contextmanager
def temporary_cluster_postgres() -> Iterator[Postgres]:
    """A started server whose data are gone after the block."""
    if not (BINARIES / "postgres").exists():
        with temporary_server({"max_connections": _MAX_CONNECTIONS}) as embedded:
            yield PrivatePostgres(embedded)
        return
    with temporary_postgres15() as server:
        yield server


@contextmanager
def temporary_postgres15(
    address: str = "127.0.0.1", networks: Sequence[str] = ()
) -> Iterator[Postgres15]:
    """A started server on an address of this machine, for clients of these networks too."""
    with temporary_folder() as folder:
        account = _account()
        if account:
            os.chown(folder, account["user"], account["group"])
        server = Postgres15(folder, address)
        server.make()
        for network in networks:
            server.admit(network)
        blocking(server.restart())
        try:
            yield server
        finally:
            server.stop()


def _account() -> dict[str, Any]:
    """Who runs it: PostgreSQL refuses root, and Debian's package has a user for it."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
