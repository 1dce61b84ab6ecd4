"""A reference becomes its value, or says what is missing without saying the value."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fased.core.credentials import CredentialKind, CredentialReference, parse_reference
from fased.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from fased.core.owners import check_credential
from fased.secrets import open_secrets


async def resolve(reference: str, environment: Mapping[str, str]) -> str:
    async with open_secrets(environment) as secrets:
        return await secrets.resolve(reference, "default")


async def test_an_environment_reference_gives_the_variable() -> None:
    assert await resolve("env:TOKEN", {"TOKEN": " abc\n"}) == "abc"


async def test_a_file_reference_gives_the_files_text_without_its_last_newline(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert await resolve(f"file:{tmp_path / 'token'}", {}) == "abc"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * (64 * 1024 + 1), None])
async def test_a_file_that_holds_no_secret_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FailedPrecondition) as missing:
        await resolve(f"file:{path}", {})
    assert missing.value.metadata == {"setup_target": str(path)}
    assert len(missing.value.message) < 300


async def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(FailedPrecondition, match="TOKEN is not set"):
        await resolve("env:TOKEN", {})


async def test_a_secret_outside_a_cluster_says_what_else_to_name() -> None:
    with pytest.raises(FailedPrecondition) as missing:
        await resolve("secret:bot/token", {})
    assert missing.value.reason == "SECRET_STORE_MISSING"
    assert missing.value.metadata["setup_target"] == "secret bot, key token, in namespace default"
    assert "file:PATH" in missing.value.message


async def test_a_pod_without_a_service_account_cannot_tell_at_this_time(tmp_path: Path) -> None:
    environment = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "FASED_SERVICE_ACCOUNT_FOLDER": str(tmp_path),
    }
    with pytest.raises(Unavailable) as missing:
        await resolve("secret:bot/token", environment)
    assert missing.value.reason == "SECRET_STORE_UNAVAILABLE"


REFUSED = [
    "", "abc", "env:", "file:", "vault:x", "sk-canary", "secret:", "secret:canary", "secret:/key",
    "secret:Canary/key", "secret:canary/", "secret:canary/a/b", "secret:../canary/key",
    "secret:canary/k?x", f"secret:{'a' * 254}/key", "secret:a..b/key", "env:CANARY VALUE",
]  # fmt: skip


@pytest.mark.parametrize("reference", REFUSED)
async def test_anything_else_is_no_reference_and_is_not_repeated(reference: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await resolve(reference, {})
    assert "canary" not in refused.value.message.lower()


def test_a_secret_is_named_by_its_name_and_key() -> None:
    named = parse_reference("secret:team.bots/TELEGRAM_token-1.txt")
    assert named == CredentialReference(CredentialKind.SECRET, "team.bots", "TELEGRAM_token-1.txt")


@pytest.mark.parametrize("reference", ["env:OPENAI_API_KEY", "file:/var/run/secrets/token"])
def test_a_resource_names_no_credential_of_the_shared_processes(reference: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_credential("resource:uid", reference)
    assert refused.value.metadata["field"] == "credential"
    check_credential("file:fased.json", reference)
    check_credential("resource:uid", "secret:bot/token")
    check_credential("resource:uid", "")
