"""What a run's turn can come to, as values. Decides which result tells it."""

import random
from dataclasses import dataclass
from datetime import timedelta

from fased.core import runs
from fased.core.errors import FasedError
from fased.core.findings import Finding
from fased.core.model_failures import ModelFailure
from fased.core.queue import LeasedRun
from fased.core.runs import Outcome, Retry, RunResult
from fased.core.transcripts import is_silent


@dataclass(frozen=True, slots=True)
class Answer:
    """What the act step left: its checkpoint's value. `model` is empty where none was asked."""

    text: str
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The run ends; `deliver` says whether its text goes to its target."""

    outcome: Outcome
    result: RunResult
    deliver: bool = False


@dataclass(frozen=True, slots=True)
class PutOff:
    """The run is tried again after this long; `reason` says why the attempt failed."""

    after: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The run is no longer this worker's."""


Ending = Finished | PutOff | Dropped


def succeeded(run: LeasedRun, answer: Answer) -> Finished:
    """The run's answer stands; one that says nothing is not delivered."""
    result = RunResult(
        text=answer.text,
        model=answer.model,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
    )
    deliver = run.body.target is not None and not is_silent(answer.text)
    return Finished(Outcome.SUCCEEDED, result, deliver)


def blocked(finding: Finding) -> Finished:
    """Something must be set up first."""
    return Finished(
        Outcome.BLOCKED,
        RunResult(
            reason=finding.reason, message=finding.message, setup_target=finding.setup_target
        ),
    )


def timed_out() -> Finished:
    """The run's deadline is reached."""
    message = "The run reached its deadline and was stopped."
    return Finished(Outcome.TIMED_OUT, RunResult(reason="DEADLINE_EXCEEDED", message=message))


def failed(error: FasedError) -> Finished:
    """The run ends with an error's reason and sentence."""
    return Finished(
        Outcome.FAILED,
        RunResult(
            reason=error.reason,
            message=error.message,
            setup_target=error.metadata.get("setup_target", ""),
        ),
    )


def after_attempt(run: LeasedRun, failure: ModelFailure) -> Ending:
    """What a task's run does after an attempt whose model call failed."""
    step = runs.next_task_attempt(failure.failure, run.attempts + 1, random.random())
    if not isinstance(step, Retry):
        return failed(failure)
    return PutOff(max(step.after, failure.retry_after or timedelta(0)), failure.reason)
