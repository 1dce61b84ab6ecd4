"""Models: which providers an environment sets up, and which of their models a run uses.

Decides from values passed in; it reads no credential (only its reference) and calls nobody. What a
failed call means is `model_failures.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from fased.core import policy
from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.model_providers import ModelProvider

OPENAI, OPENROUTER, OLLAMA, CUSTOM, SCRIPTED = (
    "openai",
    "openrouter",
    "ollama",
    "custom",
    "scripted",
)
# Used where neither the run, the Agent, the namespace nor FASED_MODEL names a model.
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_DEFAULT_MODEL = "gpt-4.1-mini"
OPENROUTER_DEFAULT_MODEL = "openrouter/auto"
OLLAMA_URL = "http://127.0.0.1:11434"


@dataclass(frozen=True, slots=True)
class Provider:
    """One place that serves models. `base_url` is empty for the scripted one.

    `key_ref` names its credential (`core/credentials.py`) in `namespace`, empty for none;
    `default_model` is its own default, empty for none; `url_setup` and `key_setup` are what a
    person changes to mend it.
    """

    id: str
    base_url: str
    key_ref: str = ""
    default_model: str = ""
    url_setup: str = ""
    key_setup: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The providers a worker has credentials for, and the model reference it defaults to."""

    providers: tuple[Provider, ...] = ()
    default_model: str = ""

    @property
    def provider_ids(self) -> tuple[str, ...]:
        """Their ids, in order."""
        return tuple(each.id for each in self.providers)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model at a provider. `name` is what the provider calls it."""

    provider: Provider
    name: str

    @property
    def ref(self) -> str:
        """The reference, `provider/model`."""
        return f"{self.provider.id}/{self.name}"


def catalogue_of(environment: Mapping[str, str], *, ollama_models: Sequence[str] = ()) -> Catalogue:
    """What an environment sets up; `ollama_models` are those a local Ollama answered with.

    Raises InvalidArgument for a base URL that is none.
    """
    named = environment.get("FASED_MODEL", "").strip()
    found = (
        _scripted(environment),
        _custom(environment, named),
        _openai(environment),
        _keyed(OPENROUTER, "https://openrouter.ai/api/v1", OPENROUTER_DEFAULT_MODEL, environment),
        _ollama(environment, ollama_models),
    )
    providers = tuple(each for each in found if each is not None)
    return Catalogue(providers, _default(providers, named))


def provider_of(defined: ModelProvider) -> Provider:
    """A provider that a namespace defines, as it is called."""
    definition, setup = defined.definition, f"ModelProvider {defined.id}"
    return Provider(
        defined.id,
        definition.base_url or OPENAI_URL,
        key_ref=definition.credential,
        default_model=definition.default_model,
        url_setup=setup,
        key_setup=f"the credential of {setup}",
        namespace=defined.namespace,
    )


def with_providers(catalogue: Catalogue, providers: Sequence[Provider]) -> Catalogue:
    """The catalogue with a namespace's providers, which go before the worker's of the same id."""
    ids = {each.id for each in providers}
    others = tuple(each for each in catalogue.providers if each.id not in ids)
    return Catalogue((*providers, *others), catalogue.default_model)


def ollama_url(environment: Mapping[str, str]) -> str | None:
    """Where a local Ollama would listen; None when OLLAMA_HOST names another machine.

    `0.0.0.0` and an empty host are what its server binds to: this machine.
    """
    given = environment.get("OLLAMA_HOST", "").strip()
    if not given:
        return OLLAMA_URL
    try:
        parts = urlsplit(given if "//" in given else f"http://{given}")
        host, port = parts.hostname or "127.0.0.1", parts.port or 11434
    except ValueError:
        return None
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    if not _is_loopback(host) or parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def choose_model(catalogue: Catalogue, ref: str, agent_id: str) -> ModelChoice | Finding:
    """The provider and model that a reference means here; empty takes the worker's default.

    A reference without a known provider goes to the only one there is.
    """
    wanted = ref.strip() or catalogue.default_model
    if not catalogue.providers or not wanted:
        return policy.missing_credential(agent_id, wanted, catalogue.provider_ids) or Finding(
            "NO_MODEL_NAMED",
            f"No model is named for Agent {agent_id}: set FASED_MODEL, or the Agent's own model.",
            "FASED_MODEL",
        )
    provider_id, slash, name = wanted.partition("/")
    for provider in catalogue.providers:
        if slash and name and provider.id == provider_id:
            return ModelChoice(provider, name)
    if not slash and len(catalogue.providers) == 1:
        return ModelChoice(catalogue.providers[0], wanted)
    if not slash:
        choices = ", ".join(f"{each}/{wanted}" for each in catalogue.provider_ids)
        return Finding(
            "AMBIGUOUS_MODEL",
            f"Model {wanted} names no provider, and there are several: write one of {choices}.",
            "model",
        )
    return policy.missing_credential(agent_id, wanted, catalogue.provider_ids) or Finding(
        "INVALID_MODEL", f"Model {wanted} is not of the form provider/model.", "model"
    )


def _scripted(environment: Mapping[str, str]) -> Provider | None:
    if not environment.get("FASED_SCRIPTED_MODEL", "").strip():
        return None
    return Provider(SCRIPTED, "", default_model="demo", url_setup="FASED_SCRIPTED_MODEL")


def _custom(environment: Mapping[str, str], named: str) -> Provider | None:
    base_url = _url(environment, "FASED_MODEL_BASE_URL")
    if not base_url:
        return None
    has_key = bool(environment.get("FASED_MODEL_API_KEY", "").strip())
    return Provider(
        CUSTOM,
        base_url,
        key_ref="env:FASED_MODEL_API_KEY" if has_key else "",
        default_model=named,
        url_setup="FASED_MODEL_BASE_URL",
        key_setup="FASED_MODEL_API_KEY",
    )


def _openai(environment: Mapping[str, str]) -> Provider | None:
    base_url = _url(environment, "OPENAI_BASE_URL") or OPENAI_URL
    return _keyed(OPENAI, base_url, OPENAI_DEFAULT_MODEL, environment)


def _keyed(
    provider_id: str, base_url: str, default_model: str, environment: Mapping[str, str]
) -> Provider | None:
    name = f"{provider_id.upper()}_API_KEY"
    if not environment.get(name, "").strip():
        return None
    url_setup = "OPENAI_BASE_URL" if provider_id == OPENAI else ""
    return Provider(provider_id, base_url, f"env:{name}", default_model, url_setup, name)


def _ollama(environment: Mapping[str, str], models: Sequence[str]) -> Provider | None:
    url = ollama_url(environment)
    if not models or url is None:
        return None
    # An embedding model cannot chat; it is the default only where nothing else is there.
    chat = [name for name in models if "embed" not in name]
    return Provider(OLLAMA, f"{url}/v1", default_model=[*chat, *models][0], url_setup="OLLAMA_HOST")


def _default(providers: Sequence[Provider], named: str) -> str:
    ids = {each.id for each in providers}
    if named and (named.partition("/")[0] in ids or CUSTOM not in ids):
        return named
    if named:
        return f"{CUSTOM}/{named}"
    return next((f"{each.id}/{each.default_model}" for each in providers if each.default_model), "")


def _url(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name, "").strip().rstrip("/")
    if text and not re.match(r"https?://[^/\s]+", text):
        raise InvalidArgument(
            f"{name} must begin with http:// or https://",
            reason="INVALID_BASE_URL",
            metadata={"field": name},
        )
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
