"""Runs whose model is served where their namespace says, with a credential out of a real cluster's
Secret; and the check of such credentials.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fased.api.executor.v1 import credential_service_pb2, credential_service_pb2_grpc
from fased.api.policy.v1 import model_provider_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.core.errors import InvalidArgument, PermissionDenied
from tests.support.calls import acting, eventually
from tests.support.cluster_secrets import Pod, pod
from tests.support.kubernetes.access import Kubernetes
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider
from tests.support.turns import NAMESPACE, House, house, make_agent, message, uses

PARENT = f"namespaces/{NAMESPACE}"
FIRST, SECOND = "sk-canary-first-0123", "sk-canary-second-0123"


@pytest.fixture
def shared() -> Iterator[ScriptedProvider]:
    """What the worker itself is set up with."""
    with scripted_provider() as running:
        yield running


@pytest.fixture
def own() -> Iterator[ScriptedProvider]:
    """What the namespace defines."""
    with scripted_provider() as running:
        yield running


@pytest.fixture
async def reader(kubernetes: Kubernetes, tmp_path: Path) -> Pod:
    made = await pod(kubernetes, tmp_path)
    await made.serve(NAMESPACE)
    return made


@pytest.fixture
async def home(database_url: str, shared: ScriptedProvider, reader: Pod) -> AsyncIterator[House]:
    async with house(database_url, {**uses(shared), **reader.environment}) as opened:
        yield opened


async def define(home: House, provider_id: str, **fields: Any) -> None:
    """Let the namespace's provider be so, as a ModelProvider does."""
    providers = policy_service_pb2_grpc.ModelProviderServiceStub(home.up.channel)
    wanted = model_provider_pb2.ModelProvider(
        name=f"{PARENT}/modelProviders/{provider_id}", type="openai", **fields
    )
    await providers.ApplyModelProviders(
        policy_service_pb2.ApplyModelProvidersRequest(
            parent=PARENT, managed_by=f"resource:{provider_id}", providers=[wanted]
        )
    )


async def test_a_run_is_answered_by_its_namespaces_provider_with_the_secrets_key(
    home: House, own: ScriptedProvider, shared: ScriptedProvider, reader: Pod
) -> None:
    secret = f"models-{reader.home}"
    await reader.put(NAMESPACE, secret, key=FIRST)
    await define(home, "own", base_url=own.base_url, credential=f"secret:{secret}/key")
    await make_agent(home, model="own/large")
    ended = await home.ended(await home.enqueue(message("hello")))
    assert (ended["outcome"], ended["result"]["model"]) == ("succeeded", "own/large")
    assert [(call.model, call.authorization) for call in own.calls] == [
        ("large", f"Bearer {FIRST}")
    ]
    await reader.put(NAMESPACE, secret, key=SECOND)

    async def is_taken_up() -> bool:
        await home.ended(await home.enqueue(message("again")))
        return own.calls[-1].authorization == f"Bearer {SECOND}"

    await eventually(is_taken_up)
    assert not shared.calls


async def test_a_provider_without_a_credential_is_never_sent_the_workers_own(
    home: House, own: ScriptedProvider, shared: ScriptedProvider
) -> None:
    # Of the same id as the worker's.
    await define(home, "custom", base_url=own.base_url, default_model="tiny")
    await make_agent(home)
    ended = await home.ended(await home.enqueue(message("hello")))
    assert ended["result"]["model"] == "custom/tiny"
    assert [call.authorization for call in own.calls] == ["Bearer none"]
    assert not shared.calls


async def test_a_missing_secret_ends_the_run_with_what_to_set_up(
    home: House, own: ScriptedProvider
) -> None:
    await define(home, "own", base_url=own.base_url, credential="secret:nowhere/key")
    await make_agent(home, model="own/large")
    ended = await home.ended(await home.enqueue(message("hello")))
    assert (ended["outcome"], ended["result"]["reason"]) == ("failed", "SECRET_MISSING")
    where = f"secret nowhere, key key, in namespace {NAMESPACE}"
    assert where in ended["result"]["message"]
    assert not own.calls


async def test_a_fallback_may_be_the_namespaces_own_too(
    home: House, own: ScriptedProvider, shared: ScriptedProvider
) -> None:
    shared.rules = [Rule(status=404)]
    await define(home, "own", base_url=own.base_url)
    await make_agent(home, model="custom/small", fallback_models=["own/large"])
    ended = await home.ended(await home.enqueue(message("hello")))
    assert ended["result"]["model"] == "own/large"
    assert [call.model for call in shared.calls] == ["small"]


async def test_each_credential_is_checked_where_it_is_read_and_no_value_is_told(
    home: House, reader: Pod
) -> None:
    secret = f"checked-{reader.home}"
    checks = credential_service_pb2_grpc.CredentialServiceStub(home.up.channel)
    await reader.put(NAMESPACE, secret, key=FIRST)
    references = (f"secret:{secret}/key", f"secret:{secret}/none", "env:FASED_MODEL_API_KEY", FIRST)
    request = credential_service_pb2.CheckCredentialsRequest(parent=PARENT, credentials=references)
    answer = await checks.CheckCredentials(request)
    assert [(each.ok, each.finding.reason) for each in answer.checks] == [
        (True, ""),
        (False, "SECRET_MISSING"),
        (True, ""),
        (False, "INVALID_CREDENTIAL"),
    ]
    target = f"secret {secret}, key none, in namespace {NAMESPACE}"
    assert answer.checks[1].finding.setup_target == target
    assert answer.checks[1].finding.message.startswith(f"The {target} ")
    assert "canary" not in str(answer)
    elsewhere = credential_service_pb2.CheckCredentialsRequest(
        parent=f"namespaces/{reader.home}", credentials=[f"secret:{secret}/key"]
    )
    [check] = (await checks.CheckCredentials(elsewhere)).checks
    assert check.finding.reason == "SECRET_FORBIDDEN"
    with pytest.raises(PermissionDenied):
        await checks.CheckCredentials(request, **acting())
    many = credential_service_pb2.CheckCredentialsRequest(
        parent=PARENT, credentials=["env:A"] * 101
    )
    with pytest.raises(InvalidArgument):
        await checks.CheckCredentials(many)
