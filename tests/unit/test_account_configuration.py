"""Accounts as a configuration names them."""

from typing import Any

import pytest

from fased.core.account_configuration import parse_accounts
from fased.core.accounts import ReceiveMode
from fased.core.delivery import UnknownPolicy
from fased.core.errors import InvalidArgument


def configured(**accounts: Any) -> dict[str, object]:
    """A configuration's channels with these accounts of Telegram."""
    return {"Telegram": {"accounts": accounts}}


def test_an_account_names_its_token_by_variable_or_file_and_how_it_connects() -> None:
    named, findings = parse_accounts(
        configured(
            Alerts={"tokenEnv": "BOT", "dmPolicy": "open"},
            ops={
                "tokenFile": "/run/bot",
                "mode": "webhook",
                "webhookUrl": "https://bots.example/",
                "apiBase": "http://127.0.0.1:8081",
                "onUnknown": "resend",
                "enabled": False,
            },
        )
    )
    assert findings == ()
    alerts, ops = named
    assert (alerts.channel, alerts.account_id) == ("telegram", "alerts")
    assert (alerts.settings.credential, alerts.settings.mode) == ("env:BOT", ReceiveMode.POLL)
    assert alerts.settings.is_enabled
    assert ops.settings.credential == "file:/run/bot"
    assert ops.settings.webhook_url == "https://bots.example"
    assert ops.settings.unknown_policy is UnknownPolicy.RESEND
    assert not ops.settings.is_enabled


def test_an_account_without_a_token_and_a_channel_without_a_server_are_said_to_do_nothing() -> None:
    named, findings = parse_accounts({**configured(alerts={}), "pigeon": {"accounts": {}}})
    assert named == ()
    assert [each.reason for each in findings] == ["CREDENTIAL_MISSING", "NOT_SERVED"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"tokenEnv": "A", "tokenFile": "b"}, "not by both"),
        ({"tokenEnv": "7000001:AAcanary"}, "credential"),
        ({"tokenEnv": "A", "mode": "push"}, "mode must be poll or webhook"),
        ({"tokenEnv": "A", "mode": "webhook"}, "public address"),
        ({"tokenEnv": "A", "apiBase": "nowhere"}, "api_base"),
        ({"tokenEnv": "A", "enabled": "yes"}, "enabled must be true or false"),
        ({"tokenEnv": "A", "onUnknown": "guess"}, "onUnknown must be hold or resend"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_path(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as refused:
        parse_accounts(configured(alerts=entry))
    assert refused.value.metadata["field"].startswith("channels.Telegram.accounts.alerts")
    assert "canary" not in refused.value.message


def test_an_account_named_twice_is_refused() -> None:
    twice = {"tokenEnv": "A"}
    with pytest.raises(InvalidArgument, match="a second time"):
        parse_accounts(configured(alerts=twice, Alerts=twice))
