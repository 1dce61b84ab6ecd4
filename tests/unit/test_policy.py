"""What may be done and with which model: the order of choice, and what stands in the way."""

import pytest

from fased.core import policy
from fased.core.agents import Agent, AgentDefinition
from fased.core.names import AgentId, Namespace
from fased.core.policy import ModelPick
from fased.core.runs import ExecutionMode

TURN, AUTO = ExecutionMode.AGENT_TURN, ExecutionMode.AUTO
ROLES = {"cheapCheck": "local/small", "strong": "cloud/large"}


def agent(model: str = "", **roles: str) -> Agent:
    return Agent(
        Namespace("team"), AgentId("main"), AgentDefinition(model=model, model_roles=dict(roles))
    )


def reasons(
    of: Agent | None,
    mode: ExecutionMode,
    model: str = "",
    *,
    usable: tuple[str, ...] = (),
    own: tuple[str, ...] = (),
) -> list[str]:
    findings, _ = policy.preflight(of, "main", mode, model, "", "", usable, own)
    return [each.reason for each in findings]


@pytest.mark.parametrize(
    ("model", "role", "default", "picked"),
    [
        ("x/task", "strong", "x/default", ModelPick("x/task", "TASK_EXPLICIT")),
        ("", "strong", "x/default", ModelPick("cloud/large", "AGENT_ROLE")),
        ("", "coding", "x/default", ModelPick("x/agent", "AGENT_DEFAULT")),
        ("", "", "x/default", ModelPick("x/agent", "AGENT_DEFAULT")),
    ],
)
def test_the_most_explicit_model_is_taken(
    model: str, role: str, default: str, picked: ModelPick
) -> None:
    assert policy.pick_model(agent("x/agent", **ROLES), TURN, model, role, default) == picked


def test_an_agent_without_a_model_has_its_namespaces_or_its_workers() -> None:
    picked = policy.pick_model(agent(), TURN, "", "", "x/default")
    assert picked == ModelPick("x/default", "NAMESPACE_DEFAULT")
    assert policy.pick_model(agent(), TURN, "", "", "") == ModelPick("", "WORKER_DEFAULT")


@pytest.mark.parametrize("roles", [{}, {"cheapCheck": "openrouter/auto"}])
def test_the_model_of_a_cheap_role_is_never_guessed(roles: dict[str, str]) -> None:
    of = agent("x/large", **roles)
    decision = policy.decide_run(of, "main", TURN, "", "cheapCheck", "")
    assert not decision.allowed
    assert decision.finding is not None
    assert decision.finding.reason == "MISSING_CHEAP_CHECK_ROLE"
    assert reasons(of, AUTO, usable=("x",)) == ["MISSING_CHEAP_CHECK_ROLE"]


def test_an_agent_that_is_missing_stops_everything() -> None:
    assert reasons(None, ExecutionMode.NO_MODEL) == ["AGENT_MISSING"]


def test_a_model_needs_a_provider_that_workers_or_the_namespace_have() -> None:
    assert reasons(agent("x/m"), TURN) == ["NO_MODEL_CREDENTIAL"]
    assert reasons(agent("x/m"), TURN, usable=("y",)) == ["PROVIDER_NOT_USABLE"]
    assert reasons(agent("x/m"), TURN, usable=("x",)) == []
    assert reasons(agent("x/m"), TURN, own=("x",)) == []
    # A model without a provider is a worker's: one of the namespace does not serve it.
    assert reasons(agent("m"), TURN, own=("x",)) == ["NO_MODEL_CREDENTIAL"]
    assert reasons(agent("x/m"), ExecutionMode.NO_MODEL) == []


@pytest.mark.parametrize("mode", [AUTO, ExecutionMode.SKILL_ONLY])
def test_a_mode_that_is_not_carried_out_yet_is_said_before_a_run_fails(mode: ExecutionMode) -> None:
    assert reasons(agent("x/m", **ROLES), mode, usable=("x", "local")) == ["MODE_UNAVAILABLE"]
    assert policy.unavailable_mode(TURN) is None
