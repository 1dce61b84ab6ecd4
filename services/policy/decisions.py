"""PolicyService: says what may be done. Decides nothing itself (`core/policy.py`)."""

from typing import Any

from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.core import model_providers, policy
from fased.core.names import AgentId, parse_namespace
from fased.core.runs import checked_mode
from fased.rpc.batches import check_count
from fased.store.database import Database
from fased.store.policy import agents
from fased.store.policy.agents import Standing
from fased.wire.agents import agent_to_pb
from fased.wire.findings import finding_to_pb
from fased.wire.model_providers import provider_to_pb


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    """Decisions over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def DecideRuns(
        self, request: pb.DecideRunsRequest, context: Any
    ) -> pb.DecideRunsResponse:
        """Whether Agents may carry out runs now."""
        check_count("runs", len(request.runs))
        wanted = [(parse_namespace(run.namespace), AgentId(run.agent_id)) for run in request.runs]
        async with self._pool.acquire() as conn:
            found = await agents.for_runs(conn, set(wanted))
        return pb.DecideRunsResponse(
            decisions=[
                _decided(run, found[key]) for run, key in zip(request.runs, wanted, strict=True)
            ]
        )

    async def Preflight(self, request: pb.PreflightRequest, context: Any) -> pb.PreflightResponse:
        """What stands in the way of a task."""
        namespace = parse_namespace(request.namespace)
        async with self._pool.acquire() as conn:
            key = (namespace, AgentId(request.agent_id))
            standing = (await agents.for_runs(conn, {key}))[key]
        findings, model = policy.preflight(
            standing.agent,
            request.agent_id,
            checked_mode(request.mode),
            request.model,
            request.model_role,
            standing.default_model,
            frozenset(request.usable_providers),
            frozenset(each.id for each in standing.providers),
        )
        return pb.PreflightResponse(
            findings=[each for each in map(finding_to_pb, findings) if each], model=model
        )


def _decided(run: pb.WantedRun, standing: Standing) -> pb.RunDecision:
    agent = standing.agent
    decision = policy.decide_run(
        agent,
        run.agent_id,
        checked_mode(run.mode),
        run.model,
        run.model_role,
        standing.default_model,
    )
    models = (decision.pick.model, *(agent.definition.fallback_models if agent else ()))
    return pb.RunDecision(
        allowed=decision.allowed,
        finding=finding_to_pb(decision.finding),
        agent=None if agent is None else agent_to_pb(agent),
        model=decision.pick.model,
        model_reason=decision.pick.reason,
        providers=map(provider_to_pb, model_providers.named_by(standing.providers, models)),
    )
