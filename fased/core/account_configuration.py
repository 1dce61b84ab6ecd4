"""The accounts of `channels.<channel>.accounts.<id>` in a configuration: how each connects.

Decides the shape of its keys; what they mean is decided in `accounts.py`, who may write to an
account in `gate_configuration.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from fased.core import fields
from fased.core.accounts import CHANNELS, AccountSettings, ReceiveMode, checked_settings
from fased.core.delivery import UnknownPolicy
from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.names import AccountId, ChannelId, canonical_account, canonical_channel

_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class NamedAccount:
    """One account as a configuration names it."""

    channel: ChannelId
    account_id: AccountId
    settings: AccountSettings


def parse_accounts(
    channels: Mapping[str, object],
) -> tuple[tuple[NamedAccount, ...], tuple[Finding, ...]]:
    """The accounts that name a token, in order; and those that do not, as findings.

    Raises InvalidArgument with the path of what cannot be read, and for an account named twice.
    """
    accounts: dict[tuple[ChannelId, AccountId], NamedAccount] = {}
    findings: list[Finding] = []
    for written, settings in channels.items():
        channel, path = canonical_channel(written), f"channels.{written}"
        if channel not in CHANNELS:
            findings.append(Finding("NOT_SERVED", f"{path} connects to nothing yet.", path))
            continue
        named = fields.object_at(settings, path).get("accounts")
        for name, value in fields.object_at(named, f"{path}.accounts").items():
            place = f"{path}.accounts.{name}"
            account = _account(channel, name, fields.object_at(value, place), place)
            if account is None:
                message = f"{place} names no tokenEnv and no tokenFile: it is not connected."
                findings.append(Finding("CREDENTIAL_MISSING", message, place))
            elif (channel, account.account_id) in accounts:
                raise _invalid(place, "names an account a second time")
            else:
                accounts[channel, account.account_id] = account
    return tuple(accounts.values()), tuple(findings)


def _account(
    channel: ChannelId, name: str, entry: Mapping[str, object], path: str
) -> NamedAccount | None:
    def text(key: str) -> str:
        return fields.text_at(entry.get(key), f"{path}.{key}").strip()

    references = [
        f"{kind}:{text(key)}"
        for kind, key in (("env", "tokenEnv"), ("file", "tokenFile"))
        if text(key)
    ]
    if not references:
        return None
    if len(references) > 1:
        raise _invalid(path, "names its token by tokenEnv or by tokenFile, not by both")
    is_enabled = entry.get("enabled")
    settings = AccountSettings(
        credential=references[0],
        mode=_one_of(ReceiveMode, text("mode"), f"{path}.mode"),
        api_base=text("apiBase").rstrip("/"),
        webhook_url=text("webhookUrl").rstrip("/"),
        unknown_policy=_one_of(UnknownPolicy, text("onUnknown"), f"{path}.onUnknown"),
        is_enabled=is_enabled is None or fields.flag_at(is_enabled, f"{path}.enabled"),
    )
    try:
        return NamedAccount(channel, canonical_account(name), checked_settings(channel, settings))
    except InvalidArgument as exc:
        raise _invalid(path, exc.message) from exc


def _one_of(words: type[_Word], text: str, path: str) -> _Word:
    """One of an enum's words, its first for none."""
    if not text:
        return next(iter(words))
    if text not in tuple(words):
        raise fields.wrong_shape(path, " or ".join(words), text)
    return words(text)


def _invalid(path: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path}: {why}", reason="INVALID_CONFIGURATION", metadata={"field": path}
    )
