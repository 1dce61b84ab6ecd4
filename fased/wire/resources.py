"""What stands behind custom resources, between core and protobuf; nothing else."""

from fased.api.channels.v1 import account_pb2
from fased.api.policy.v1 import model_provider_pb2
from fased.api.router.v1 import binding_pb2, pairing_pb2
from fased.api.scheduler.v1 import task_pb2
from fased.core.accounts import AccountStatus, Identity
from fased.core.names import Namespace, resource_name
from fased.core.resource_definitions import Account, Provider
from fased.core.resource_status import AccountFacts, RouteFacts, TaskFacts
from fased.wire.findings import finding_from_pb
from fased.wire.gates import gate_to_pb
from fased.wire.tasks import state_from_pb
from fased.wire.times import from_timestamp

PROVIDERS = "modelProviders"


def provider_to_pb(
    namespace: Namespace, provider_id: str, provider: Provider
) -> model_provider_pb2.ModelProvider:
    """A provider under its name."""
    return model_provider_pb2.ModelProvider(
        name=resource_name(namespace, PROVIDERS, provider_id),
        type=provider.type,
        base_url=provider.base_url,
        credential=provider.credential,
        default_model=provider.default_model,
    )


def account_gates_to_pb(namespace: Namespace, account: Account) -> list[pairing_pb2.Gate]:
    """The gate of an account, none where it has the default one."""
    if account.gate is None:
        return []
    return [gate_to_pb(namespace, account.channel, account.account_id, account.gate)]


def account_facts_from_pb(status: account_pb2.AccountStatus) -> AccountFacts:
    """How an account does."""
    identity = status.identity
    return AccountFacts(
        is_configured=status.configured,
        status=AccountStatus(
            is_connected=status.connected,
            identity=Identity(identity.id, identity.username, identity.display_name),
            last_inbound_at=from_timestamp(status, "last_inbound_time"),
            last_outbound_at=from_timestamp(status, "last_outbound_time"),
            last_error_reason=status.last_error_reason,
            last_error=status.last_error,
            last_error_at=from_timestamp(status, "last_error_time"),
        ),
    )


def route_facts_from_pb(check: binding_pb2.BindingCheck) -> RouteFacts:
    """What a binding does among the others."""
    return RouteFacts(
        level=check.matched_by,
        shadowed_by=tuple(check.shadowed_by),
        findings=tuple(map(finding_from_pb, check.findings)),
    )


def task_facts_from_pb(task: task_pb2.Task) -> TaskFacts:
    """What is said of a task beside its definition."""
    return TaskFacts(
        state=state_from_pb(task.state),
        finding=finding_from_pb(task.finding) if task.finding.reason else None,
        next_at=from_timestamp(task, "next_time"),
        last_outcome=task.last_outcome,
        last_run_id=task.last_run_id,
    )
