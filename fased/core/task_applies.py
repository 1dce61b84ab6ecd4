"""What an owner's definition makes of a task: new, edited, checked again, or left as it is.

Decides which state a task has after it; how a task is checked is `task_edits.py`. A pause is the
word of whoever paused it, so that a definition never ends one.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from fased.core import task_edits
from fased.core.errors import Aborted
from fased.core.findings import Finding
from fased.core.owners import check_owner
from fased.core.tasks import Task, TaskState


def defined(known: Task | None, draft: Task, now: datetime) -> Task:
    """The task as its owner defines it, before anything is checked that may stand in its way.

    `draft` carries id and owner. Raises InvalidArgument naming the field, FailedPrecondition
    (MANAGED_ELSEWHERE) for the task of another owner.
    """
    if known is None:
        return task_edits.checked_new(draft, now)
    check_owner("Task", known.name, known.managed_by, draft.managed_by)
    return task_edits.checked_edit(known, draft, now)


def needs_check(known: Task | None, task: Task) -> bool:
    """Whether somebody must look what stands in the way of a task: it is new, changed, blocked."""
    if known is None or known.state is TaskState.BLOCKED:
        return True
    return not task_edits.is_same_definition(known, task)


def applied(
    known: Task | None, task: Task, findings: Sequence[Finding] | None, now: datetime
) -> Task:
    """The task as it stands after the apply; equal to `known` where nothing changes.

    `findings` is None where nobody looked; raises Aborted if the task came to need it meanwhile.
    A paused task stays paused, one that is over stays so unless it has a slot again, and a slot
    that is due is not lost to an edit of something else.
    """
    if not needs_check(known, task):
        return task
    if findings is None:
        raise Aborted(f"task {task.name} was changed meanwhile; apply again", reason="TASK_CHANGED")
    if known is None:
        return task_edits.checked_again(task, findings, now)
    if known.state is TaskState.PAUSED:
        return task
    after = task_edits.checked_again(task, findings, now)
    if known.next_at is not None and after.next_at is not None and known.trigger == task.trigger:
        return replace(after, next_at=known.next_at)
    return after
