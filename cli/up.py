"""`fased up`: every service in one process, on the embedded PostgreSQL and its log bus.

Decides what runs together and in which order; what a service does is its own.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc

from cli import config_file, postgres, postgres_home, statefolder
from cli.config_file import ConfigFile
from fased.alone import traced
from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.types.v1 import access_pb2
from fased.bus.pglog import open_pglog
from fased.core.errors import AlreadyExists
from fased.core.names import DEFAULT_AGENT, DEFAULT_NAMESPACE
from fased.process import Host, OpenService, Service, serve, stopping_on_signals
from fased.rpc.client import open_client
from fased.settings import SERVICES
from fased.store import migrate
from fased.store.database import open_database
from fased.store.notify import open_hints
from fased.telemetry import logging
from services.channels import service as channels
from services.channels.settings import Settings as ChannelsSettings
from services.executor import service as executor
from services.executor.settings import Settings as ExecutorSettings
from services.gateway import service as gateway
from services.gateway.settings import Settings as GatewaySettings
from services.policy import service as policy
from services.router import service as router
from services.scheduler import service as scheduler
from services.scheduler.settings import Settings as SchedulerSettings

GATEWAY_FILE = "gateway.json"
TOKEN_FILE = "token"
TOKEN_ID = "console"
PARENT = f"namespaces/{DEFAULT_NAMESPACE}"
GRACE_S = 5.0
# What an address of a Unix socket holds on every platform, less a NUL.
_SOCKET_PATH_BYTES_MAX = 103

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chose. `port` 0 takes a free one."""

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 18789
    log_level: str = "warning"


def up(options: Options) -> None:
    """Run until stopped; on SIGHUP start again with the same words.

    Raises FasedError with one sentence for everything that keeps it from starting.
    """
    started_at = time.monotonic()
    again = asyncio.run(_run(options, started_at))
    if again:
        os.execv(sys.executable, [sys.executable, "-m", "cli.main", *sys.argv[1:]])


async def _run(options: Options, started_at: float) -> bool:
    logging.configure("fased", level=options.log_level.upper(), console=sys.stderr.isatty())
    stop, restart = asyncio.Event(), asyncio.Event()
    config = config_file.read(options.state_dir / config_file.NAME)
    with statefolder.locked(options.state_dir) as folder:
        async with (
            stopping_on_signals(stop),
            traced("fased", os.environ.get("FASED_OTLP_ENDPOINT", "")),
            postgres.running(folder, system_dir=_system_dir()) as server,
        ):
            _restart_on_hangup(restart, stop)
            await migrate.upgrade(server.dsn)
            with _socket_dir(folder) as sockets:
                await _serve(options, config, folder, server, sockets, stop, started_at)
    return restart.is_set()


async def _serve(
    options: Options,
    config: ConfigFile,
    folder: Path,
    server: postgres.Server,
    sockets: Path,
    stop: asyncio.Event,
    started_at: float,
) -> None:
    listen, public = f"unix:{sockets}/fased.sock", f"unix:{sockets}/gateway.sock"
    service_token = secrets.token_urlsafe(32)
    bound_ports: list[int] = []

    def settings(cls: Callable[..., S], **more: object) -> S:
        """A service's settings: ours where this process decides, else the environment's."""
        addresses = {f"{name}_address": listen for name in SERVICES if name != "gateway"}
        ours = {
            "database_url": server.dsn,
            "service_token": service_token,
            "listen": listen,
            "grace_s": GRACE_S,
        }
        return cls(**ours, **addresses, **more)

    doors = settings(
        GatewaySettings, http_host=options.host, http_port=options.port, grpc_listen=public
    )
    services: list[OpenService] = [
        policy.open_service,
        router.open_service,
        partial(scheduler.open_service, settings=settings(SchedulerSettings, one_process=True)),
        partial(channels.open_service, settings=settings(ChannelsSettings, one_process=True)),
        partial(executor.open_service, settings=settings(ExecutorSettings)),
        partial(gateway.open_service, settings=doors, bound=bound_ports.append),
        partial(_postgres_service, server),
    ]
    token = _console_token(folder)
    async with (
        open_database(server.dsn) as database,
        open_hints(server.dsn) as hints,
        open_pglog(server.dsn, hints) as bus,
        _client(listen, service_token) as channel,
    ):
        # The state folder is ours alone: members of a process that was killed are gone for sure.
        await bus.evict_members()
        host = Host(database, bus, hints, lambda name: channel, stop)

        async def started() -> None:
            odd = await _prepare(channel, config, token)
            url = f"http://{options.host}:{bound_ports[0]}"
            _write_gateway_file(folder, url, public, token)
            _greet(url, token, folder, config, odd, time.monotonic() - started_at)

        await serve(
            host,
            services,
            listen=listen,
            service_token=service_token,
            grace_s=GRACE_S,
            started=started,
        )
    (folder / GATEWAY_FILE).unlink(missing_ok=True)


async def _prepare(channel: grpc.aio.Channel, config: ConfigFile, token: str) -> tuple[str, ...]:
    """Let the console's token, the file and a first Agent stand; gives what is odd of bindings."""
    tokens = policy_service_pb2_grpc.TokenServiceStub(channel)
    await tokens.EnsureToken(
        policy_pb.EnsureTokenRequest(
            parent=PARENT,
            token_id=TOKEN_ID,
            role=access_pb2.ROLE_ADMIN,
            namespaces=["*"],
            secret=token,
        )
    )
    odd = await config_file.apply(channel, config)
    agents = policy_service_pb2_grpc.AgentServiceStub(channel)
    listed = await agents.ListAgents(policy_pb.ListAgentsRequest(parent=PARENT, page_size=1))
    if not listed.agents:
        try:
            await agents.CreateAgent(
                policy_pb.CreateAgentRequest(parent=PARENT, agent_id=DEFAULT_AGENT)
            )
        except AlreadyExists:
            return odd
    return odd


def _restart_on_hangup(restart: asyncio.Event, stop: asyncio.Event) -> None:
    def on_hangup() -> None:
        restart.set()
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


@asynccontextmanager
async def _postgres_service(server: postgres.Server, host: Host) -> AsyncIterator[Service]:
    async def supervise() -> None:
        watching = asyncio.create_task(server.supervise())
        stopped = asyncio.create_task(host.stop.wait())
        done, pending = await asyncio.wait({watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    yield Service("postgres", loops=(supervise,))


@asynccontextmanager
async def _client(listen: str, service_token: str) -> AsyncIterator[grpc.aio.Channel]:
    channel, client = open_client(listen, service_token)
    try:
        yield channel
    finally:
        await client.close()


@contextmanager
def _socket_dir(folder: Path) -> Iterator[Path]:
    # In the state folder, unless that makes a socket's address too long for the kernel.
    path = folder / "run"
    if len(os.fsencode(path / "gateway.sock")) <= _SOCKET_PATH_BYTES_MAX:
        path.mkdir(mode=0o700, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fased-") as temporary:
        yield Path(temporary)


def _system_dir() -> Path:
    return Path(os.environ.get("FASED_POSTGRES_SYSTEM_DIR", postgres_home.SYSTEM_DIR))


def _greet(
    url: str,
    token: str,
    folder: Path,
    config: ConfigFile,
    odd: tuple[str, ...],
    took_s: float,
) -> None:
    # A fragment never leaves the browser: the token is in no request line and in no log.
    print(f"Fased is up after {took_s:.1f} s.")
    print(f"  Chat      {url}/#token={token}")
    print(f"  State     {folder}")
    print(f"  Config    {config.path if config.exists else f'{config.path} (none yet)'}")
    for warning in (*config.warnings, *odd):
        print(f"  Warning   {warning}")
    print("  Stop with Ctrl-C.", flush=True)


def _console_token(folder: Path) -> str:
    path = folder / TOKEN_FILE
    if path.exists() and (token := path.read_text(encoding="utf-8").strip()):
        return token
    token = "fased_" + secrets.token_urlsafe(32)
    _write_private(path, token + "\n")
    return token


def _write_gateway_file(folder: Path, url: str, public: str, token: str) -> None:
    content = {
        "grpc": public,
        "http": url,
        "token": token,
        "pid": os.getpid(),
        "started": time.time(),
    }
    _write_private(folder / GATEWAY_FILE, json.dumps(content, indent=2) + "\n")


def _write_private(path: Path, text: str) -> None:
    # Written beside and renamed: a reader sees the old file or the new one, never half of one.
    beside = path.with_suffix(".new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)
