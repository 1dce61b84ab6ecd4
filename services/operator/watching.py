"""The watches on our resources, by kopf. Decides how kopf runs and what is taken from it: each
change of an object, as an event; kopf itself writes nothing.

kopf runs on a thread and loop of its own: at its end it cancels every task of its loop.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import kopf
import structlog

from fased.core.errors import FasedError
from fased.core.resources import GROUP, VERSION, Kind
from fased.process import wait_or_stop
from services.operator import kubernetes
from services.operator.kubernetes import Kubernetes

RETRY_S = 2.0
# Tries of one listing; then kopf begins anew by itself.
_BACKOFFS = (0.5, 1, 1, 2, 2)

logger = structlog.get_logger(__name__)

# Told the kind of change (None in a list, ADDED, MODIFIED, DELETED), the kind and the object.
OnEvent = Callable[[str | None, Kind, dict[str, Any]], None]


async def watch(
    client: Kubernetes, namespaces: Sequence[str], on_event: OnEvent, stop: asyncio.Event
) -> None:
    """Tell of every change of our resources, in these namespaces or in all, until `stop`.

    All that is there is told at the beginning, and again after a watch that broke.
    """
    while not stop.is_set():
        if await _is_served(client):
            await _run(namespaces, on_event, stop)
        await wait_or_stop(stop, RETRY_S)


async def _is_served(client: Kubernetes) -> bool:
    """Whether the apiserver knows all of our kinds: kopf looks for them once, at its start."""
    try:
        found = await client.get(f"/apis/{GROUP}/{VERSION}")
    except FasedError as exc:
        logger.warning("resources_not_served", reason=exc.reason, message=exc.message)
        return False
    missing = {kind.plural for kind in Kind} - {each["name"] for each in found["resources"]}
    if missing:
        logger.warning("resources_not_served", missing=sorted(missing))
    return not missing


async def _run(namespaces: Sequence[str], on_event: OnEvent, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    ending = threading.Event()

    def tell(type: str | None, kind: Kind, body: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(on_event, type, kind, body)

    operator = kopf.operator(
        registry=_registry(tell),
        settings=_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=ending,
    )
    running = asyncio.create_task(asyncio.to_thread(asyncio.run, operator))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.set()
        stopping.cancel()
        await asyncio.wait({running})
    if (failure := running.exception()) is not None:
        logger.error("watches_ended", error=str(failure), kind=type(failure).__name__)


def _registry(tell: OnEvent) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: object) -> kopf.ConnectionInfo:
        return kubernetes.login()

    for kind in Kind:
        kopf.on.event(GROUP, VERSION, kind.plural, registry=registry)(_listener(kind, tell))
    return registry


def _listener(kind: Kind, tell: OnEvent) -> Callable[..., Coroutine[None, None, None]]:
    async def on_event(event: Any, **_: object) -> None:
        tell(event["type"], kind, event["object"])

    # kopf tells handlers apart by their names.
    on_event.__qualname__ = on_event.__name__ = f"on_{kind.plural}"
    return on_event


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.error_backoffs = _BACKOFFS
    settings.watching.chunk_size = kubernetes.LIST_SIZE
    settings.persistence.diffbase_storage = _NoLastSeen()
    return settings


class _NoLastSeen(kopf.DiffBaseStorage):
    """Keeps no copy of what was seen: our handlers are told of events, not of differences.

    kopf's own copies each object, with all its managed fields, once an event.
    """

    def build(self, **_: Any) -> Any:
        """Nothing is compared."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Nothing is kept."""
