"""One look at one resource, whatever its kind: apply, observe, write the status.

Decides what an answer of a service means for the resource: refused for good, or tried again; and
when it is looked at again by itself. What is said of a resource is decided in `core`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import structlog

from fased.core import resource_status
from fased.core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FasedError,
    InvalidArgument,
    NotFound,
)
from fased.core.findings import Finding
from fased.core.names import Namespace
from fased.core.resource_status import Observed
from fased.core.resources import Key, Kind, Resource, named, uid_of
from fased.telemetry import metrics
from services.operator.keepers import CALL_TIMEOUT_S, Keeper
from services.operator.known import Change, Known
from services.operator.lease import Term
from services.operator.statuses import Statuses
from services.operator.work_queue import WorkQueue

# What waits for something is applied again by itself, each time later: mostly, it is told before,
# but what it waits for may have come while it was applied.
FIRST_REAPPLY_S = 1.0
REAPPLY_S = 60.0

_REFUSALS = (InvalidArgument, FailedPrecondition, AlreadyExists)
logger = structlog.get_logger(__name__)

# Says whether no resource of a kind and namespace has this uid.
IsGone = Callable[[Kind, Namespace, str], Awaitable[bool]]


class Reconciler:
    """Reconciles the keys of a queue, which it also fills."""

    def __init__(
        self,
        known: Known,
        queue: WorkQueue[Key],
        keepers: Mapping[Kind, Keeper],
        statuses: Statuses,
        term: Term,
        is_gone: IsGone,
        *,
        unready_poll_s: float,
    ) -> None:
        self._known = known
        self._queue = queue
        self._keepers = keepers
        self._statuses = statuses
        self._term = term
        self._is_gone = is_gone
        self._unready_poll_s = unready_poll_s
        self._to_apply: set[Key] = set()
        # Why a resource was refused, None when it was accepted.
        self._verdicts: dict[Key, Finding | None] = {}
        # How often a resource was found to wait since it last was Ready.
        self._waits: dict[Key, int] = {}

    def wake(self, key: Key, apply: bool) -> None:
        """Look at a resource again: apply it, or only see what is to be said of it."""
        if apply:
            self._to_apply.add(key)
        self._queue.add(key, urgent=apply)
        metrics.reconciles_waiting.set(len(self._queue))

    def see(self, resource: Resource, *, is_listed: bool) -> None:
        """A resource is as it says."""
        change = self._known.put(resource, is_listed=is_listed)
        if change is not Change.NOTHING:
            self.wake(resource.key, change is Change.ASKS)

    def lose(self, key: Key) -> None:
        """A resource is gone; those that it stood in the way of are tried again."""
        self._known.drop(key)
        self.wake(key, True)
        for resource in self._known.of(key.kind, key.namespace):
            if self._verdicts.get(resource.key) is not None:
                self.wake(resource.key, True)

    async def reconcile(self, key: Key) -> None:
        """Make a resource stand, or go; raises FasedError for what is tried again."""
        began = time.perf_counter()
        outcome = "put_off"
        try:
            resource = self._known.get(key)
            if resource is None:
                await self._remove(key)
                outcome = "removed"
            else:
                outcome = await self._reconcile(resource)
        finally:
            metrics.reconciles.labels(key.kind, outcome).inc()
            metrics.reconcile_seconds.labels(key.kind).observe(time.perf_counter() - began)
            metrics.reconciles_waiting.set(len(self._queue))

    async def _reconcile(self, resource: Resource) -> str:
        key = resource.key
        keeper = self._keepers[key.kind]
        refusal = await self._applied(keeper, resource)
        # A status that was written meanwhile is what the next one is compared with.
        resource = self._current(resource)
        if refusal is not None:
            await self._statuses.write(resource, resource_status.refused(keeper.types, refusal))
            self._apply_after(key, REAPPLY_S)
            return "refused"
        observed = await self._observed(keeper, resource)
        await self._statuses.write(resource, observed)
        if observed.is_ready:
            self._waits.pop(key, None)
            return "ready"
        if key.kind in (Kind.CHANNEL, Kind.MODEL_PROVIDER):
            self._queue.add_after(key, self._unready_poll_s)
            return "unready"
        waited = self._waits[key] = self._waits.get(key, 0) + 1
        self._apply_after(key, min(REAPPLY_S, FIRST_REAPPLY_S * 2 ** min(waited - 1, 10)))
        return "unready"

    def _current(self, resource: Resource) -> Resource:
        now = self._known.get(resource.key)
        return now if now is not None and now.asks_the_same(resource) else resource

    def _apply_after(self, key: Key, delay_s: float) -> None:
        self._to_apply.add(key)
        self._queue.add_after(key, delay_s)

    async def _applied(self, keeper: Keeper, resource: Resource) -> Finding | None:
        """Apply a resource that asks for it; gives why it is refused, None when it is not."""
        key = resource.key
        if key in self._verdicts and key not in self._to_apply:
            return self._verdicts[key]
        self._to_apply.discard(key)
        try:
            verdict = await self._apply(keeper, resource)
        except BaseException:
            self._to_apply.add(key)
            raise
        self._verdicts[key] = verdict
        return verdict

    async def _apply(self, keeper: Keeper, resource: Resource) -> Finding | None:
        """Apply a resource, over the rows of one that is gone; gives why it is refused."""
        try:
            await self._write(keeper.apply(resource))
        except _REFUSALS as exc:
            owner = uid_of(exc.metadata.get("managed_by", ""))
            if exc.reason != "MANAGED_ELSEWHERE" or not owner:
                return _refusal(exc)
            key = resource.key
            if not await self._is_gone(key.kind, key.namespace, owner):
                return self._owned(resource, owner, exc)
            logger.info("rows_taken_over", kind=key.kind, name=key.name, from_uid=owner)
        else:
            return None
        await self._write(keeper.withdraw(Key(key.kind, key.namespace, "", owner)))
        try:
            await self._write(keeper.apply(resource))
        except _REFUSALS as exc:
            return _refusal(exc)
        return None

    async def _write(self, work: Coroutine[None, None, None]) -> None:
        """Do what changes rows, within what is left of the term; raises DeadlineExceeded."""
        try:
            self._term.check()
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await work
        except TimeoutError as exc:
            raise DeadlineExceeded("the services are slow", reason="DEADLINE_EXCEEDED") from exc
        finally:
            work.close()

    async def _observed(self, keeper: Keeper, resource: Resource) -> Observed:
        try:
            return await keeper.observe(resource)
        except NotFound:
            # Its rows are gone: somebody restored a database, or withdrew them by mistake.
            self._to_apply.add(resource.key)
            raise

    async def _remove(self, key: Key) -> None:
        await self._write(self._keepers[key.kind].withdraw(key))
        self._verdicts.pop(key, None)
        self._waits.pop(key, None)
        self._to_apply.discard(key)

    def _owned(self, resource: Resource, owner: str, exc: FasedError) -> Finding:
        """A refusal that names the other resource as people do."""
        key = resource.key
        others = self._known.of(key.kind, key.namespace)
        name = next((each.key.name for each in others if each.key.uid == owner), "")
        message = named(exc.message, owner, key.kind, name) if name else exc.message
        return Finding(exc.reason, message)


def _refusal(exc: FasedError) -> Finding:
    return Finding(exc.reason, exc.message, exc.metadata.get("setup_target", ""))
