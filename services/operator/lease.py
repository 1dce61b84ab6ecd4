"""Which replica is the active one, by a Lease of `coordination.k8s.io`.

Decides when a replica may begin and when it must have stopped. A replica that follows watches the
Lease by its own clock: no two clocks are compared. The active one stops by itself before another
may begin: `Term.check` stands before every write, each write has a deadline of its own, and both
together are shorter than the Lease.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from fased.core.errors import Aborted, FasedError, NotFound
from fased.process import wait_or_stop
from fased.telemetry import metrics
from services.operator.kubernetes import TIMEOUT_S, Body, Kubernetes

# Parts of the Lease's duration: how often it is renewed.
_RENEWALS = 5

logger = structlog.get_logger(__name__)


class Term:
    """The time in which this replica is the active one; it grows with each renewal."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.ended = asyncio.Event()

    def extend(self, until: float) -> None:
        """The Lease was renewed."""
        self._until = until

    def end(self) -> None:
        """No write begins from now on."""
        self._until = float("-inf")
        self.ended.set()

    @property
    def left_s(self) -> float:
        """Seconds in which a write may still begin."""
        return self._until - _now()

    def check(self) -> None:
        """Raises Aborted (LEASE_LOST) when a write might meet those of another replica."""
        if self.left_s <= 0:
            raise Aborted("another replica may be the active one", reason="LEASE_LOST")


class Lease:
    """One Lease, and this replica's place in it."""

    def __init__(
        self, kubernetes: Kubernetes, namespace: str, name: str, identity: str, lease_s: float
    ) -> None:
        self._kubernetes = kubernetes
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_s = lease_s
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0

    async def run(self, stop: asyncio.Event, serve: Callable[[Term], Awaitable[None]]) -> None:
        """Run `serve` whenever this replica is the active one, until `stop`.

        `serve` is cancelled at the end of its term, and awaited before the Lease is given back.
        """
        while not stop.is_set():
            held = await self._acquire()
            if held is None:
                await wait_or_stop(stop, self._lease_s / _RENEWALS * random.uniform(0.8, 1.2))
                continue
            began, body = held
            await self._serve(stop, serve, Term(began + self._writes_s), body)

    @property
    def _writes_s(self) -> float:
        # A write that begins at the last moment has ended when another may begin.
        return self._lease_s - 1.25 * TIMEOUT_S

    async def _serve(
        self,
        stop: asyncio.Event,
        serve: Callable[[Term], Awaitable[None]],
        term: Term,
        body: Body,
    ) -> None:
        logger.info("lease_acquired", identity=self._identity)
        metrics.operator_active.set(1)
        serving = asyncio.ensure_future(serve(term))
        renewing = asyncio.create_task(self._renew(stop, term, body))
        try:
            await asyncio.wait({serving, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            term.end()
            metrics.operator_active.set(0)
            serving.cancel()
            # Waited for, so that nothing of this term is under way in the next.
            await asyncio.wait({serving})
            renewing.cancel()
            await asyncio.wait({renewing})
        if not renewing.cancelled() and (last := renewing.result()) is not None:
            await self._release(last)
        logger.info("lease_ended", identity=self._identity)
        if not serving.cancelled():
            serving.result()

    async def _renew(self, stop: asyncio.Event, term: Term, body: Body) -> Body | None:
        """Keep the Lease until `stop`; gives it as it is then, None when it is lost."""
        while not await wait_or_stop(stop, self._lease_s / _RENEWALS):
            began = _now()
            try:
                body = await self._write(body)
            except Aborted:
                body = await self._taken_back(body)
                if not body:
                    return None
                continue
            except FasedError as exc:
                logger.warning("lease_not_renewed", reason=exc.reason, message=exc.message)
                if term.left_s <= 0:
                    return None
                continue
            term.extend(began + self._writes_s)
        return body

    async def _taken_back(self, body: Body) -> Body:
        """The Lease as it is, if it is still ours (an answer of ours was lost), else nothing."""
        try:
            found = await self._kubernetes.get(self._path)
        except NotFound:
            return {}
        except FasedError:
            return body
        return found if _holder(found) == self._identity else {}

    async def _acquire(self) -> tuple[float, Body] | None:
        """The Lease, and when it was asked for, if it is ours now."""
        began = _now()
        try:
            body = await self._free()
            if body is None:
                return None
            body["spec"]["acquireTime"] = _micro_time()
            return began, await self._write(body)
        except FasedError as exc:
            logger.info("lease_not_acquired", reason=exc.reason, message=exc.message)
            return None

    async def _free(self) -> Body | None:
        """The Lease to take, None while another holds it."""
        try:
            body = await self._kubernetes.get(self._path)
        except NotFound:
            return await self._kubernetes.create(self._collection, self._new())
        holder, renewed = _holder(body), str(body["spec"].get("renewTime", ""))
        if (holder, renewed) != self._seen:
            self._seen, self._seen_at = (holder, renewed), _now()
        duration_s = float(body["spec"].get("leaseDurationSeconds", self._lease_s))
        if holder and _now() - self._seen_at < duration_s:
            return None
        spec = body["spec"]
        spec["leaseTransitions"] = int(spec.get("leaseTransitions", 0)) + 1
        return body

    async def _write(self, body: Body) -> Body:
        body["spec"].update(
            holderIdentity=self._identity,
            leaseDurationSeconds=int(self._lease_s),
            renewTime=_micro_time(),
        )
        return await self._kubernetes.replace(self._path, body)

    async def _release(self, body: Body) -> None:
        body["spec"]["holderIdentity"] = ""
        try:
            await self._kubernetes.replace(self._path, body)
        except FasedError as exc:
            logger.info("lease_not_released", reason=exc.reason, message=exc.message)

    def _new(self) -> Body:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {"leaseTransitions": 0},
        }

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self._name}"


def _holder(body: Body) -> str:
    return str(body["spec"].get("holderIdentity") or "")


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    return asyncio.get_running_loop().time()
