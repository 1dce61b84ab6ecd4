"""Tasks as resources: kept by the scheduler. Decides when the annotations are carried out; what is
said of a task is decided in `core/resource_status.py`.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import task_pb2
from fased.api.types.v1 import owner_pb2
from fased.core import durations, resource_status
from fased.core.conditions import ConditionType
from fased.core.errors import FailedPrecondition, NotFound
from fased.core.findings import Finding
from fased.core.names import Namespace, resource_name
from fased.core.resource_definitions import task_of
from fased.core.resource_references import (
    account_of_task,
    missing_account,
    missing_agent,
    missing_provider,
    provider_of_task,
)
from fased.core.resource_status import Observed, TaskFacts
from fased.core.resources import Key, Kind, Resource, owner_of
from fased.core.tasks import Task, TaskState
from fased.wire.resources import task_facts_from_pb
from fased.wire.run_views import RUNS
from fased.wire.tasks import TASKS, task_to_pb
from fased.wire.times import from_timestamp
from services.operator.directory import Directory
from services.operator.keepers import CALL_TIMEOUT_S, pages
from services.operator.services import Services

_PAGE = 1000
# Request ids of what annotations ask for are made from this and the resource.
_REQUESTS = uuid.UUID("6f3ab0c5-6f35-4c39-9a64-6f1f4f3b9f0e")


class Tasks:
    """The keeper of Tasks, with what the scheduler last said of each."""

    kind = Kind.TASK
    types = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS, ConditionType.PREFLIGHT)

    def __init__(
        self, services: Services, directory: Directory, check_term: Callable[[], None]
    ) -> None:
        """`check_term` raises where this replica may not be the active one any more."""
        self._services = services
        self._directory = directory
        self._check_term = check_term
        self._facts: dict[str, TaskFacts] = {}
        self._stale: set[str] = set()

    async def apply(self, resource: Resource) -> None:
        """Make the task stand."""
        key = resource.key
        answer = await self._apply(key, [task_to_pb(task_of(resource))], resource.generation)
        [task] = answer.tasks
        self._keep(key.uid, task_facts_from_pb(task))

    async def withdraw(self, key: Key) -> None:
        """Remove the task; its history stays."""
        await self._apply(key, [], 0)
        self._facts.pop(key.uid, None)
        self._stale.discard(key.uid)

    async def observe(self, resource: Resource) -> Observed:
        """Carry out what the annotations ask for, then say how the task does."""
        key, status = resource.key, resource.status
        if key.uid in self._stale or key.uid not in self._facts:
            await self._read(key)
        task = task_of(resource)
        missing = await self._missing(task, self._facts[key.uid])
        paused = await self._pause(resource)
        run_now = await self._run_now(resource, missing)
        facts = self._facts[key.uid]
        last_at = _known_time(status, facts) or await self._ended(key, facts.last_run_id)
        return resource_status.task(
            task.trigger,
            missing,
            facts,
            last_at=last_at,
            run_now=run_now,
            paused=paused,
        )

    async def owners(self) -> AsyncIterator[owner_pb2.Owner]:
        """Those that define tasks."""

        async def ask(prefix: str, token: str) -> pb.ListTaskOwnersResponse:
            request = pb.ListTaskOwnersRequest(prefix=prefix, page_token=token)
            return await self._services.tasks.ListTaskOwners(request)

        async for owner in pages(ask):
            yield owner

    def is_blocked(self, key: Key) -> bool:
        """Whether the task waits for something to be set up."""
        facts = self._facts.get(key.uid)
        return facts is not None and facts.state is TaskState.BLOCKED

    def expect_change(self, uid: str) -> None:
        """Something happened to a task: what is known of it is read again."""
        if uid in self._facts:
            self._stale.add(uid)

    async def changed(self, namespace: Namespace) -> list[str]:
        """Reads a namespace's tasks; gives the uids of those that do otherwise than was known."""
        found, token = [], ""
        while True:
            request = pb.ListTasksRequest(
                parent=f"namespaces/{namespace}", page_size=_PAGE, page_token=token
            )
            page = await self._services.tasks.ListTasks(request)
            for task in page.tasks:
                uid = task.name.rpartition("/")[2]
                known = self._facts.get(uid)
                if known is not None and (facts := task_facts_from_pb(task)) != known:
                    self._keep(uid, facts)
                    found.append(uid)
            if not (token := page.next_page_token):
                return found

    async def _missing(self, task: Task, facts: TaskFacts) -> Finding | None:
        room = self._directory.of(task.namespace)
        agents = await room.agents.get()
        missing = missing_agent(task.agent_id, agents)
        if missing is not None and facts.finding is not None:
            # The scheduler's own words, where it has said the same.
            missing = facts.finding if facts.finding.reason == missing.reason else missing
        if missing is not None:
            return missing
        if account := account_of_task(task):
            missing = missing_account(account, await room.accounts.get())
        providers = await room.providers.get()
        called = provider_of_task(task, agents[task.agent_id].model)
        return missing or missing_provider(called, providers.all, providers.unusable)

    async def _pause(self, resource: Resource) -> bool:
        """Pause or resume as the annotation says; gives what was carried out."""
        key, was = resource.key, resource.status.get("paused") is True
        if resource.paused == was:
            return was
        name = resource_name(key.namespace, TASKS, key.uid)
        tasks = self._services.tasks
        self._check_term()
        try:
            if resource.paused:
                held = await tasks.PauseTask(pb.PauseTaskRequest(name=name), timeout=CALL_TIMEOUT_S)
                self._keep(key.uid, task_facts_from_pb(held.task))
            else:
                let = await tasks.ResumeTask(
                    pb.ResumeTaskRequest(name=name), timeout=CALL_TIMEOUT_S
                )
                self._keep(key.uid, task_facts_from_pb(let.task))
        except FailedPrecondition as exc:
            # A task that is done has nothing to hold back, and nothing to go on with.
            if exc.reason != "TASK_DONE":
                raise
        except NotFound as exc:
            # It goes on when its Agent is there, of which the condition tells.
            if exc.reason != "AGENT_MISSING":
                raise
            return was
        return resource.paused

    async def _run_now(self, resource: Resource, missing: Finding | None) -> str:
        """Make the run that the annotation asks for; gives the value that one was made for.

        A task that is blocked, or names what is not there, is run when nothing stands in its way.
        """
        key, done = resource.key, str(resource.status.get("runNow", ""))
        if resource.run_now in ("", done) or missing is not None or self.is_blocked(key):
            return done
        request = pb.RunTaskRequest(
            name=resource_name(key.namespace, TASKS, key.uid),
            request_id=str(uuid.uuid5(_REQUESTS, f"{key.uid}:{resource.run_now}")),
        )
        self._check_term()
        try:
            await self._services.tasks.RunTask(request, timeout=CALL_TIMEOUT_S)
        except FailedPrecondition as exc:
            if exc.reason != "TASK_BLOCKED":
                raise
            self._stale.add(key.uid)
            return done
        return resource.run_now

    async def _ended(self, key: Key, run_id: int) -> datetime | None:
        """When the last run ended; None when none did, or when its record is gone."""
        if not run_id:
            return None
        name = resource_name(key.namespace, RUNS, str(run_id))
        try:
            answer = await self._services.runs.GetRun(
                pb.GetRunRequest(name=name), timeout=CALL_TIMEOUT_S
            )
        except NotFound:
            return None
        return from_timestamp(answer.run, "end_time") or from_timestamp(answer.run, "create_time")

    async def _read(self, key: Key) -> None:
        name = resource_name(key.namespace, TASKS, key.uid)
        answer = await self._services.tasks.GetTask(
            pb.GetTaskRequest(name=name), timeout=CALL_TIMEOUT_S
        )
        self._keep(key.uid, task_facts_from_pb(answer.task))

    def _keep(self, uid: str, facts: TaskFacts) -> None:
        self._facts[uid] = facts
        self._stale.discard(uid)

    async def _apply(
        self, key: Key, tasks: list[task_pb2.Task], generation: int
    ) -> pb.ApplyTasksResponse:
        return await self._services.tasks.ApplyTasks(
            pb.ApplyTasksRequest(
                parent=f"namespaces/{key.namespace}",
                managed_by=owner_of(key.uid),
                tasks=tasks,
                generation=generation,
            ),
            timeout=CALL_TIMEOUT_S,
        )


def _known_time(status: object, facts: TaskFacts) -> datetime | None:
    """The last run's end as status has it, if status is about that run."""
    if not isinstance(status, dict) or not facts.last_run_id:
        return None
    if status.get("lastRunId") != facts.last_run_id or "lastTime" not in status:
        return None
    return durations.parse_instant(str(status["lastTime"]))
