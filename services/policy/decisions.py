"""PolicyService: says what may be done. Decides nothing itself (`core/policy.py`)."""

from typing import Any

from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.core import policy
from fased.core.names import AgentId, parse_namespace
from fased.core.runs import checked_mode
from fased.store.database import Database
from fased.store.policy import agents
from fased.wire.agents import agent_to_pb
from fased.wire.findings import finding_to_pb


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    """Decisions over gRPC."""

    def __init__(self, database: Database) -> None:
        self._pool = database.queue

    async def Decide(self, request: pb.DecideRequest, context: Any) -> pb.DecideResponse:
        """Whether an Agent may carry out a run now."""
        namespace = parse_namespace(request.namespace)
        async with self._pool.acquire() as conn:
            agent, default_model = await agents.for_run(conn, namespace, AgentId(request.agent_id))
        decision = policy.decide_run(
            agent,
            request.agent_id,
            checked_mode(request.mode),
            request.model,
            request.model_role,
            default_model,
        )
        return pb.DecideResponse(
            allowed=decision.allowed,
            finding=finding_to_pb(decision.finding),
            agent=None if agent is None else agent_to_pb(agent),
            model=decision.pick.model,
            model_reason=decision.pick.reason,
        )

    async def Preflight(self, request: pb.PreflightRequest, context: Any) -> pb.PreflightResponse:
        """What stands in the way of a task."""
        namespace = parse_namespace(request.namespace)
        async with self._pool.acquire() as conn:
            agent, default_model = await agents.for_run(conn, namespace, AgentId(request.agent_id))
        findings, model = policy.preflight(
            agent,
            request.agent_id,
            checked_mode(request.mode),
            request.model,
            request.model_role,
            default_model,
            frozenset(request.usable_providers),
        )
        return pb.PreflightResponse(
            findings=[each for each in map(finding_to_pb, findings) if each], model=model
        )
