"""Model providers that a namespace defines: where its models are served, and by which credential.

Decides which definitions can be meant and which provider a namespace's default model comes from.
Which model a run uses is `policy.py`; how a provider is called is the executor's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fased.core.addresses import why_no_address
from fased.core.credentials import parse_reference
from fased.core.errors import InvalidArgument
from fased.core.names import Namespace, canonical_id

MAX_MODEL_CHARS = 200


class ProviderType(StrEnum):
    """How a provider is spoken to: `openai` is OpenAI's chat completions."""

    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class ProviderDefinition:
    """What a person says of a provider.

    `base_url` is `""` for OpenAI's own address, `credential` a reference, `""` for a server that
    wants none; `default_model` is what Agents without a model use, without the provider's id.
    """

    type: ProviderType = ProviderType.OPENAI
    base_url: str = ""
    credential: str = ""
    default_model: str = ""


@dataclass(frozen=True, slots=True)
class ModelProvider:
    """A provider as it stands; `id` is what precedes the slash of a model reference."""

    namespace: Namespace
    id: str
    definition: ProviderDefinition
    managed_by: str = ""
    created_at: datetime | None = field(default=None, compare=False)
    updated_at: datetime | None = field(default=None, compare=False)


def checked_id(provider_id: str) -> str:
    """A provider's id; raises InvalidArgument unless it is in the form that Agents' ids have."""
    if not provider_id or canonical_id(provider_id) != provider_id:
        raise _invalid("name", f"{provider_id[:80]!r} is not made of a-z, 0-9, - and _")
    return provider_id


def checked_type(text: str) -> ProviderType:
    """How a provider is spoken to; `""` means openai. Raises InvalidArgument for another word."""
    try:
        return ProviderType(text or ProviderType.OPENAI)
    except ValueError:
        raise _invalid("type", f"{text[:40]!r} is none of {', '.join(ProviderType)}") from None


def checked_provider(definition: ProviderDefinition) -> ProviderDefinition:
    """A definition that can be meant; raises InvalidArgument naming the field."""
    if definition.base_url and (why := why_no_address(definition.base_url)):
        raise _invalid("base_url", why)
    if definition.credential:
        try:
            parse_reference(definition.credential)
        except InvalidArgument as exc:
            raise _invalid("credential", exc.message) from None
    model = definition.default_model
    if len(model) > MAX_MODEL_CHARS or any(c.isspace() or c == "\0" for c in model):
        raise _invalid("default_model", "a model's name has no spaces and at most 200 characters")
    return definition


def default_model(named: str, providers: Sequence[ModelProvider]) -> str:
    """The model of a namespace's Agents without one; `""` where nobody says one.

    `named` is the namespace's own word, `""` for none; then the eldest provider with a default
    has it. `providers` are in order of age.
    """
    if named:
        return named
    for provider in providers:
        if provider.definition.default_model:
            return f"{provider.id}/{provider.definition.default_model}"
    return ""


def named_by(providers: Sequence[ModelProvider], models: Sequence[str]) -> list[ModelProvider]:
    """Those of the providers that model references name."""
    ids = {ref.partition("/")[0] for ref in models if "/" in ref}
    return [each for each in providers if each.id in ids]


def _invalid(field_name: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field_name}: {why}", reason="INVALID_MODEL_PROVIDER", metadata={"field": field_name}
    )
