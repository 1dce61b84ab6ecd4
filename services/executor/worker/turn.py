"""One run, from its lease to its end: preflight, collect, act, keep, append.

Decides the order of effects (design §4.3): what a model answered is checkpointed under the lease,
then appended to the transcript, then completed. A run that comes back with its answer checkpointed
never calls a model again. What is allowed, what a model is shown and what a failure means is
decided in `fased/core`.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from fased.api.executor.v1 import executor_service_pb2 as executor_pb
from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1.agent_pb2 import Agent
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.scheduler.v1 import queue_service_pb2 as queue_pb
from fased.api.scheduler.v1 import run_pb2
from fased.core import context, policy, runs
from fased.core.errors import FasedError
from fased.core.findings import Finding
from fased.core.model_failures import ModelFailure, unusable_answer
from fased.core.models import ModelChoice, provider_of
from fased.core.names import SessionId, resource_name
from fased.core.queue import LeasedRun
from fased.core.runs import ExecutionMode, Retry, RunClass
from fased.core.transcripts import (
    MAX_TEXT_CHARS,
    TranscriptEntry,
    storable,
    turn_entries,
)
from fased.telemetry import tracing
from fased.wire.model_providers import provider_from_pb
from fased.wire.routes import SESSIONS
from fased.wire.transcripts import entry_to_pb
from services.executor.models.port import ModelCall
from services.executor.models.registry import Models
from services.executor.settings import Settings
from services.executor.worker.calls import persistently
from services.executor.worker.endings import (
    Answer,
    Dropped,
    Ending,
    after_attempt,
    blocked,
    failed,
    succeeded,
    timed_out,
)
from services.executor.worker.leases import Lease
from services.executor.worker.progress import Progress
from services.executor.worker.together import MAX_CHARS, Together

if TYPE_CHECKING:
    from fased.api.router.v1.router_service_pb2_grpc import SessionServiceAsyncStub

ACT = "act"


class Turn:
    """Carries runs out, each on its own; it keeps nothing between them."""

    def __init__(
        self,
        together: Together,
        sessions: "SessionServiceAsyncStub",
        progress: Progress,
        models: Models,
        settings: Settings,
    ) -> None:
        self._together = together
        self._sessions = sessions
        self._progress = progress
        self._models = models
        self._settings = settings

    async def carry_out(self, lease: Lease) -> Ending:
        """Bring a run to its end, or to where it must wait, within its deadline."""
        self._progress.started(lease.run)
        deadline = asyncio.timeout(max(0.0, lease.left().total_seconds()))
        try:
            async with deadline:
                return await self._steps(lease)
        except TimeoutError:
            if not deadline.expired():
                raise
            return timed_out()
        except FasedError as exc:
            return failed(exc)
        finally:
            self._progress.ended(lease.run)

    async def _steps(self, lease: Lease) -> Ending:
        lease = await self._in_session(lease)
        run = lease.run
        answer = _kept_answer(run)
        if answer is None:
            found = await self._find_answer(lease)
            if not isinstance(found, Answer):
                return found
            answer = await self._keep(run, found)
            if answer is None:
                return Dropped()
        await self._append(run, answer)
        return succeeded(run, answer)

    async def _in_session(self, lease: Lease) -> Lease:
        """The lease with its session id: a slot's run gets it here, so that firing asks nobody."""
        run = lease.run
        if run.body.session_id:
            return lease
        request = router_pb.ResolveSessionRequest(
            name=resource_name(run.namespace, SESSIONS, run.body.session_key),
            agent_id=run.body.agent_id,
        )
        found = await persistently(lambda: self._sessions.ResolveSession(request))
        body = replace(run.body, session_id=SessionId(found.session.session_id))
        return replace(lease, run=run._replace(body=body))

    async def _find_answer(self, lease: Lease) -> Answer | Ending:
        """Preflight, then what the mode asks for."""
        run = lease.run
        decision = await self._decide(run)
        if not decision.allowed:
            found = decision.finding
            return blocked(Finding(found.reason, found.message, found.setup_target))
        if (unavailable := policy.unavailable_mode(run.body.mode)) is not None:
            return blocked(unavailable)
        if run.body.mode is ExecutionMode.NO_MODEL:
            return Answer(storable(run.body.prompt))
        choices = self._choices(decision, run)
        if isinstance(choices, Finding):
            return blocked(choices)
        messages = await self._collect(run, decision.agent)
        return await self._act(lease, choices, messages)

    async def _decide(self, run: LeasedRun) -> policy_pb.RunDecision:
        return await self._together.decide(
            policy_pb.WantedRun(
                namespace=run.namespace,
                agent_id=run.body.agent_id,
                mode=run.body.mode,
                model=run.body.model,
            )
        )

    def _choices(
        self, decision: policy_pb.RunDecision, run: LeasedRun
    ) -> list[ModelChoice] | Finding:
        """The model decided on, then the Agent's fallbacks; an explicit model has none."""
        refs = [decision.model]
        if not run.body.model:
            refs += decision.agent.fallback_models
        providers = [provider_of(provider_from_pb(each)) for each in decision.providers]
        chosen = [self._models.choose(ref, run.body.agent_id, providers) for ref in refs]
        usable = [each for each in chosen if isinstance(each, ModelChoice)]
        return usable or next(each for each in chosen if isinstance(each, Finding))

    async def _collect(self, run: LeasedRun, agent: Agent) -> tuple[context.ModelMessage, ...]:
        """What the model is shown."""
        name = agent.display_name or run.body.agent_id
        return context.turn_messages(
            agent.system_prompt or context.default_system_prompt(name),
            await self._history(run),
            run.body,
            token_cap=self._settings.context_tokens,
        )

    async def _history(self, run: LeasedRun) -> list[TranscriptEntry]:
        if not self._settings.context_entries:
            return []
        return await self._together.read(
            executor_pb.TranscriptTail(
                namespace=run.namespace,
                session_key=run.body.session_key,
                session_id=run.body.session_id,
                max_entries=self._settings.context_entries,
                max_chars=min(context.chars_within(self._settings.context_tokens), MAX_CHARS),
            )
        )

    async def _act(
        self,
        lease: Lease,
        choices: Sequence[ModelChoice],
        messages: tuple[context.ModelMessage, ...],
    ) -> Answer | Ending:
        """The first answer that one of the models gives, or what the first failure leads to."""
        endings: list[Ending] = []
        for choice in choices:
            outcome = await self._ask(lease, ModelCall(choice, messages, lease.run.run_id))
            if isinstance(outcome, Answer):
                return outcome
            endings.append(outcome)
        return endings[0]

    async def _ask(self, lease: Lease, call: ModelCall) -> Answer | Ending:
        """One model's answer; a message's run tries again here, a task's is put off."""
        tries = 0
        while True:
            tries += 1
            try:
                with tracing.tracer().start_as_current_span(
                    "executor.model", kind=SpanKind.CLIENT, attributes=_asked(call)
                ):
                    return await self._stream(lease.run, call)
            except ModelFailure as failure:
                if lease.run.run_class is not RunClass.MESSAGE:
                    return after_attempt(lease.run, failure)
                step = runs.next_message_try(
                    failure.failure, tries, lease.left(), failure.retry_after
                )
                if not isinstance(step, Retry):
                    return failed(failure)
            await asyncio.sleep(step.after.total_seconds())

    async def _stream(self, run: LeasedRun, call: ModelCall) -> Answer:
        text, input_tokens, output_tokens = "", 0, 0
        async with aclosing(self._models.stream(call)) as parts:
            async for part in parts:
                input_tokens = part.input_tokens or input_tokens
                output_tokens = part.output_tokens or output_tokens
                if part.text:
                    text += part.text
                    self._progress.partial(run, text)
                if len(text) > MAX_TEXT_CHARS:
                    break
        kept = storable(text)
        if not kept.strip():
            raise unusable_answer(call.choice, "gave an empty answer")
        return Answer(kept, call.choice.ref, input_tokens, output_tokens)

    async def _keep(self, run: LeasedRun, answer: Answer) -> Answer | None:
        """The answer that stands for this run; None when the run is no longer ours."""
        step = queue_pb.FinishedStep(
            run_id=run.run_id,
            epoch=run.epoch,
            checkpoint=run_pb2.Checkpoint(step=ACT, value_json=json.dumps(asdict(answer))),
        )
        stored = await self._together.keep(step)
        if stored.result != queue_pb.WRITE_RESULT_WRITTEN:
            return None
        return _answer(stored.checkpoint.value_json)

    async def _append(self, run: LeasedRun, answer: Answer) -> None:
        entries = turn_entries(run.body, run.run_id, ACT, answer.text, asked=bool(answer.model))
        await self._together.append(
            executor_pb.TranscriptAddition(
                namespace=run.namespace, entries=map(entry_to_pb, entries)
            )
        )


def _asked(call: ModelCall) -> dict[str, str]:
    """What a model call's span says, in OpenTelemetry's words for generative AI."""
    return {"gen_ai.operation.name": "chat", "gen_ai.request.model": call.choice.ref}


def _kept_answer(run: LeasedRun) -> Answer | None:
    for checkpoint in run.checkpoints:
        if checkpoint.step == ACT:
            return _answer(checkpoint.value_json)
    return None


def _answer(value_json: str) -> Answer:
    return Answer(**json.loads(value_json))
