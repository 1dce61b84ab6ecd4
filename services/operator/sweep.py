"""Compares what stands in the services with what is in the apiserver: whatever a watch may have
missed, in either direction.

Decides the order: owners first, then resources. So an owner without a resource is one whose
resource is gone, never one whose resource was not there yet.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from fased.core.errors import FasedError
from fased.core.names import Namespace
from fased.core.resources import Key, Kind, read_resource, uid_of
from fased.process import wait_or_stop
from services.operator.keepers import Keeper
from services.operator.known import Known
from services.operator.kubernetes import Kubernetes
from services.operator.reconciling import Reconciler

# A sweep that was asked for waits a moment for more reasons.
SETTLE_S = 1.0

logger = structlog.get_logger(__name__)


class Sweep:
    """Sweeps by itself, and soon after it was asked to."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        known: Known,
        keepers: Mapping[Kind, Keeper],
        reconciler: Reconciler,
        namespaces: Sequence[str],
    ) -> None:
        """`namespaces` are those that are served, none for all."""
        self._kubernetes = kubernetes
        self._known = known
        self._keepers = keepers
        self._reconciler = reconciler
        self._namespaces = namespaces
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Sweep soon."""
        self._asked.set()

    async def run(self, period_s: float) -> None:
        """Sweep at once and each `period_s` seconds, until cancelled."""
        is_first = True
        while True:
            self._asked.clear()
            try:
                # At the start the watches are about to tell of everything.
                await self.sweep(fetch=not is_first)
                is_first = False
            except FasedError as exc:
                logger.warning("sweep_failed", reason=exc.reason, message=exc.message)
                await asyncio.sleep(SETTLE_S)
                continue
            if await wait_or_stop(self._asked, period_s):
                await asyncio.sleep(SETTLE_S)

    async def sweep(self, *, fetch: bool) -> None:
        """One comparison of every kind, reading what was missed if `fetch`; raises FasedError."""
        for kind, keeper in self._keepers.items():
            owners = {
                Key(kind, Namespace(owner.namespace), "", uid_of(owner.managed_by))
                async for owner in keeper.owners()
                if not self._namespaces or owner.namespace in self._namespaces
            }
            before = {resource.key for resource in self._known.all(kind)}
            seen = await self._seen(kind)
            for key in (owners | before) - seen.keys():
                self._reconciler.lose(key)
            if fetch:
                await self._fetch_missed(seen)

    async def is_gone(self, kind: Kind, namespace: Namespace, uid: str) -> bool:
        """Whether no resource of a kind and namespace has this uid; raises FasedError."""
        async for metadata in self._kubernetes.list_metadata(kind, namespace):
            if metadata["uid"] == uid:
                return False
        return True

    async def _seen(self, kind: Kind) -> dict[Key, int]:
        """The resources that are there, with their generations."""
        seen = {}
        for namespace in self._namespaces or ("",):
            async for metadata in self._kubernetes.list_metadata(kind, namespace):
                key = Key(kind, metadata["namespace"], metadata["name"], metadata["uid"])
                seen[key] = int(metadata.get("generation", 0))
        return seen

    async def _fetch_missed(self, seen: Mapping[Key, int]) -> None:
        """Read what no watch has told of."""
        for key, generation in seen.items():
            known = self._known.get(key)
            if known is not None and known.generation >= generation:
                continue
            body = await self._kubernetes.find(key.kind, key.namespace, key.name)
            if body is not None:
                self._reconciler.see(read_resource(key.kind, body), is_listed=False)
