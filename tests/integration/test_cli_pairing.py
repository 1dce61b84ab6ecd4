"""`fased pairing` as a person runs it, against real services behind the gateway's public port."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fased.api.types.v1 import access_pb2
from fased.core.messages import Sender
from tests.support.command import Ended, fased
from tests.support.gateway import Gateway, open_gateway_on
from tests.support.router import Router, Writer, listening, writer


@dataclass(frozen=True, slots=True)
class Admin:
    """Somebody at a terminal, and the router whose accounts they keep."""

    gateway: Gateway
    router: Router
    folder: Path
    token: str

    async def run(self, *words: str, token: str | None = None) -> Ended:
        """Run `fased` with these words."""
        return await asyncio.to_thread(
            fased,
            self.folder,
            *words,
            FASED_GATEWAY=self.gateway.public,
            FASED_TOKEN=token or self.token,
        )

    async def text(self, *words: str) -> str:
        """What a command prints."""
        ended = await self.run("pairing", *words)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
        return ended.stdout

    async def answered(self, *words: str) -> Any:
        """The JSON that a command answers with."""
        return json.loads(await self.text(*words, "-o", "json"))

    async def refused(self, *words: str, token: str | None = None) -> dict[str, Any]:
        """The error of a command that is refused."""
        ended = await self.run("pairing", *words, "-o", "json", token=token)
        assert (ended.returncode, ended.stdout) == (1, ""), ended.stdout
        error: dict[str, Any] = json.loads(ended.stderr)["error"]
        return error

    def stranger(self, sender_id: str, name: str) -> Writer:
        """Somebody in a direct chat of their own."""
        blank = writer(self.router, sender_id, account_id="work")
        return replace(blank, blank=replace(blank.blank, sender=Sender(sender_id, name)))

    async def code_of(self, person: Writer) -> str:
        """The code that a stranger is told."""
        await self.router.reply_to(person.event("hello"))
        listed = await self.answered("list")
        sender_id = person.blank.sender.id
        [code] = [each["code"] for each in listed["pairings"] if each["sender"]["id"] == sender_id]
        return str(code)


@pytest.fixture
async def admin(database_url: str, tmp_path: Path) -> AsyncIterator[Admin]:
    async with (
        open_gateway_on(database_url) as gateway,
        listening(Router(gateway.running)) as router,
    ):
        token = await gateway.new_token("root", access_pb2.ROLE_ADMIN)
        yield Admin(gateway, router, tmp_path, token)


async def test_a_stranger_is_listed_approved_and_revoked(admin: Admin) -> None:
    assert "Nobody waits for approval." in await admin.text("list")
    eve = admin.stranger("42", "Eve \x1b[31m")
    code = await admin.code_of(eve)
    shown = await admin.text("list")
    assert code in shown
    assert "telegram:work" in shown
    assert "\x1b" not in shown
    assert "42) may write to telegram:work now." in await admin.text("approve", code.lower())
    listed = await admin.answered("list")
    assert listed["pairings"] == []
    assert [each["sender"]["id"] for each in listed["senders"]] == ["42"]
    await eve.write("let in")
    at = ("--channel", "telegram", "--account", "work")
    assert "42 may no longer write to telegram:work" in await admin.text("revoke", "42", *at)
    assert (await admin.refused("revoke", "42", *at))["reason"] == "SENDER_MISSING"


async def test_a_denied_code_is_worth_nothing(admin: Admin) -> None:
    code = await admin.code_of(admin.stranger("42", "Eve"))
    assert await admin.text("deny", code) == f"{code} was denied.\n"
    assert (await admin.refused("approve", code))["reason"] == "PAIRING_MISSING"
    assert (await admin.refused("approve", "nonsense!"))["reason"] == "INVALID_PAIRING_CODE"


async def test_somebody_is_allowed_who_never_asked(admin: Admin) -> None:
    at = ("--channel", "telegram", "--account", "work")
    said = await admin.text("allow", "7", *at, "--name", "Zoe")
    assert said == "Zoe (7) may write to telegram:work now.\n"
    await admin.stranger("7", "Zoe").write("hello")
    assert (await admin.refused("allow", "*", *at))["reason"] == "INVALID_SENDER"
    assert (await admin.refused("allow", "7", "--channel", "webchat"))["reason"] == (
        "CHANNEL_WITHOUT_GATE"
    )


async def test_the_policy_of_an_account_is_shown_and_changed(admin: Admin) -> None:
    at = ("--channel", "telegram", "--account", "work")
    shown = await admin.text("policy", *at)
    assert "pairing" in shown
    assert "telegram:work" in shown
    assert (await admin.refused("policy", *at, "--dm", "open"))["reason"] == "INVALID_GATE"
    gate = await admin.answered("policy", *at, "--dm", "open", "--allow-from", "*")
    assert (gate["dmPolicy"], gate["allowFrom"]) == ("open", ["*"])
    await admin.stranger("42", "Eve").write("hello")
    groups = ("--group=-100200", "--group", "x", "--group-allow-from", "7", "--no-require-mention")
    gate = await admin.answered("policy", *at, *groups)
    assert (gate["groups"], gate["groupAllowFrom"]) == (["-100200", "x"], ["7"])
    assert (gate["requireMention"], gate["dmPolicy"]) == (False, "open")
    gate = await admin.answered("policy", *at, "--dm", "pairing", "--allow-from", "")
    assert (gate["dmPolicy"], gate["allowFrom"]) == ("pairing", [])


async def test_who_is_no_admin_may_look_and_change_nothing(admin: Admin) -> None:
    code = await admin.code_of(admin.stranger("42", "Eve"))
    operator = admin.gateway.token
    looked = await admin.run("pairing", "list", token=operator)
    assert (looked.returncode, code in looked.stdout) == (0, True)
    at = ("--channel", "telegram")
    for words in (
        ["approve", code],
        ["deny", code],
        ["allow", "7", *at],
        ["revoke", "7", *at],
        ["policy", *at, "--dm", "disabled"],
    ):
        assert (await admin.refused(*words, token=operator))["reason"] == "ROLE_TOO_LOW", words
