"""What the run queue takes in. Decides bounds and refusals, so that what is in can also end."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from fased.core.errors import InvalidArgument
from fased.core.queue import Completion, EnqueueItem
from fased.core.runs import NewRun, RunBody

MAX_BATCH = 500
MAX_RUNS_OF_AN_EVENT = 100
MAX_KEY_CHARS = 1000
MAX_STEP_CHARS = 100
MAX_CHECKPOINT_BYTES = 1024 * 1024
# With its target and its run's event, a result of this size is below what a bus carries.
MAX_RESULT_BYTES = 512 * 1024
MAX_BODY_BYTES = 1024 * 1024
LONGEST_RUN = timedelta(days=1)


def check_batch(count: int) -> None:
    """Raises InvalidArgument for a batch that is too large."""
    if count > MAX_BATCH:
        raise _invalid(
            "items", f"a batch holds at most {MAX_BATCH}, not {count}", "BATCH_TOO_LARGE"
        )


def check_items(items: Sequence[EnqueueItem]) -> None:
    """Raises InvalidArgument, naming the field, unless every item can be stored and carried out."""
    check_batch(len(items))
    for place, item in enumerate(items):
        where = f"items[{place}]"
        if not 1 <= len(item.key) <= MAX_KEY_CHARS or "\0" in item.key:
            raise _invalid(
                f"{where}.key", f"a key has 1 to {MAX_KEY_CHARS} characters, none of them NUL",
                "INVALID_KEY",
            )  # fmt: skip
        if not 1 <= len(item.runs) <= MAX_RUNS_OF_AN_EVENT:
            raise _invalid(
                f"{where}.runs", f"an event makes 1 to {MAX_RUNS_OF_AN_EVENT} runs", "INVALID_RUNS"
            )
        for run in item.runs:
            _check_run(item, run, f"{where}.runs")


def check_completions(completions: Sequence[Completion]) -> None:
    """Raises InvalidArgument for a batch, or a result, that is too large."""
    check_batch(len(completions))
    for place, done in enumerate(completions):
        size = sum(len(text.encode()) for text in (done.result.text, done.result.message))
        if size > MAX_RESULT_BYTES:
            raise _invalid(
                f"completions[{place}].result",
                f"a result has at most {MAX_RESULT_BYTES} bytes, not {size}",
                "RESULT_TOO_LARGE",
            )


def check_checkpoint(step: str, value_json: str) -> None:
    """Raises InvalidArgument for a step's name or value out of bounds."""
    if not 1 <= len(step) <= MAX_STEP_CHARS or "\0" in step:
        raise _invalid(
            "checkpoint.step", f"a step's name has 1 to {MAX_STEP_CHARS} characters", "INVALID_STEP"
        )
    if len(value_json.encode()) > MAX_CHECKPOINT_BYTES:
        raise _invalid(
            "checkpoint.value_json", f"a checkpoint has at most {MAX_CHECKPOINT_BYTES} bytes",
            "CHECKPOINT_TOO_LARGE",
        )  # fmt: skip


def _check_run(item: EnqueueItem, run: NewRun, where: str) -> None:
    if run.namespace != item.namespace:
        raise _invalid(
            f"{where}.namespace", f"a run of {item.namespace} cannot be one of {run.namespace!r}",
            "NAMESPACE_MISMATCH",
        )  # fmt: skip
    if not timedelta(0) < run.run_for <= LONGEST_RUN:
        raise _invalid(
            f"{where}.run_for", "a deadline is more than 0 and at most 24 h", "INVALID_RUN_FOR"
        )
    if run.task_id is not None and not _is_uuid(run.task_id):
        raise _invalid(f"{where}.task_id", "a task's id is a UUID", "INVALID_TASK_ID")
    if any("\0" in text for text in _texts_of_columns(run)):
        raise _invalid(where, "a lane, session or target holds a zero character", "ZERO_CHARACTER")
    if _size(run.body) > MAX_BODY_BYTES:
        raise _invalid(
            f"{where}.body", f"the messages of a run have at most {MAX_BODY_BYTES} bytes",
            "BODY_TOO_LARGE",
        )  # fmt: skip


def _texts_of_columns(run: NewRun) -> tuple[str, ...]:
    """What goes into text columns and bus keys, which hold no NUL."""
    body, target = run.body, run.body.target
    routed = () if target is None else (target.channel, target.account_id, target.peer.id)
    return (run.lane, body.session_key, *routed, *body.trace.values())


def _size(body: RunBody) -> int:
    texts = [body.prompt, *(each.text for each in body.inputs)]
    texts += [each.reply_to.body for each in body.inputs if each.reply_to]
    return sum(len(text.encode()) for text in texts)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _invalid(field: str, message: str, reason: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, metadata={"field": field})
