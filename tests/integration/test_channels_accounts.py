"""Accounts on a real database, beside a Bot API server: made, applied, probed, mended, removed."""

import uuid
from pathlib import Path

import pytest

from fased.api.channels.v1 import account_pb2
from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.core.access import Role
from fased.core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from tests.support.calls import acting, eventually
from tests.support.telegram_api import TelegramApi
from tests.support.telegram_channels import (
    PARENT,
    TOKEN,
    TOKEN_NAME,
    channels,
    channels_process,
    result,
    texts_of,
)
from tests.support.telegram_state import Bot

OTHER_TOKEN = "7000002:AAcanary-telegram-token-000000000000001"
SHORT_TOKEN = "77:AAcanary"
OWNER = "file:fased.json"


def entry(account_id: str, api: TelegramApi, **fields: object) -> account_pb2.Account:
    """An account as its owner wants it."""
    return account_pb2.Account(
        channel="telegram",
        account_id=account_id,
        credential=f"env:{TOKEN_NAME}",
        api_base=api.base_url,
        enabled=True,
        **fields,  # type: ignore[arg-type]
    )


async def test_an_account_is_made_listed_and_removed(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        made = await telegram.add_account("Alerts")
        assert made.name == f"{PARENT}/accounts/telegram:alerts"
        assert (made.credential, made.enabled) == (f"env:{TOKEN_NAME}", True)
        with pytest.raises(AlreadyExists):
            await telegram.add_account("alerts")
        listing = pb.ListAccountsRequest(parent=PARENT)
        assert list((await telegram.accounts.ListAccounts(listing)).accounts) == [made]
        await telegram.until_status("alerts", connected=True)
        await telegram.accounts.DeleteAccount(pb.DeleteAccountRequest(name=made.name))
        assert not (await telegram.accounts.ListAccounts(listing)).accounts
        with pytest.raises(NotFound):
            await telegram.accounts.DeleteAccount(pb.DeleteAccountRequest(name=made.name))

        async def is_left() -> bool:
            return bot.poll is None

        await eventually(is_left)
        await telegram.add_account("alerts")
        await telegram.until_status("alerts", connected=True)


async def test_a_repeated_request_answers_as_the_first_did(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        request = pb.CreateAccountRequest(
            parent=PARENT, account=entry("alerts", api), request_id=str(uuid.uuid4())
        )
        first = await telegram.accounts.CreateAccount(request)
        again = await telegram.accounts.CreateAccount(request)
        assert first.account.name == again.account.name
        removal = pb.DeleteAccountRequest(name=first.account.name, request_id=str(uuid.uuid4()))
        await telegram.accounts.DeleteAccount(removal)
        await telegram.accounts.DeleteAccount(removal)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"channel": "pigeon"}, "channel"),
        ({"credential": TOKEN}, "credential"),
        ({"credential": ""}, "credential"),
        ({"api_base": "ftp://example.org"}, "api_base"),
        ({"api_base": "https://user:password@example.org"}, "api_base"),
        ({"mode": account_pb2.RECEIVE_MODE_WEBHOOK}, "webhook_url"),
    ],
)
async def test_what_no_account_can_be_is_refused_by_field(
    database_url: str, api: TelegramApi, bot: Bot, fields: dict[str, object], field: str
) -> None:
    wanted = entry("alerts", api)
    for name, value in fields.items():
        setattr(wanted, name, value)
    async with channels(database_url, api, bot) as telegram:
        with pytest.raises(InvalidArgument) as refused:
            await telegram.accounts.CreateAccount(
                pb.CreateAccountRequest(parent=PARENT, account=wanted)
            )
    assert refused.value.metadata["field"] == field
    assert TOKEN not in refused.value.message


async def test_an_owner_applies_its_accounts_and_a_command_leaves_them_alone(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:

        async def apply(*wanted: account_pb2.Account) -> tuple[list[str], list[str]]:
            answer = await telegram.accounts.ApplyAccounts(
                pb.ApplyAccountsRequest(parent=PARENT, managed_by=OWNER, accounts=wanted)
            )
            return list(answer.changed), list(answer.removed)

        one, two = entry("one", api), entry("two", api)
        assert await apply(one, two) == (["telegram:one", "telegram:two"], [])
        assert await apply(one, two) == ([], [])
        resend = entry("one", api, unknown_policy=account_pb2.UNKNOWN_POLICY_RESEND)
        assert await apply(resend) == (["telegram:one"], ["telegram:two"])
        name = f"{PARENT}/accounts/telegram:one"
        with pytest.raises(FailedPrecondition) as refused:
            await telegram.accounts.DeleteAccount(pb.DeleteAccountRequest(name=name))
        assert refused.value.reason == "MANAGED_ELSEWHERE"
        await telegram.add_account("three")
        with pytest.raises(AlreadyExists):
            await telegram.add_account("one")
        assert await apply() == ([], ["telegram:one"])
        listing = pb.ListAccountsRequest(parent=PARENT)
        left = (await telegram.accounts.ListAccounts(listing)).accounts
        assert [each.account_id for each in left] == ["three"]


async def test_roles_and_namespaces_are_kept_apart(
    database_url: str, api: TelegramApi, bot: Bot
) -> None:
    async with channels(database_url, api, bot) as telegram:
        made = await telegram.add_account()
        create = pb.CreateAccountRequest(parent=PARENT, account=entry("x", api))
        with pytest.raises(PermissionDenied):
            await telegram.accounts.CreateAccount(create, **acting(role=Role.OPERATOR))
        with pytest.raises(PermissionDenied):
            await telegram.accounts.ApplyAccounts(
                pb.ApplyAccountsRequest(parent=PARENT), **acting(role=Role.ADMIN)
            )
        seen = pb.GetAccountStatusRequest(name=made.name)
        await telegram.accounts.GetAccountStatus(seen, **acting(role=Role.VIEWER))
        probe = pb.GetAccountStatusRequest(name=made.name, probe=True)
        with pytest.raises(PermissionDenied):
            await telegram.accounts.GetAccountStatus(probe, **acting(role=Role.VIEWER))
        theirs = pb.GetAccountStatusRequest(name=made.name.replace("default", "other", 1))
        with pytest.raises(NotFound):
            await telegram.accounts.GetAccountStatus(theirs, **acting("other"))


async def test_a_probe_says_who_the_bot_is_or_why_not(
    database_url: str, api: TelegramApi, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account()
        status = await telegram.status(probe=True)
        assert (status.configured, status.probe.ok) == (True, True)
        assert (status.identity.id, status.identity.username) == ("7000001", "fased_bot")
        bot.is_revoked = True
        status = await telegram.status(probe=True)
        assert (status.probe.ok, status.probe.reason) == (False, "TOKEN_REFUSED")
        monkeypatch.delenv(TOKEN_NAME)
        status = await telegram.status(probe=True)
        assert (status.configured, status.probe.reason) == (False, "SECRET_MISSING")


async def test_a_secret_that_is_no_token_of_a_bot_is_sent_nowhere(
    database_url: str, api: TelegramApi, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "postgresql://fased:canary-password@db/fased")
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account("odd", credential="env:SOME_PASSWORD")
        status = await telegram.status("odd", probe=True)
        assert status.probe.reason == "TOKEN_MALFORMED"
        await telegram.until_status("odd", last_error_reason="TOKEN_MALFORMED")
        assert bot.calls == []
        assert not [text for text in await telegram.texts() if "canary" in text]


async def test_a_revoked_token_is_said_and_a_new_one_in_the_same_file_goes_on_without_restart(
    database_url: str, api: TelegramApi, bot: Bot, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    other = api.add_bot(OTHER_TOKEN, "fased_two_bot")
    other.add_chat(5, "private")
    async with channels(database_url, api, bot) as telegram:
        await telegram.add_account(credential=f"file:{file}")
        bot.user_says(5, "to the old bot")
        await telegram.inbound(1)
        bot.is_revoked = True
        bot.wake_poll()
        waiting = result(5, "said in the end")
        await telegram.publish(waiting)
        status = await telegram.until_status(
            connected=False, last_error_reason="TOKEN_REFUSED", configured=True
        )
        assert status.HasField("last_error_time")
        # Another bot's updates are counted anew, below where the old one's were.
        other.next_update_id = 7
        other.user_says(5, "to the new bot")
        file.write_text(OTHER_TOKEN)
        events = await telegram.inbound(2)
        assert [event.text for event in events] == ["to the old bot", "to the new bot"]
        status = await telegram.until_status(connected=True, last_error="")
        assert status.identity.username == "fased_two_bot"
        await telegram.ended(waiting)
        assert texts_of(other, 5) == ["said in the end"]


async def test_no_token_is_in_a_row_a_record_or_a_log_line_of_any_level(
    database_url: str,
    api: TelegramApi,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # Of no shape that logs black out by themselves.
    monkeypatch.setenv(TOKEN_NAME, SHORT_TOKEN)
    bot = api.add_bot(SHORT_TOKEN)
    bot.add_chat(5, "private")
    async with channels_process(database_url, SHORT_TOKEN, log_level="debug"):
        async with channels(database_url, api, bot) as telegram:
            await telegram.add_account()
        for kind in ("drop", "gateway", "error", "accept-drop"):
            bot.add_fault(kind)
        bot.user_says(5, "hello")

        async def is_taken() -> bool:
            return not bot.pending

        await eventually(is_taken)
        bot.is_revoked = True
        bot.wake_poll()
        async with channels(database_url, api, bot) as telegram:
            await telegram.publish(result(5, "hi"))
            await telegram.until_status(last_error_reason="TOKEN_REFUSED")
            await telegram.status(probe=True)
            rows = await telegram.texts()
    said = capfd.readouterr()
    assert "TOKEN_REFUSED" in said.err
    assert not [text for text in (*rows, said.out, said.err) if "canary" in text]
