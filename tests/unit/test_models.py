"""Which models an environment sets up, which one a run uses, and what a failed call means."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.model_failures import (
    MAX_DETAIL_CHARS,
    asked_wait,
    classify_status,
    refused_call,
    trimmed_detail,
    unreachable,
)
from fased.core.model_providers import ModelProvider, ProviderDefinition
from fased.core.models import (
    ModelChoice,
    Provider,
    catalogue_of,
    choose_model,
    ollama_url,
    provider_of,
    with_providers,
)
from fased.core.names import Namespace
from fased.core.runs import FailureClass

OPENAI = {"OPENAI_API_KEY": "sk-secret"}
CUSTOM = {"FASED_MODEL_BASE_URL": "http://10.0.0.1:8000/v1/"}
CHOICE = ModelChoice(
    Provider(
        "openai", "https://api.openai.com/v1", "env:OPENAI_API_KEY", key_setup="OPENAI_API_KEY"
    ),
    "gpt-x",
)


def chosen(environment: dict[str, str], ref: str = "", ollama: tuple[str, ...] = ()) -> str:
    choice = choose_model(catalogue_of(environment, ollama_models=ollama), ref, "main")
    return choice.ref if isinstance(choice, ModelChoice) else choice.reason


OWN = ModelProvider(
    Namespace("team"),
    "openai",
    ProviderDefinition(base_url="http://models.svc/v1", credential="secret:models/key"),
)


def test_a_namespaces_provider_goes_before_the_workers_of_its_id() -> None:
    worker = catalogue_of({**OPENAI, **CUSTOM})
    own = with_providers(worker, [provider_of(OWN)])
    choice = choose_model(own, "openai/gpt-x", "main")
    assert isinstance(choice, ModelChoice)
    assert (choice.provider.base_url, choice.provider.key_ref, choice.provider.namespace) == (
        "http://models.svc/v1",
        "secret:models/key",
        "team",
    )
    assert sorted(own.provider_ids) == sorted(worker.provider_ids)
    assert with_providers(worker, []) == worker


def test_a_provider_without_an_address_is_openais_and_without_a_credential_sends_none() -> None:
    provider = provider_of(replace(OWN, definition=ProviderDefinition()))
    assert (provider.base_url, provider.key_ref) == ("https://api.openai.com/v1", "")


def test_a_refusal_of_a_namespaces_credential_names_its_provider() -> None:
    failure = refused_call(ModelChoice(provider_of(OWN), "m"), 401, "", "", None)
    assert "ModelProvider openai" in failure.message


def test_an_empty_environment_names_what_to_set_and_what_works_without() -> None:
    finding = choose_model(catalogue_of({}), "", "main")
    assert isinstance(finding, Finding)
    assert finding.reason == "NO_MODEL_CREDENTIAL"
    for word in ("Agent main", "OPENAI_API_KEY", "Ollama", "FASED_MODEL_BASE_URL", "no-model"):
        assert word in finding.message


@pytest.mark.parametrize(
    ("environment", "ref", "expected"),
    [
        (OPENAI, "", "openai/gpt-4.1-mini"),
        (OPENAI, "openai/gpt-x", "openai/gpt-x"),
        (OPENAI, "gpt-x", "openai/gpt-x"),
        (OPENAI, "anthropic/claude", "PROVIDER_NOT_USABLE"),
        (OPENAI, "openai/", "INVALID_MODEL"),
        ({**OPENAI, "FASED_MODEL": "gpt-y"}, "", "openai/gpt-y"),
        ({**OPENAI, "FASED_MODEL": "openai/gpt-y"}, "", "openai/gpt-y"),
        ({"OPENROUTER_API_KEY": "k"}, "", "openrouter/openrouter/auto"),
        ({"OPENROUTER_API_KEY": "k"}, "openrouter/a/b", "openrouter/a/b"),
        (CUSTOM, "", "NO_MODEL_NAMED"),
        ({**CUSTOM, "FASED_MODEL": "Qwen/Qwen2.5"}, "", "custom/Qwen/Qwen2.5"),
        ({**CUSTOM, **OPENAI, "FASED_MODEL": "openai/gpt-y"}, "", "openai/gpt-y"),
        ({**CUSTOM, **OPENAI}, "gpt-x", "AMBIGUOUS_MODEL"),
        ({"FASED_SCRIPTED_MODEL": "echo"}, "", "scripted/demo"),
        ({"FASED_SCRIPTED_MODEL": "echo"}, "scripted/any", "scripted/any"),
        ({}, "scripted/any", "NO_MODEL_CREDENTIAL"),
    ],
)
def test_a_reference_means_one_model_or_says_why_not(
    environment: dict[str, str], ref: str, expected: str
) -> None:
    assert chosen(environment, ref) == expected


def test_a_local_ollama_offers_its_first_model_that_can_chat() -> None:
    assert chosen({}, ollama=("nomic-embed-text", "llama3:8b")) == "ollama/llama3:8b"


def test_a_credential_is_only_ever_named() -> None:
    assert "sk-secret" not in repr(catalogue_of(OPENAI))


def test_a_base_url_without_a_scheme_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="FASED_MODEL_BASE_URL"):
        catalogue_of({"FASED_MODEL_BASE_URL": "localhost:8000"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":9000", "http://127.0.0.1:9000"),
        ("localhost:9000", "http://localhost:9000"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("https://127.0.0.1:9000/", "https://127.0.0.1:9000"),
        ("10.0.0.9", None),
        ("ollama.example.com:80", None),
        ("http://[", None),
        ("127.0.0.1:99999", None),
        ("file:///etc/passwd", None),
    ],
)
def test_only_an_ollama_of_this_machine_is_looked_for(host: str, expected: str | None) -> None:
    assert ollama_url({"OLLAMA_HOST": host}) == expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "", FailureClass.PERMANENT),
        (401, "", FailureClass.PERMANENT),
        (404, "", FailureClass.PERMANENT),
        (408, "", FailureClass.TIMEOUT),
        (429, "", FailureClass.RATE_LIMIT),
        (429, "insufficient_quota", FailureClass.PERMANENT),
        (500, "", FailureClass.SERVER_ERROR),
        (503, "", FailureClass.OVERLOADED),
        (504, "", FailureClass.TIMEOUT),
        (529, "", FailureClass.OVERLOADED),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, code: str, expected: FailureClass) -> None:
    assert classify_status(status, code) is expected


@given(st.integers(400, 599))
def test_every_refusal_has_a_reason_and_one_sentence(status: int) -> None:
    failure = refused_call(CHOICE, status, "", "why", None)
    assert failure.reason.isupper()
    assert "\n" not in failure.message
    assert "openai" in failure.message


def test_a_refused_credential_names_it_and_not_what_the_provider_said() -> None:
    failure = refused_call(CHOICE, 401, "", "Incorrect API key provided: sk-se...et", None)
    assert (failure.reason, failure.setup_target) == ("MODEL_CREDENTIAL_REFUSED", "OPENAI_API_KEY")
    assert "sk-" not in failure.message


def test_a_model_that_is_not_there_is_named() -> None:
    assert "gpt-x" in refused_call(CHOICE, 404, "", "", None).message


def test_a_provider_that_cannot_be_reached_is_named_with_its_address() -> None:
    provider = Provider("custom", "http://127.0.0.1:1/v1", url_setup="FASED_MODEL_BASE_URL")
    failure = unreachable(ModelChoice(provider, "m"), "connection refused")
    assert failure.failure is FailureClass.NETWORK
    assert "http://127.0.0.1:1/v1" in failure.message
    assert "FASED_MODEL_BASE_URL" in failure.message


@given(st.text(), st.text(min_size=6, alphabet="abcdef0123456789"))
def test_a_detail_is_one_short_line_without_the_secret(words: str, secret: str) -> None:
    detail = trimmed_detail(f"{words} {secret}\n{words}", [secret])
    assert secret not in detail
    assert "\n" not in detail
    assert len(detail) <= MAX_DETAIL_CHARS + 1


def test_a_detail_hides_what_looks_like_a_key() -> None:
    assert trimmed_detail("bad key sk-abcdef123456", []) == "bad key [secret]"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "1e9"}, 86_400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_a_provider_asks_for_is_a_bounded_number(
    headers: dict[str, str], expected: float | None
) -> None:
    wait = asked_wait(headers)
    assert wait == (None if expected is None else timedelta(seconds=expected))
