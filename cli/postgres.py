"""The embedded PostgreSQL: start or adopt it, keep it, stop it. Where it lies: `postgres_home`.

The server outlives a kill -9 of ours, and the next start on the same folder adopts it. It listens
on a Unix socket only, and lets in only the operating system user who started it.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

from cli import postgres_home, postmaster, statefolder
from cli.postgres_home import Home
from fased.core import errors

START_TIMEOUT_S = 120.0  # recovery of a large log after a crash
STOP_TIMEOUT_S = 30.0
ADOPT_TIMEOUT_S = 2.0  # from the server's pid file to its open socket
ORPHANS_TIMEOUT_S = 10.0  # until the children of a killed server have noticed
POLL_PERIOD_S = 0.01
SUPERVISE_PERIOD_S = 0.5
RESTART_DELAYS_S = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0)
LOG_BYTES_MAX = 8 * 2**20

_INITDB = (
    *("--username", postgres_home.ROLE, "--auth", "peer", "--encoding", "UTF8"),
    # The same order of text on every machine, whatever its locales.
    *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
)
_ORPHANS = "pre-existing shared memory block"
_TELLING = re.compile(r"(?:FATAL|PANIC|ERROR|error): +(.+)")

logger = structlog.get_logger(__name__)


class Server:
    """One PostgreSQL server, of whom `home` says where it lives. Bound to no event loop.

    `overrides` are PostgreSQL settings over `postgres_home.SETTINGS`.
    """

    def __init__(self, home: Home, overrides: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.pid: int | None = None
        self._overrides = overrides or {}
        self._sockets = home.sockets
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """For asyncpg as it is; SQLAlchemy takes it with the driver `postgresql+asyncpg`."""
        role, database = postgres_home.ROLE, postgres_home.DATABASE
        where = f"host={quote(str(self._sockets))}&port={postgres_home.PORT}"
        return f"postgresql://{role}@/{database}?{where}"

    @property
    def is_adopted(self) -> bool:
        """True when an earlier process of ours started this server."""
        return self.pid is not None and self._child is None

    def is_running(self) -> bool:
        """True while the server's first process lives."""
        if self._child is not None:
            return self._child.poll() is None
        return (
            self.pid is not None
            and postmaster.is_alive(self.pid)
            and postmaster.pid_file(self.home.data).exists()
        )

    async def start(self) -> None:
        """Adopt the server that lives here, or start it; make its database the first time.

        Returns when it takes connections. Raises a `FasedError` of one line.
        """
        started_at = time.monotonic()
        self._child = self.pid = None
        try:
            if not await self._adopt():
                await _make_data(self.home)
                postgres_home.write_configuration(self.home, self._overrides)
                self._sockets = self.home.sockets
                await self._launch()
        except OSError as exc:
            raise statefolder.file_error(exc, Path(exc.filename or self.home.path)) from exc
        logger.info(
            "postgres_started",
            pid=self.pid,
            adopted=self.is_adopted,
            seconds=round(time.monotonic() - started_at, 3),
        )

    async def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends open transactions (fast), SIGQUIT leaves recovery (immediate)."""
        if self.pid is not None and self.is_running():
            await self._end(self.pid, how)
            logger.info("postgres_stopped", pid=self.pid)
        self._child = self.pid = None
        if self._sockets.parent != self.home.path:
            with suppress(OSError):
                self._sockets.rmdir()

    async def supervise(self) -> None:
        """Run beside the services: start the server again when it dies, and bound its log.

        Raises the last `FasedError` when it cannot be started for half a minute.
        """
        while True:
            await asyncio.sleep(SUPERVISE_PERIOD_S)
            if not self.is_running():
                logger.error("postgres_died", pid=self.pid)
                await self._start_again()
            bound_log(self.home.log)

    async def _start_again(self) -> None:
        for last, delay_s in enumerate(RESTART_DELAYS_S, start=1):
            await asyncio.sleep(delay_s)
            try:
                return await self.start()
            except errors.FasedError as exc:
                logger.warning("postgres_start_failed", reason=exc.reason, error=exc.message)
                if last == len(RESTART_DELAYS_S):
                    raise
        return None

    async def _adopt(self) -> bool:
        """Take over the server of these very data; forget the pid of one that is gone.

        A copied folder brings the pid file of its origin, and a pid may be another program's by
        now; so the file must name our data, and the kernel must name that pid as the process that
        listens on the socket. PostgreSQL's own lock on shared memory guards against what we miss.
        """
        found = postmaster.read(self.home.data)
        give_up_at = time.monotonic() + ADOPT_TIMEOUT_S
        while found is not None and found.data == self.home.data and postmaster.is_alive(found.pid):
            if postmaster.listener_pid(found) == found.pid:
                self.pid, self._sockets = found.pid, found.sockets
                await self._comes_up(log_at=0)
                return True
            if time.monotonic() > give_up_at or found.pid in (os.getpid(), os.getppid()):
                break
            await asyncio.sleep(POLL_PERIOD_S)
            found = postmaster.read(self.home.data)
        postmaster.forget(self.home.data, self.home.sockets)
        return False

    async def _launch(self) -> None:
        give_up_at = time.monotonic() + ORPHANS_TIMEOUT_S
        while True:
            log_at = self._spawn()
            try:
                return await self._comes_up(log_at)
            except errors.Aborted:
                if time.monotonic() > give_up_at:
                    raise
            await asyncio.sleep(0.1)

    def _spawn(self) -> int:
        """Start the program; gives the size that its log had before."""
        bound_log(self.home.log)
        file = f"config_file={postgres_home.configuration_file(self.home)}"
        with open(self.home.log, "ab", opener=_open_private) as log:
            log_at = log.tell()
            self._child = subprocess.Popen(
                [self.home.binaries / "postgres", "-D", self.home.data, "-c", file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **process_options(self.home),
            )
        self.pid = self._child.pid
        return log_at

    async def _comes_up(self, log_at: int) -> None:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up_at:
            if not self.is_running():
                said = self.home.log.read_bytes()[log_at:].decode(errors="replace")
                raise _failure(said, self.home)
            found = postmaster.read(self.home.data)
            if found is not None and found.pid == self.pid and found.status == "ready":
                return
            await asyncio.sleep(POLL_PERIOD_S)
        raise errors.DeadlineExceeded(
            f"PostgreSQL (pid {self.pid}) is not ready after {START_TIMEOUT_S:.0f} s:"
            f" see {self.home.log}",
            reason="POSTGRES_NOT_READY",
        )

    async def _end(self, pid: int, how: signal.Signals) -> None:
        for signum in (how, signal.SIGQUIT):
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
            give_up_at = time.monotonic() + STOP_TIMEOUT_S
            while time.monotonic() < give_up_at:
                if not self.is_running():
                    return
                await asyncio.sleep(POLL_PERIOD_S)
        raise errors.DeadlineExceeded(
            f"PostgreSQL (pid {pid}) does not stop", reason="POSTGRES_NOT_STOPPED"
        )


@asynccontextmanager
async def running(
    folder: statefolder.StateFolder, *, system_dir: Path = postgres_home.SYSTEM_DIR
) -> AsyncIterator[Server]:
    """The server of a state folder, started or adopted; stopped when the block ends."""
    home = postgres_home.place(folder, system_dir)
    # A copy of root's state folder points to the same home: this lock tells them apart.
    with statefolder.lock_file(home.path / "lock", home.path):
        server = Server(home)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


def bound_log(path: Path) -> None:
    """Set a log that has grown too long aside as `<name>.1`; the server goes on appending."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


async def _make_data(home: Home) -> None:
    """Make the data directory beside its place, and move it there when it is whole."""
    if home.data.is_dir():
        return _check_version(home)
    fresh = home.path / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    postgres_home.make_private(fresh, home.account)
    try:
        await _run(home, "initdb", "--pgdata", str(fresh), *_INITDB)
        statement = f"CREATE DATABASE {postgres_home.DATABASE};\n"
        await _run(home, "postgres", "--single", "-D", str(fresh), "postgres", stdin=statement)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.rename(home.data)
    fd = os.open(home.path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return None


def _check_version(home: Home) -> None:
    version = (home.data / "PG_VERSION").read_text().strip()
    if version != postgres_home.MAJOR_VERSION:
        raise errors.FailedPrecondition(
            f"{home.data} was made by PostgreSQL {version}, and this is"
            f" {postgres_home.MAJOR_VERSION}: dump it with the one and restore it with the other",
            reason="POSTGRES_VERSION_MISMATCH",
        )


async def _run(home: Home, program: str, *args: str, stdin: str = "") -> None:
    child = await asyncio.create_subprocess_exec(
        str(home.binaries / program),
        *args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **process_options(home),
    )
    output, _ = await child.communicate(stdin.encode())
    said = output.decode(errors="replace")
    # The single-user server reports a failed statement and still ends well.
    if child.returncode != 0 or "ERROR:" in said:
        raise _failure(said, home)


def process_options(home: Home) -> dict[str, Any]:
    options: dict[str, Any] = {
        "cwd": home.path,
        "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        "umask": 0o077,
        # Ctrl-C in the terminal is for us: the server ends after the services.
        "start_new_session": True,
    }
    if home.account is not None:
        options |= {"user": home.account.uid, "group": home.account.gid, "extra_groups": []}
    return options


def _failure(said: str, home: Home) -> errors.FasedError:
    """The one line for a server that ended, from what it wrote."""
    if "No space left on device" in said:
        return errors.ResourceExhausted(
            f"PostgreSQL found no space left on the disk of {home.path}", reason="DISK_FULL"
        )
    telling = _TELLING.search(said)
    line = telling[1] if telling else (said.splitlines() or ["it ended without a word"])[-1]
    message = f"PostgreSQL did not start: {line.strip()} (log: {home.log})"
    if _ORPHANS in said:
        return errors.Aborted(message, reason="POSTGRES_STILL_IN_USE")
    if "Permission denied" in said:
        return errors.PermissionDenied(message, reason="FOLDER_NOT_WRITABLE")
    return errors.Unavailable(message, reason="POSTGRES_NOT_STARTED")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
