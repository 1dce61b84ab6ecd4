"""Channel accounts that custom resources define: generations, owners, credentials in Secrets."""

from pathlib import Path

import pytest

from fased.api.channels.v1 import account_pb2
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.core.access import Role
from fased.core.errors import Aborted, FailedPrecondition, InvalidArgument, PermissionDenied
from tests.support.calls import acting, eventually
from tests.support.cluster_secrets import Pod, pod
from tests.support.kubernetes.access import Kubernetes
from tests.support.telegram_api import TelegramApi
from tests.support.telegram_channels import (
    PARENT,
    TOKEN,
    TOKEN_NAME,
    Channels,
    channels,
    result,
    texts_of,
)
from tests.support.telegram_state import Bot

OTHER_TOKEN = "7000002:AAcanary-telegram-token-000000000000001"


@pytest.fixture
async def reader(kubernetes: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """The pod that the service runs in."""
    made = await pod(kubernetes, tmp_path)
    await made.serve("default")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def entry(account_id: str, api: TelegramApi, credential: str) -> account_pb2.Account:
    """An account as its resource wants it."""
    return account_pb2.Account(
        channel="telegram",
        account_id=account_id,
        credential=credential,
        api_base=api.base_url,
        enabled=True,
    )


async def apply(
    telegram: Channels,
    *wanted: account_pb2.Account,
    owner: str = "resource:one",
    generation: int = 1,
) -> list[str]:
    answer = await telegram.accounts.ApplyAccounts(
        pb.ApplyAccountsRequest(
            parent=PARENT, managed_by=owner, accounts=wanted, generation=generation
        )
    )
    return list(answer.changed)


async def test_an_account_whose_token_is_a_secret_works_and_follows_the_secret(
    database_url: str, api: TelegramApi, bot: Bot, reader: Pod
) -> None:
    other = api.add_bot(OTHER_TOKEN, "fased_two_bot")
    for each in (bot, other):
        each.add_chat(5, "private")
    secret = f"bot-{reader.home}"
    async with channels(database_url, api, bot) as telegram:
        await apply(telegram, entry("default", api, f"secret:{secret}/token"))
        await telegram.until_status(
            connected=False, configured=False, last_error_reason="SECRET_MISSING"
        )
        status = await telegram.status()
        where = f"secret {secret}, key token, in namespace default"
        assert status.last_error == f"The {where} is not there."
        await reader.put("default", secret, token=TOKEN)
        await telegram.until_status(connected=True, configured=True, last_error="")
        first = result(5, "by the first")
        await telegram.publish(first)
        await telegram.ended(first)
        assert texts_of(bot, 5) == ["by the first"]
        await reader.put("default", secret, token=OTHER_TOKEN)

        async def is_other() -> bool:
            return (await telegram.status()).identity.username == "fased_two_bot"

        await eventually(is_other)
        second = result(5, "by the second")
        await telegram.publish(second)
        await telegram.ended(second)
        assert texts_of(other, 5) == ["by the second"]
        assert not [text for text in await telegram.texts() if "canary" in text]


async def test_an_older_generation_of_an_account_is_refused(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        assert await apply(telegram, entry("a", api, "secret:x/y"), generation=3)
        with pytest.raises(Aborted) as caught:
            await apply(telegram, generation=2)
        assert caught.value.reason == "STALE_GENERATION"
        owned = pb.ListAccountOwnersRequest(prefix="resource:")
        [owner] = (await telegram.accounts.ListAccountOwners(owned)).owners
        assert (owner.namespace, owner.managed_by, owner.generation) == (
            "default",
            "resource:one",
            3,
        )
        await apply(telegram, generation=3)
        assert not (await telegram.accounts.ListAccountOwners(owned)).owners


async def test_the_second_resource_for_an_account_is_told_of_the_first(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await apply(telegram, entry("a", api, "secret:x/y"))
        with pytest.raises(FailedPrecondition) as caught:
            await apply(telegram, entry("A", api, "secret:x/y"), owner="resource:two")
        assert caught.value.metadata["managed_by"] == "resource:one"


async def test_a_resource_names_no_credential_of_the_shared_process(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        for credential in (f"env:{TOKEN_NAME}", "file:/etc/passwd"):
            with pytest.raises(InvalidArgument) as caught:
                await apply(telegram, entry("a", api, credential))
            assert caught.value.metadata["field"] == "credential"
        assert await apply(telegram, entry("a", api, f"env:{TOKEN_NAME}"), owner="file:fased.json")


async def test_the_statuses_of_a_namespace_come_together_and_ask_no_platform(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account("a")
        await telegram.add_account("b", credential="env:NOT_SET")
        await telegram.until_status("a", connected=True)
        await telegram.until_status("b", last_error_reason="SECRET_MISSING")
        request = pb.ListAccountStatusesRequest(parent=PARENT)
        listed = await telegram.accounts.ListAccountStatuses(request, **acting(role=Role.VIEWER))
        assert [(each.name, each.configured, each.connected) for each in listed.statuses] == [
            (f"{PARENT}/accounts/telegram:a", True, True),
            (f"{PARENT}/accounts/telegram:b", False, False),
        ]
        elsewhere = pb.ListAccountStatusesRequest(parent="namespaces/other")
        assert not (await telegram.accounts.ListAccountStatuses(elsewhere)).statuses
        with pytest.raises(PermissionDenied):
            await telegram.accounts.ListAccountStatuses(elsewhere, **acting())
