"""Model providers against a real server on the loopback that speaks their protocol."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from fased.core.context import ModelMessage
from fased.core.errors import FailedPrecondition, InvalidArgument
from fased.core.findings import Finding
from fased.core.model_failures import ModelFailure
from fased.core.models import ModelChoice, Provider
from fased.core.runs import FailureClass
from fased.core.transcripts import Role
from fased.secrets import open_secrets
from services.executor.models.openai import OpenAIModels
from services.executor.models.port import ModelCall, ModelPart
from services.executor.models.registry import Models, open_models
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider

# Nothing listens there, so no Ollama of this machine takes part.
NO_OLLAMA = {"OLLAMA_HOST": "127.0.0.1:9"}
KEY = "sk-canary-0123456789"


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


def environment_of(provider: ScriptedProvider, **more: str) -> dict[str, str]:
    return {
        **NO_OLLAMA,
        "FASED_MODEL_BASE_URL": provider.base_url,
        "FASED_MODEL_API_KEY": KEY,
        "FASED_MODEL": "small",
        **more,
    }


@asynccontextmanager
async def models_of(
    environment: Mapping[str, str], silence_timeout_s: float = 5
) -> AsyncIterator[Models]:
    async with (
        open_secrets(environment) as secrets,
        open_models(environment, secrets, silence_timeout_s=silence_timeout_s) as models,
    ):
        yield models


def call_of(models: Models, text: str, ref: str = "") -> ModelCall:
    choice = models.choose(ref, "main")
    assert isinstance(choice, ModelChoice)
    return ModelCall(choice, (ModelMessage(Role.USER, text),), run_id=7)


async def answer(models: Models, text: str) -> tuple[str, int, int]:
    said, input_tokens, output_tokens = "", 0, 0
    async with aclosing(models.stream(call_of(models, text))) as parts:
        async for part in parts:
            said += part.text
            input_tokens += part.input_tokens
            output_tokens += part.output_tokens
    return said, input_tokens, output_tokens


async def failure_of(
    environment: Mapping[str, str], *, silence_timeout_s: float = 5
) -> ModelFailure:
    async with models_of(environment, silence_timeout_s) as models:
        with pytest.raises(ModelFailure) as failed:
            await answer(models, "hello")
    assert KEY not in failed.value.message
    assert "Traceback" not in failed.value.message
    assert failed.value.__cause__ is None
    return failed.value


async def test_an_answer_comes_in_pieces_with_its_tokens(provider: ScriptedProvider) -> None:
    async with models_of(environment_of(provider)) as models:
        assert await answer(models, "hello there") == ("You said: hello there", 11, 7)
    (call,) = provider.calls
    assert (call.model, call.authorization) == ("small", f"Bearer {KEY}")


async def test_the_first_piece_is_there_before_the_last_is_written(
    provider: ScriptedProvider,
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(answer="one two", hold=gate, hold_after=1)]
    async with (
        models_of(environment_of(provider)) as models,
        aclosing(models.stream(call_of(models, "go"))) as parts,
    ):
        assert (await anext(parts)).text == "one"
        gate.set()
        assert "".join([part.text async for part in parts]) == " two"


@pytest.mark.parametrize(
    ("rule", "failure", "reason", "words"),
    [
        (
            Rule(status=429, headers={"retry-after": "2"}, error={"message": "slow down"}),
            FailureClass.RATE_LIMIT,
            "MODEL_RATE_LIMITED",
            "slow down",
        ),
        (
            Rule(status=429, error={"message": "pay", "code": "insufficient_quota"}),
            FailureClass.PERMANENT,
            "MODEL_QUOTA_EXHAUSTED",
            "billing",
        ),
        (Rule(status=500, error="oops"), FailureClass.SERVER_ERROR, "MODEL_SERVER_ERROR", "500"),
        (Rule(status=503), FailureClass.OVERLOADED, "MODEL_OVERLOADED", "overloaded"),
        (
            Rule(status=401, error={"message": f"Incorrect API key provided: {KEY}"}),
            FailureClass.PERMANENT,
            "MODEL_CREDENTIAL_REFUSED",
            "FASED_MODEL_API_KEY",
        ),
        (Rule(status=404), FailureClass.PERMANENT, "MODEL_NOT_FOUND", "small"),
        (
            Rule(status=400, error={"message": f"bad {KEY} {'x' * 5000}"}),
            FailureClass.PERMANENT,
            "MODEL_REFUSED",
            "[secret]",
        ),
        (
            Rule(answer="one two three", close_after=2),
            FailureClass.NETWORK,
            "MODEL_UNREACHABLE",
            "FASED_MODEL_BASE_URL",
        ),
        (
            Rule(answer="one two", finish=None),
            FailureClass.SERVER_ERROR,
            "MODEL_ANSWER_UNUSABLE",
            "before it was complete",
        ),
        (
            Rule(raw=b"data: {not json\n\n"),
            FailureClass.SERVER_ERROR,
            "MODEL_ANSWER_UNUSABLE",
            "no chat completion",
        ),
        (
            Rule(raw=b"<html>welcome</html>"),
            FailureClass.SERVER_ERROR,
            "MODEL_ANSWER_UNUSABLE",
            "complete",
        ),
        (
            Rule(raw=b'data: {"error": {"message": "gone", "code": 503}}\n\n'),
            FailureClass.OVERLOADED,
            "MODEL_OVERLOADED",
            "overloaded",
        ),
        (
            Rule(answer="one", finish="content_filter"),
            FailureClass.PERMANENT,
            "MODEL_REFUSED",
            "content filter",
        ),
    ],
)
async def test_every_way_to_fail_has_a_class_a_reason_and_a_sentence(
    provider: ScriptedProvider, rule: Rule, failure: FailureClass, reason: str, words: str
) -> None:
    provider.rules = [rule]
    failed = await failure_of(environment_of(provider))
    assert (failed.failure, failed.reason) == (failure, reason)
    assert words in failed.message
    assert len(failed.message) < 400
    assert len(provider.calls) == 1, "trying again is the run's, not the library's"


async def test_the_wait_that_a_provider_asks_for_is_kept(provider: ScriptedProvider) -> None:
    provider.rules = [Rule(status=429, headers={"retry-after": "2"})]
    failed = await failure_of(environment_of(provider))
    assert failed.retry_after is not None
    assert failed.retry_after.total_seconds() == 2


async def test_a_silent_provider_is_given_up(provider: ScriptedProvider) -> None:
    provider.rules = [Rule(hold=threading.Event())]
    failed = await failure_of(environment_of(provider), silence_timeout_s=0.2)
    assert (failed.failure, failed.reason) == (FailureClass.TIMEOUT, "MODEL_TIMEOUT")


async def test_a_provider_that_is_not_there_is_named_with_its_address() -> None:
    environment = {**NO_OLLAMA, "FASED_MODEL_BASE_URL": "http://127.0.0.1:9/v1", "FASED_MODEL": "m"}
    failed = await failure_of(environment)
    assert (failed.failure, failed.setup_target) == (FailureClass.NETWORK, "FASED_MODEL_BASE_URL")
    assert "http://127.0.0.1:9/v1" in failed.message


async def test_leaving_a_stream_hangs_up_on_the_provider(provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.rules = [Rule(answer="one " + "more " * 200_000, hold=gate, hold_after=1)]
    async with models_of(environment_of(provider)) as models:
        async with aclosing(models.stream(call_of(models, "go"))) as parts:
            await anext(parts)
        gate.set()
        assert await asyncio.to_thread(provider.hung_up.wait, 10)


async def test_a_credential_that_is_gone_is_missed_by_name(provider: ScriptedProvider) -> None:
    environment = environment_of(provider)
    async with models_of(environment) as models:
        del environment["FASED_MODEL_API_KEY"]
        with pytest.raises(FailedPrecondition) as missing:
            await answer(models, "hello")
    assert missing.value.metadata == {"setup_target": "FASED_MODEL_API_KEY"}
    assert not provider.calls


async def test_a_changed_credential_is_taken_up_without_a_restart(
    provider: ScriptedProvider,
) -> None:
    environment = environment_of(provider)
    async with models_of(environment) as models:
        await answer(models, "one")
        environment["FASED_MODEL_API_KEY"] = "sk-other"
        await answer(models, "two")
    assert [call.authorization for call in provider.calls] == [f"Bearer {KEY}", "Bearer sk-other"]


async def test_beyond_the_bound_only_a_pool_that_no_call_uses_is_closed(
    provider: ScriptedProvider,
) -> None:
    gate = threading.Event()
    provider.rules = [Rule(match="slow", answer="one two", hold=gate, hold_after=1), Rule()]
    environment = {"FIRST": "sk-first", "SECOND": "sk-second", "THIRD": "sk-third"}
    async with open_secrets(environment) as secrets:
        models = OpenAIModels(secrets, silence_timeout_s=5, max_pools=1)

        def asked(key: str, text: str) -> AsyncGenerator[ModelPart, None]:
            choice = ModelChoice(Provider("own", provider.base_url, f"env:{key}"), "small")
            return models.stream(ModelCall(choice, (ModelMessage(Role.USER, text),), run_id=7))

        async with aclosing(asked("FIRST", "slow")) as slow:
            assert (await anext(slow)).text == "one"
            for key in ("SECOND", "THIRD", "SECOND"):
                assert "".join([part.text async for part in asked(key, "hi")]) == "You said: hi"
            gate.set()
            assert "".join([part.text async for part in slow]) == " two"
        await models.close()
    keys = [call.authorization.removeprefix("Bearer sk-") for call in provider.calls]
    assert keys == ["first", "second", "third", "second"]


async def test_a_local_ollama_is_found_with_its_models(provider: ScriptedProvider) -> None:
    provider.models = ["llama3:8b"]
    host = provider.base_url.removesuffix("/v1")
    async with models_of({"OLLAMA_HOST": host}) as models:
        assert models.provider_ids == ("ollama",)
        assert (await answer(models, "hi"))[0] == "You said: hi"
    assert provider.calls[0].model == "llama3:8b"


async def test_without_anything_set_up_no_model_is_chosen() -> None:
    async with models_of(NO_OLLAMA) as models:
        assert models.provider_ids == ()
        assert isinstance(models.choose("", "main"), Finding)


async def test_a_script_answers_by_rules_and_logs_every_call(tmp_path: Path) -> None:
    rules = [
        {"match": "^weather", "answer": "sunny"},
        {"match": "busy", "fail": {"status": 429, "times": 1, "retry_after_s": 2}, "answer": "ok"},
    ]
    script, log = tmp_path / "script.json", tmp_path / "calls.jsonl"
    script.write_text(json.dumps({"rules": rules}))
    environment = {
        **NO_OLLAMA,
        "FASED_SCRIPTED_MODEL": str(script),
        "FASED_SCRIPTED_LOG": str(log),
    }
    async with models_of(environment) as models:
        assert (await answer(models, "weather?"))[0] == "sunny"
        with pytest.raises(ModelFailure) as failed:
            await answer(models, "busy?")
        assert (await answer(models, "busy?"))[0] == "ok"
        assert (await answer(models, "else"))[0] == "You said: else"
    assert failed.value.failure is FailureClass.RATE_LIMIT
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["text"] for line in lines] == ["weather?", "busy?", "busy?", "else"]
    assert {(line["run"], line["model"]) for line in lines} == {(7, "scripted/demo")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "invalid json"),
        ('{"rules": [{"mach": "x"}]}', "mach"),
        ('{"rules": [{"match": "("}]}', "match"),
    ],
)
async def test_a_script_that_is_wrong_stops_the_start_with_its_place(
    tmp_path: Path, content: str, words: str
) -> None:
    script = tmp_path / "script.json"
    script.write_text(content)
    with pytest.raises(InvalidArgument, match="FASED_SCRIPTED_MODEL") as refused:
        async with models_of({**NO_OLLAMA, "FASED_SCRIPTED_MODEL": str(script)}):
            pass
    assert words in refused.value.message
