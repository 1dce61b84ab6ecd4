"""Secrets of a real API server, read with the rights that RBAC gives and no others."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fased.core.errors import FailedPrecondition, FasedError, Unavailable
from fased.secrets import Secrets, open_secrets
from tests.support.calls import eventually
from tests.support.cluster_secrets import Pod, pod
from tests.support.kubernetes.access import Kubernetes
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.kubernetes.pki import Authority

CANARY = "canary-0123456789"


@pytest.fixture
async def reader(kubernetes: Kubernetes, tmp_path: Path) -> Pod:
    return await pod(kubernetes, tmp_path)


@pytest.fixture
async def secrets(reader: Pod) -> AsyncIterator[Secrets]:
    async with open_secrets(reader.environment) as opened:
        yield opened


def named(reader: Pod, suffix: str) -> str:
    """A namespace of this test alone."""
    return f"{reader.home}-{suffix}"


async def refusal(secrets: Secrets, reference: str, namespace: str) -> FasedError:
    with pytest.raises(FasedError) as refused:
        await secrets.resolve(reference, namespace)
    assert CANARY not in refused.value.message
    assert CANARY not in str(refused.value.metadata)
    assert refused.value.__cause__ is None
    return refused.value


async def test_a_secret_is_that_of_its_own_namespace(reader: Pod, secrets: Secrets) -> None:
    one, two = named(reader, "one"), named(reader, "two")
    await reader.serve(one, two)
    await reader.put(one, "bot", token="of one\n", other=CANARY)
    await reader.put(two, "bot", token="of two")
    assert await secrets.resolve("secret:bot/token", one) == "of one"
    assert await secrets.resolve("secret:bot/token", two) == "of two"


async def test_what_is_missing_is_said_by_name_key_and_namespace(
    reader: Pod, secrets: Secrets
) -> None:
    served = named(reader, "served")
    await reader.serve(served)
    await reader.put(served, "bot", token=CANARY, blank=" \n")
    for reference, name, key in (
        ("secret:bot/key", "bot", "key"),
        ("secret:bot/blank", "bot", "blank"),
        ("secret:none/token", "none", "token"),
    ):
        refused = await refusal(secrets, reference, served)
        assert (type(refused), refused.reason) == (FailedPrecondition, "SECRET_MISSING")
        where = f"secret {name}, key {key}, in namespace {served}"
        assert refused.metadata["setup_target"] == where
        assert where in refused.message


async def test_a_namespace_that_is_not_served_is_not_read(reader: Pod, secrets: Secrets) -> None:
    closed = named(reader, "closed")
    await reader.make_namespace(closed)
    await reader.put(closed, "bot", token=CANARY)
    refused = await refusal(secrets, "secret:bot/token", closed)
    assert refused.reason == "SECRET_FORBIDDEN"
    assert closed in refused.message


async def test_a_changed_secret_is_taken_up_and_one_that_appears_is_found(
    reader: Pod, secrets: Secrets
) -> None:
    served = named(reader, "served")
    await reader.serve(served)
    await refusal(secrets, "secret:bot/token", served)
    await reader.put(served, "bot", token="first")
    assert await secrets.resolve("secret:bot/token", served) == "first"
    await reader.put(served, "bot", token="second")

    async def is_second() -> bool:
        return await secrets.resolve("secret:bot/token", served) == "second"

    await eventually(is_second)
    await reader.remove(served, "bot")
    with pytest.raises(FailedPrecondition):
        await secrets.check("secret:bot/token", served)

    async def is_gone() -> bool:
        try:
            await secrets.resolve("secret:bot/token", served)
        except FailedPrecondition as exc:
            return exc.reason == "SECRET_MISSING"
        return False

    await eventually(is_gone)


async def test_a_token_that_kubernetes_renews_is_read_again(reader: Pod, secrets: Secrets) -> None:
    served = named(reader, "served")
    await reader.serve(served)
    await reader.put(served, "bot", token="value")
    good = (reader.folder / "token").read_text()
    (reader.folder / "token").write_text("expired")
    with pytest.raises(Unavailable):
        await secrets.resolve("secret:bot/token", served)
    (reader.folder / "token").write_text(good)
    assert await secrets.resolve("secret:bot/token", served) == "value"


async def test_an_authority_that_did_not_sign_the_server_is_shown_no_token(
    reader: Pod, secrets: Secrets, tmp_path_factory: pytest.TempPathFactory
) -> None:
    served = named(reader, "served")
    await reader.serve(served)
    await reader.put(served, "bot", token="value")
    own = (reader.folder / "ca.crt").read_text()
    other = Authority(tmp_path_factory.mktemp("authority") / "pki").certificate.read_text()
    (reader.folder / "ca.crt").write_text(other)
    with pytest.raises(Unavailable):
        await secrets.resolve("secret:bot/token", served)
    (reader.folder / "ca.crt").write_text(own)
    assert await secrets.resolve("secret:bot/token", served) == "value"


async def test_a_secret_that_was_read_is_used_on_while_the_api_server_is_away(
    own_apiserver: Apiserver, tmp_path: Path
) -> None:
    reader = await pod(own_apiserver, tmp_path)
    served = named(reader, "served")
    await reader.serve(served)
    await reader.put(served, "bot", token="value", other="unread")
    async with open_secrets(reader.environment, kept_s=0) as asking:
        assert await asking.resolve("secret:bot/token", served) == "value"
        own_apiserver.kill()
        try:
            assert await asking.resolve("secret:bot/token", served) == "value"
            for lookup in (
                asking.resolve("secret:bot/other", served),
                asking.check("secret:bot/token", served),
            ):
                with pytest.raises(Unavailable) as away:
                    await lookup
                assert away.value.reason == "SECRET_STORE_UNAVAILABLE"
        finally:
            await own_apiserver.restart()
        assert await asking.resolve("secret:bot/other", served) == "unread"
