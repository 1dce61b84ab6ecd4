"""A reference becomes its value, or says what is missing without saying the value."""

from pathlib import Path

import pytest

from fased import secrets
from fased.core.errors import FailedPrecondition, InvalidArgument


def test_an_environment_reference_gives_the_variable() -> None:
    assert secrets.resolve("env:TOKEN", {"TOKEN": " abc\n"}) == "abc"


def test_a_file_reference_gives_the_files_text_without_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert secrets.resolve(f"file:{tmp_path / 'token'}", {}) == "abc"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * (64 * 1024 + 1), None])
def test_a_file_that_holds_no_secret_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FailedPrecondition) as missing:
        secrets.resolve(f"file:{path}", {})
    assert missing.value.metadata == {"setup_target": str(path)}
    assert len(missing.value.message) < 300


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(FailedPrecondition, match="TOKEN is not set"):
        secrets.resolve("env:TOKEN", {})


@pytest.mark.parametrize("reference", ["", "abc", "env:", "file:", "vault:x", "sk-canary"])
def test_anything_else_is_no_reference_and_is_not_repeated(reference: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        secrets.resolve(reference, {})
    assert "canary" not in refused.value.message
