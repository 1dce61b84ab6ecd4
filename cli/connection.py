"""The gateway that a command asks. Decides how it is found and what counts as not reached."""

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc

from cli import kubectl
from cli.failures import GatewayUnreachable
from fased.core.errors import FasedError, Unauthenticated, Unavailable
from fased.core.names import resource_name
from fased.rpc.client import open_client

GATEWAY_FILE = "gateway.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a gateway listens. `pid`, `started` and `http` are known of a local one only."""

    grpc: str
    token: str = field(repr=False)
    http: str = ""
    pid: int = 0
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class Connection:
    """A gateway as one command sees it; its stubs are made on `channel`."""

    channel: grpc.aio.Channel
    namespace: str

    @property
    def parent(self) -> str:
        """The namespace's resource name."""
        return f"namespaces/{self.namespace}"

    def name(self, collection: str, resource_id: str | int) -> str:
        """The resource name of something in the namespace."""
        return resource_name(self.namespace, collection, resource_id)


def run(
    namespace: str, work: Callable[[Connection], Awaitable[T]], gateway: Gateway | None = None
) -> T:
    """The result of `work`, done over one connection to `gateway`, or to the one found.

    Raises GatewayUnreachable when nobody answers there, and what the services refuse with.
    """
    return asyncio.run(_run(namespace, work, gateway or find(os.environ)))


async def _run(namespace: str, work: Callable[[Connection], Awaitable[T]], gateway: Gateway) -> T:
    channel, client = open_client(gateway.grpc, gateway.token)
    try:
        return await work(Connection(channel, namespace))
    except FasedError as error:
        if not is_lost(error):
            raise
        raise unreachable(f"no gateway answers at {gateway.grpc}") from error
    finally:
        await client.close()


def is_lost(error: FasedError) -> bool:
    """Whether nobody answered at all; a service that is not available gives its own reason."""
    return isinstance(error, Unavailable) and error.reason == "UNAVAILABLE"


def new_request_id() -> str:
    """A request id: the same call sent twice under one has one effect."""
    return str(uuid.uuid4())


def state_dir(environment: Mapping[str, str]) -> Path:
    """The state folder of this person."""
    given = environment.get("FASED_STATE_DIR")
    return Path(given).expanduser() if given else Path.home() / ".fased"


def find(environment: Mapping[str, str]) -> Gateway:
    """The gateway that FASED_GATEWAY names, else the cluster's for kubectl's plugin, else the one
    that runs on the state folder.

    FASED_TOKEN stands for all. Raises GatewayUnreachable when there is none, Unauthenticated
    when FASED_GATEWAY comes without a token.
    """
    address, token = environment.get("FASED_GATEWAY"), environment.get("FASED_TOKEN")
    if not address and environment.get(kubectl.MARK):
        return Gateway(*kubectl.reach())
    if not address:
        local = read_gateway_file(state_dir(environment))
        return Gateway(local.grpc, token or local.token, local.http, local.pid, local.started)
    if not token:
        raise Unauthenticated(
            "FASED_GATEWAY is set, but no token",
            reason="TOKEN_MISSING",
            metadata={"field": "FASED_TOKEN"},
        )
    return Gateway(address, token)


def read_gateway_file(folder: Path) -> Gateway:
    """What `fased up` wrote about itself; raises GatewayUnreachable when it is not running."""
    path = folder / GATEWAY_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Gateway(
            grpc=str(content["grpc"]),
            token=str(content["token"]),
            http=str(content.get("http", "")),
            pid=int(content.get("pid", 0)),
            started=float(content.get("started", 0)),
        )
    except FileNotFoundError as exc:
        raise unreachable(f"no gateway runs on {folder}") from exc
    except OSError as exc:
        raise FasedError(
            f"cannot read {path}: {exc.strerror or exc}",
            reason="GATEWAY_FILE_UNREADABLE",
            metadata={"field": "FASED_STATE_DIR"},
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise unreachable(f"{path} names no gateway") from exc


def unreachable(why: str) -> GatewayUnreachable:
    """The error for `why`, with what to do about it."""
    return GatewayUnreachable(
        why,
        reason="GATEWAY_UNREACHABLE",
        metadata={"next": "start it with fased up or make run, or set FASED_GATEWAY"},
    )
