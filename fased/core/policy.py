"""What may be done, and with which model. Decides from values; reads no credential and no clock."""

from collections.abc import Collection
from dataclasses import dataclass

from fased.core.agents import Agent
from fased.core.findings import Finding
from fased.core.runs import ExecutionMode

CHEAP_CHECK = "cheapCheck"
CHEAP_ROLES = frozenset({CHEAP_CHECK})
MODELLESS = frozenset({ExecutionMode.NO_MODEL, ExecutionMode.SKILL_ONLY})


@dataclass(frozen=True, slots=True)
class ModelPick:
    """The model of a run and why: `reason` is TASK_EXPLICIT, AGENT_ROLE, AGENT_DEFAULT,
    NAMESPACE_DEFAULT, WORKER_DEFAULT (`model` empty: the worker's own) or NONE (no model is used).
    """

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunDecision:
    """Whether a run may go on; `finding` says why not."""

    allowed: bool
    pick: ModelPick
    finding: Finding | None = None


def pick_model(
    agent: Agent, mode: ExecutionMode, model: str, role: str, default_model: str
) -> ModelPick | Finding:
    """The model of a run (behaviour §6: task explicit, Agent's role, Agent, namespace).

    A finding instead when a cheap role has no model of its own: it is never guessed.
    """
    if mode in MODELLESS:
        return ModelPick("", "NONE")
    if model:
        return ModelPick(model, "TASK_EXPLICIT")
    if role:
        chosen = agent.definition.model_roles.get(role, "")
        if role in CHEAP_ROLES and (not chosen or _is_router(chosen)):
            return Finding(
                "MISSING_CHEAP_CHECK_ROLE",
                f"Agent {agent.id} has no model for the role {role}.",
                f"agents.list[{agent.id}].models.{role}",
            )
        if chosen:
            return ModelPick(chosen, "AGENT_ROLE")
    if agent.definition.model:
        return ModelPick(agent.definition.model, "AGENT_DEFAULT")
    if default_model:
        return ModelPick(default_model, "NAMESPACE_DEFAULT")
    return ModelPick("", "WORKER_DEFAULT")


def decide_run(
    agent: Agent | None,
    agent_id: str,
    mode: ExecutionMode,
    model: str,
    role: str,
    default_model: str,
) -> RunDecision:
    """Whether an Agent may carry out a run now, and with which model."""
    if agent is None:
        return RunDecision(False, ModelPick("", "NONE"), _missing_agent(agent_id))
    picked = pick_model(agent, mode, model, role, default_model)
    if isinstance(picked, Finding):
        return RunDecision(False, ModelPick("", "NONE"), picked)
    return RunDecision(True, picked)


def preflight(
    agent: Agent | None,
    agent_id: str,
    mode: ExecutionMode,
    model: str,
    role: str,
    default_model: str,
    usable_providers: Collection[str],
    own_providers: Collection[str] = (),
) -> tuple[tuple[Finding, ...], str]:
    """What stands in the way of a task, most important first, and the model it would use.

    `usable_providers` are those that workers have credentials for, `own_providers` those that the
    namespace defines; a model that names no provider is a worker's. A task that plans for itself
    (mode auto, nothing explicit) begins with a cheap check (behaviour §6), which needs its role.
    """
    if mode is ExecutionMode.AUTO and not (model or role):
        role = CHEAP_CHECK
    decision = decide_run(agent, agent_id, mode, model, role, default_model)
    if decision.finding is not None:
        return (decision.finding,), ""
    if (unavailable := unavailable_mode(mode)) is not None:
        return (unavailable,), decision.pick.model
    if decision.pick.reason == "NONE":
        return (), ""
    usable = {*usable_providers, *(own_providers if "/" in decision.pick.model else ())}
    credential = missing_credential(agent_id, decision.pick.model, usable)
    return ((credential,) if credential else ()), decision.pick.model


def unavailable_mode(mode: ExecutionMode) -> Finding | None:
    """What is said of a mode that this version does not carry out."""
    if mode in (ExecutionMode.NO_MODEL, ExecutionMode.AGENT_TURN):
        return None
    return Finding(
        "MODE_UNAVAILABLE",
        f"Mode {mode} cannot be carried out yet; use agent-turn or no-model.",
        "mode",
    )


def missing_credential(
    agent_id: str, model: str, usable_providers: Collection[str]
) -> Finding | None:
    """The finding for a model whose provider no worker can reach, None when one can."""
    provider, slash, _ = model.partition("/")
    if not usable_providers:
        return Finding(
            "NO_MODEL_CREDENTIAL",
            f"No model is set up for Agent {agent_id}. Set OPENAI_API_KEY, start Ollama, or set "
            "FASED_MODEL_BASE_URL, then restart; tasks with --mode no-model work without one.",
            "OPENAI_API_KEY",
        )
    if slash and provider not in usable_providers:
        known = ", ".join(sorted(usable_providers))
        return Finding(
            "PROVIDER_NOT_USABLE",
            f"Model {model} needs the provider {provider}, and the workers have credentials "
            f"for {known} only.",
            f"provider {provider}",
        )
    return None


def _missing_agent(agent_id: str) -> Finding:
    return Finding(
        "AGENT_MISSING",
        f"There is no Agent {agent_id}.",
        f"fased agents add {agent_id}",
    )


def _is_router(model: str) -> bool:
    return model.endswith("/auto")
