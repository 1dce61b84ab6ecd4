"""What a custom resource names outside itself: an Agent, an account, a provider of models.

Decides which references there are and what is said where one leads nowhere. Names mean those of
the resource's own namespace.
"""

from collections.abc import Collection, Mapping

from fased.core.agents import AgentDefinition
from fased.core.bindings import ANY_ACCOUNT, Binding
from fased.core.conversations import WEBCHAT
from fased.core.findings import Finding
from fased.core.names import AccountId, ChannelId
from fased.core.policy import MODELLESS
from fased.core.tasks import Task


def account_name(channel: ChannelId, account_id: AccountId) -> str:
    """`channel:account`, as accounts are named."""
    return f"{channel}:{account_id}"


def providers_of(agent: AgentDefinition) -> tuple[str, ...]:
    """The providers that an Agent's models name, in order; a model without one names none."""
    models = (agent.model, *agent.fallback_models, *agent.model_roles.values())
    split = (model.partition("/") for model in models)
    return tuple(dict.fromkeys(provider for provider, slash, _ in split if slash))


def account_of_task(task: Task) -> str:
    """The account that a task delivers by; `""` for none, and for WebChat's, which always is."""
    if task.target is None or task.target.channel == WEBCHAT:
        return ""
    return account_name(task.target.channel, task.target.account_id)


def account_of_binding(binding: Binding) -> str:
    """The account that a binding is about; `""` for all of them, and for WebChat's."""
    if binding.channel == WEBCHAT or binding.account_scope == ANY_ACCOUNT:
        return ""
    return account_name(binding.channel, binding.account_scope)


def provider_of_task(task: Task, agent_model: str) -> tuple[str, ...]:
    """The provider that a task's runs call, where its model or its Agent's names one."""
    if task.mode in MODELLESS:
        return ()
    provider, slash, _ = (task.model or agent_model).partition("/")
    return (provider,) if slash else ()


def missing_provider(
    providers: Collection[str], known: Collection[str], unusable: Mapping[str, Finding]
) -> Finding | None:
    """What is said of the first provider that is not known, or that cannot be used: the latter's
    finding is that of its Secret.
    """
    for provider in providers:
        if provider not in known:
            return Finding(
                "PROVIDER_MISSING",
                f"There is no model provider {provider}.",
                f"a ModelProvider named {provider}",
            )
        if finding := unusable.get(provider):
            return Finding(
                finding.reason,
                f"The model provider {provider} cannot be used: {finding.message}.",
                finding.setup_target,
            )
    return None


def missing_account(account: str, known: Collection[str]) -> Finding | None:
    """What is said of an account that is not known."""
    if not account or account in known:
        return None
    channel, _, account_id = account.partition(":")
    return Finding(
        "ACCOUNT_MISSING",
        f"There is no account {account}.",
        f"a Channel of the type {channel} with the account {account_id}",
    )


def missing_agent(agent_id: str, known: Collection[str]) -> Finding | None:
    """What is said of an Agent that is not known."""
    if agent_id in known:
        return None
    return Finding("AGENT_MISSING", f"There is no Agent {agent_id}.", f"an Agent named {agent_id}")


def missing_secret(namespace: str, credential: str) -> Finding:
    """What is said of a Secret that is not there: `credential` is `secret:NAME/KEY`."""
    name, _, key = credential.partition(":")[2].partition("/")
    where = f"secret {name}, key {key}, in namespace {namespace}"
    return Finding("SECRET_MISSING", f"the {where} is not there", where)
