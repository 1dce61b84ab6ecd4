"""Runs in words, the same in chat, CLI and console. Decides wording only."""

from datetime import timedelta

from fased.core import durations, task_text
from fased.core.queue import RunView
from fased.core.runs import Outcome, end_sentence

SUMMARY_CHARS = 80

_ENDS = frozenset(Outcome)


def compact(view: RunView) -> str:
    """One line: number, state, trigger, when, how long, and what came of it."""
    parts = [f"**#{view.run_id}** {state(view)}", str(view.body.trigger), when(view)]
    if took := duration(view):
        parts.append(took)
    if said := summary(view):
        parts.append(said)
    return " · ".join(parts)


def details(view: RunView) -> str:
    """All of a run, a line a fact."""
    lines = [
        f"**Run #{view.run_id}**: {state(view)}",
        f"- trigger: {view.body.trigger}" + (f", slot {_slot(view)}" if view.body.slot else ""),
        f"- Agent: {view.body.agent_id}, session: {view.body.session_key}",
        f"- mode: {view.body.mode}" + _model(view),
        f"- made: {task_text.instant(view.created_at)}",
    ]
    if view.body.task_name:
        lines.insert(1, f"- task: {view.body.task_name}")
    if view.ended_at is not None:
        lines.append(f"- ended: {task_text.instant(view.ended_at)}")
    if took := duration(view):
        lines.append(f"- took: {took}")
    if view.attempts or view.crashes:
        lines.append(f"- failed attempts: {view.attempts}, workers lost: {view.crashes}")
    if why := reason(view):
        lines.append(f"- why: {why}")
    if view.result is not None and view.result.setup_target:
        lines.append(f"- set up: {view.result.setup_target}")
    if view.result is not None and view.result.text:
        lines.append(f"- result: {view.result.text}")
    return "\n".join(lines)


def state(view: RunView) -> str:
    """Its state; for slots that did not run with their number, for one asked to stop with that."""
    if view.slot_count > 1:
        return f"{view.state} ({view.slot_count} slots)"
    if view.cancel_requested and view.state not in _ENDS:
        return f"{view.state}, asked to stop"
    return view.state


def when(view: RunView) -> str:
    """When it ended, was taken up, or starts; for several slots from the first to the last."""
    if view.slot_count > 1:
        first, last = task_text.instant(view.first_slot), task_text.instant(view.last_slot)
        return f"{first} to {last}"
    if view.slot_count == 1:
        return task_text.instant(view.first_slot)
    if view.state == "delayed":
        return f"again at {task_text.instant(view.run_at)}"
    return task_text.instant(view.ended_at or view.leased_at or view.run_at)


def duration(view: RunView) -> str:
    """How long the last attempt took, `""` unless it was taken up and ended."""
    if view.leased_at is None or view.ended_at is None:
        return ""
    took = view.ended_at - view.leased_at
    if took >= timedelta(minutes=1):
        took -= took % timedelta(seconds=1)
    return durations.format_duration(max(took, timedelta(0)))


def reason(view: RunView) -> str:
    """Why it did not succeed or is put off, as one sentence; `""` where there is nothing to say."""
    if view.result is None:
        return f"the last attempt failed: {view.last_reason}" if view.last_reason else ""
    if view.state == Outcome.SUCCEEDED or view.state not in _ENDS:
        return ""
    if view.state in (Outcome.SKIPPED, Outcome.MISSED, Outcome.MERGED):
        return view.result.message
    return end_sentence(Outcome(view.state), view.result.reason, view.result.message)


def summary(view: RunView) -> str:
    """What came of it in a few words: why it failed, or how its answer begins."""
    if why := reason(view):
        return why
    if view.result is None or not view.result.text.strip():
        return ""
    line = " ".join(view.result.text.split())
    return line if len(line) <= SUMMARY_CHARS else f"{line[: SUMMARY_CHARS - 1]}…"


def _slot(view: RunView) -> str:
    return task_text.instant(view.body.slot)


def _model(view: RunView) -> str:
    if view.result is None or not view.result.model:
        return ""
    tokens = f"{view.result.input_tokens} in, {view.result.output_tokens} out"
    return f", model: {view.result.model} ({tokens} tokens)"
