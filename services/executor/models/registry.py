"""The models a worker can call. Decides who is asked for which; choices are `core/models.py`."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.client import HTTPException
from pathlib import Path

import structlog

from fased.core import models
from fased.core.findings import Finding
from fased.core.models import Catalogue, ModelChoice, Provider
from fased.secrets import Secrets
from services.executor.models.openai import OpenAIModels
from services.executor.models.port import ModelCall, ModelPart, ModelProvider
from services.executor.models.scripted import ScriptedModels, read_script

OLLAMA_PROBE_S = 0.5
MAX_PROBE_BYTES = 1024 * 1024

logger = structlog.get_logger()


class Models:
    """The providers of one worker, behind one call."""

    def __init__(self, catalogue: Catalogue, others: ModelProvider, scripted: ModelProvider | None):
        self._catalogue = catalogue
        self._others = others
        self._scripted = scripted

    @property
    def provider_ids(self) -> tuple[str, ...]:
        """The providers this worker has credentials for."""
        return self._catalogue.provider_ids

    def choose(
        self, ref: str, agent_id: str, providers: Sequence[Provider] = ()
    ) -> ModelChoice | Finding:
        """What a model reference means here, beside a namespace's own providers.

        Empty takes the default.
        """
        catalogue = models.with_providers(self._catalogue, providers)
        return models.choose_model(catalogue, ref, agent_id)

    def stream(self, call: ModelCall) -> AsyncGenerator[ModelPart, None]:
        """The answer in pieces, as the port says."""
        provider = call.choice.provider
        is_scripted = provider.id == models.SCRIPTED and not provider.base_url
        if is_scripted and self._scripted is not None:
            return self._scripted.stream(call)
        return self._others.stream(call)


@asynccontextmanager
async def open_models(
    environment: Mapping[str, str], secrets: Secrets, *, silence_timeout_s: float
) -> AsyncIterator[Models]:
    """What the environment sets up; credentials are read by `secrets`.

    Raises InvalidArgument for a setting that cannot be meant.
    """
    ollama_models = await asyncio.to_thread(_ollama_models, environment)
    catalogue = models.catalogue_of(environment, ollama_models=ollama_models)
    scripted = _scripted(environment) if models.SCRIPTED in catalogue.provider_ids else None
    others = OpenAIModels(secrets, silence_timeout_s=silence_timeout_s)
    logger.info(
        "models_found",
        providers=list(catalogue.provider_ids),
        default_model=catalogue.default_model,
    )
    try:
        yield Models(catalogue, others, scripted)
    finally:
        await others.close()


def _scripted(environment: Mapping[str, str]) -> ScriptedModels:
    log = environment.get("FASED_SCRIPTED_LOG", "")
    script = read_script(environment["FASED_SCRIPTED_MODEL"].strip())
    return ScriptedModels(script, Path(log) if log else None)


def _ollama_models(environment: Mapping[str, str]) -> list[str]:
    """The models that a local Ollama has; none when it does not answer at once."""
    url = models.ollama_url(environment)
    if url is None:
        logger.info("ollama_not_probed", why="OLLAMA_HOST names another machine")
        return []
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/tags", timeout=OLLAMA_PROBE_S) as answer:
            found = json.loads(answer.read(MAX_PROBE_BYTES))
        return [str(each["name"]) for each in found["models"]]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        # Nothing there, or something that is no Ollama.
        return []
