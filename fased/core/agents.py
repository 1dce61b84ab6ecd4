"""Agents as values. Decides their shape; not what they do, nor who may edit them (`owners.py`)."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from fased.core.errors import InvalidArgument
from fased.core.names import AgentId, Namespace

MODEL_ROLES = ("cheapCheck", "strong", "escalation", "coding", "summarizer")
MAX_SYSTEM_PROMPT_CHARS = 32_000
MAX_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """What a person says of an Agent; every change of it is a new revision.

    `model` is `provider/model`, `""` for the namespace's default; `model_roles` holds references by
    task role; an empty `system_prompt` means a plain default.
    """

    display_name: str = ""
    model: str = ""
    fallback_models: tuple[str, ...] = ()
    model_roles: dict[str, str] = field(default_factory=dict, hash=False)
    system_prompt: str = ""
    workspace: str = ""
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Agent:
    """An Agent as it stands. `managed_by` is `""`, `file:NAME` or `resource:UID`."""

    namespace: Namespace
    id: AgentId
    definition: AgentDefinition
    revision: int = 1
    managed_by: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def etag(self) -> str:
        """Changes with every revision."""
        return f'"{self.revision}"'


def checked_definition(definition: AgentDefinition) -> AgentDefinition:
    """The definition with its texts trimmed; raises InvalidArgument naming the field."""
    if unknown := sorted(set(definition.model_roles) - set(MODEL_ROLES)):
        raise _invalid("model_roles", f"{unknown[0]!r} is none of {', '.join(MODEL_ROLES)}")
    if len(definition.display_name) > MAX_NAME_CHARS:
        raise _invalid("display_name", f"at most {MAX_NAME_CHARS} characters")
    if len(definition.system_prompt) > MAX_SYSTEM_PROMPT_CHARS:
        raise _invalid("system_prompt", f"at most {MAX_SYSTEM_PROMPT_CHARS} characters")
    for ref in (definition.model, *definition.fallback_models, *definition.model_roles.values()):
        if ref != ref.strip() or any(c.isspace() for c in ref):
            raise _invalid("model", f"{ref[:80]!r} is not of the form provider/model")
    return replace(definition, display_name=definition.display_name.strip())


def _invalid(field_name: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field_name}: {why}", reason="INVALID_AGENT", metadata={"field": field_name}
    )
