"""Writes what was found into a resource's status, and tells of changes by an Event.

Decides what is written: nothing where all of it stands there already. How often is decided by the
queue (`work_queue.py`).
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from fased.core import conditions
from fased.core.conditions import Transition
from fased.core.errors import FasedError, NotFound
from fased.core.resource_status import Observed
from fased.core.resources import GROUP, VERSION, Resource, read_resource
from fased.telemetry import metrics
from services.operator.known import Known
from services.operator.kubernetes import Body, Kubernetes
from services.operator.lease import Term

REPORTER = f"{GROUP}/operator"
_MAX_NOTE_CHARS = 1000

logger = structlog.get_logger(__name__)


class Statuses:
    """The statuses of the served resources, written while this replica is the active one."""

    def __init__(self, kubernetes: Kubernetes, known: Known, term: Term, identity: str) -> None:
        self._kubernetes = kubernetes
        self._known = known
        self._term = term
        self._identity = identity

    async def write(self, resource: Resource, observed: Observed) -> None:
        """Let the status say it; raises Aborted when the resource is another by now."""
        now = datetime.now(UTC)
        before = resource.status
        wanted = _status(resource, observed, now)
        patch = _difference(before, wanted)
        if not patch:
            return
        self._term.check()
        try:
            body = await self._kubernetes.patch_status(resource, patch)
        except NotFound:
            # It is being deleted, of which the watch tells.
            return
        metrics.statuses_written.labels(resource.key.kind).inc()
        self._known.put(read_resource(resource.key.kind, body))
        changes = conditions.transitions(before.get("conditions"), observed.conditions)
        for change in changes:
            if conditions.is_worth_an_event(change):
                await self._tell(resource, change)

    async def _tell(self, resource: Resource, change: Transition) -> None:
        key = resource.key
        path = f"/apis/events.k8s.io/v1/namespaces/{key.namespace}/events"
        try:
            self._term.check()
            await self._kubernetes.create(path, _event(resource, change, self._identity))
        except FasedError as exc:
            logger.warning(
                "event_not_written", resource=key.name, reason=exc.reason, message=exc.message
            )


def _status(resource: Resource, observed: Observed, now: datetime) -> dict[str, Any]:
    known = resource.status.get("conditions")
    figures = {name: value for name, value in observed.figures.items() if value is not None}
    return {
        "observedGeneration": resource.generation,
        "conditions": conditions.merged(known, observed.conditions, resource.generation, now),
        **figures,
    }


def _difference(before: Mapping[str, object], wanted: Mapping[str, object]) -> Body:
    """What to merge into a status so that it is the other; objects in it are replaced whole."""
    patch: Body = {name: None for name in before if name not in wanted}
    for name, value in wanted.items():
        old = before.get(name)
        if old == value:
            continue
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            patch[name] = {**{word: None for word in old if word not in value}, **value}
        else:
            patch[name] = value
    return patch


def _event(resource: Resource, change: Transition, identity: str) -> Body:
    key, condition = resource.key, change.condition
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{key.name[:200]}.{uuid.uuid4().hex}", "namespace": key.namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": identity[:128],
        "action": condition.type,
        "reason": condition.reason[:128],
        "note": condition.message[:_MAX_NOTE_CHARS],
        "type": "Normal" if condition.is_fine else "Warning",
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": key.uid,
            "resourceVersion": resource.version,
        },
    }
