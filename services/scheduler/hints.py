"""The hints that the scheduler's parts give one another. Decides their names."""

from fased.store import outbox
from fased.store.notify import Hints

RUNS_READY = "scheduler/runs"
TASKS_DUE = "scheduler/tasks"
SCHEMA = "scheduler"


def runs_changed(hints: Hints) -> None:
    """Runs may be ready, and events may wait in the outbox."""
    hints.send(RUNS_READY, outbox.hint_name(SCHEMA))
