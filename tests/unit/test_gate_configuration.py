"""The gates that `fased.json` names."""

from typing import Any

import pytest

from fased.core.errors import InvalidArgument
from fased.core.gate import DmPolicy, GatePolicy, GroupPolicy
from fased.core.gate_configuration import AccountGate, parse_gates
from fased.core.names import AccountId, ChannelId


def gates(**accounts: Any) -> tuple[AccountGate, ...]:
    """The gates of these accounts of Telegram."""
    return parse_gates({"Telegram": {"accounts": accounts}})


def test_each_key_of_an_account_is_read() -> None:
    account = {
        "dmPolicy": "open",
        "allowFrom": ["*", 7],
        "groupPolicy": "disabled",
        "groups": [-100200],
        "groupAllowFrom": ["8", None],
        "requireMention": False,
        "allowBots": True,
        "tokenEnv": "TELEGRAM_TOKEN",
    }
    policy = GatePolicy(
        DmPolicy.OPEN, ("*", "7"), GroupPolicy.DISABLED, ("-100200",), ("8",), False, True
    )
    expected = AccountGate(ChannelId("telegram"), AccountId("work"), policy)
    assert gates(Work=account) == (expected,)


def test_what_is_not_said_is_the_default() -> None:
    [named] = gates(a={"dmPolicy": "pairing", "requireMention": None})
    assert named.policy == GatePolicy()


def test_an_account_that_says_nothing_of_its_gate_has_none_of_the_file() -> None:
    assert gates(a={"tokenEnv": "X"}, b=None) == ()
    assert parse_gates({"telegram": {}, "webchat": None}) == ()


@pytest.mark.parametrize(
    ("account", "field"),
    [
        ({"dmPolicy": "closed"}, "channels.Telegram.accounts.a.dmPolicy"),
        ({"groupPolicy": "open"}, "channels.Telegram.accounts.a.groupPolicy"),
        ({"allowFrom": "7"}, "channels.Telegram.accounts.a.allowFrom"),
        ({"requireMention": "no"}, "channels.Telegram.accounts.a.requireMention"),
        ({"dmPolicy": "open", "allowFrom": ["7"]}, "channels.Telegram.accounts.a"),
        ("token", "channels.Telegram.accounts.a"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(account: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        gates(a=account)
    assert caught.value.metadata == {"field": field}


def test_an_account_is_named_once() -> None:
    with pytest.raises(InvalidArgument, match="second time"):
        gates(Work={"dmPolicy": "disabled"}, work={"dmPolicy": "disabled"})
