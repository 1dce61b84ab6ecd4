"""The operator: custom resources in, gRPC out, conditions back. Wires only."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog

from fased.core.errors import InvalidArgument
from fased.core.resources import Key, Kind, read_resource
from fased.process import RowlessHost, Service
from services.operator.agents import Agents
from services.operator.channels import Channels
from services.operator.dependents import Dependents
from services.operator.directory import Directory
from services.operator.feedback import Feedback
from services.operator.keepers import Keeper
from services.operator.known import Known
from services.operator.kubernetes import Kubernetes, open_kubernetes, own_namespace
from services.operator.lease import Lease, Term
from services.operator.providers import Providers
from services.operator.reconciling import Reconciler
from services.operator.routes import Routes
from services.operator.services import Services
from services.operator.settings import Settings
from services.operator.statuses import Statuses
from services.operator.sweep import Sweep
from services.operator.tasks import Tasks
from services.operator.watching import watch
from services.operator.work_queue import WorkQueue

# What services say is believed this many polls.
_BELIEVED_POLLS = 2

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def open_service(host: RowlessHost, settings: Settings) -> AsyncIterator[Service]:
    """The operator; of several replicas, the one that holds the Lease acts."""
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    async with open_kubernetes() as kubernetes:
        namespace = settings.lease_namespace or await asyncio.to_thread(own_namespace)
        lease = Lease(kubernetes, namespace, settings.lease_name, identity, settings.lease_s)

        async def act(term: Term) -> None:
            await Active(host, settings, kubernetes, term, identity).run()

        async def run() -> None:
            await lease.run(host.stop, act)

        yield Service("operator", loops=(run,))


class Active:
    """All that the active replica knows and does in one term; nothing of it outlives the term."""

    def __init__(
        self,
        host: RowlessHost,
        settings: Settings,
        kubernetes: Kubernetes,
        term: Term,
        identity: str,
    ) -> None:
        self._host = host
        self._settings = settings
        self._kubernetes = kubernetes
        self._term = term
        services = Services.of(host.client)
        self._known = Known()
        self._queue: WorkQueue[Key] = WorkQueue(paced_per_s=settings.statuses_per_s)
        dependents = Dependents(self._known, self._wake, self._is_blocked)
        directory = Directory(services, dependents, max_age_s=_BELIEVED_POLLS * settings.poll_s)
        self._tasks = Tasks(services, directory, term.check)
        keepers: dict[Kind, Keeper] = {
            Kind.MODEL_PROVIDER: Providers(services, directory),
            Kind.AGENT: Agents(services, directory),
            Kind.CHANNEL: Channels(services, directory),
            Kind.ROUTE: Routes(services, directory),
            Kind.TASK: self._tasks,
        }
        self._reconciler = Reconciler(
            self._known,
            self._queue,
            keepers,
            Statuses(kubernetes, self._known, term, identity),
            term,
            self._is_gone,
            unready_poll_s=settings.unready_poll_s,
        )
        self._sweep = Sweep(kubernetes, self._known, keepers, self._reconciler, settings.served)
        self._feedback = Feedback(self._known, directory, self._tasks, self._reconciler)

    async def run(self) -> None:
        """Act until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                watch(self._kubernetes, self._settings.served, self._on_event, self._term.ended)
            )
            group.create_task(
                self._queue.run(self._reconciler.reconcile, self._settings.reconciles)
            )
            group.create_task(self._sweep.run(self._settings.sweep_s))
            group.create_task(self._feedback.poll(self._settings.poll_s))
            if self._host.bus is not None:
                group.create_task(self._feedback.follow(self._host.bus))

    def _on_event(self, type: str | None, kind: Kind, body: dict[str, Any]) -> None:
        try:
            resource = read_resource(kind, body)
        except (KeyError, TypeError, ValueError, InvalidArgument) as exc:
            logger.error("resource_unreadable", kind=kind, error=str(exc))
            return
        if type == "DELETED":
            self._reconciler.lose(resource.key)
            return
        if type is None and self._known.get(resource.key) is not None:
            # A second list follows a watch that broke: what was deleted meanwhile is not in it.
            self._sweep.ask()
        self._reconciler.see(resource, is_listed=type is None)

    def _wake(self, key: Key, apply: bool) -> None:
        self._reconciler.wake(key, apply)

    def _is_blocked(self, key: Key) -> bool:
        return self._tasks.is_blocked(key)

    async def _is_gone(self, *which: Any) -> bool:
        return await self._sweep.is_gone(*which)
