"""Starts that cannot be: each ends at once with one clear line, and leaves the other one alone."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.chats import open_chat
from tests.support.command import Ended, fased
from tests.support.postgres import remove_database
from tests.support.up import Up, running_up

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up() -> AsyncIterator[Up]:
    async with running_up(FASED_SCRIPTED_MODEL="echo") as started:
        yield started


def refusal(ended: Ended) -> str:
    """The one line of a start that was refused."""
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    [line] = ended.stderr.splitlines()
    assert line.startswith("error: ")
    return line


async def test_a_second_start_is_told_who_holds_the_folder_and_the_first_goes_on(up: Up) -> None:
    line = refusal(up.fased("up", "--port", "0"))
    assert f"already running (pid {up.gateway()['pid']})" in line
    assert str(up.state_dir) in line
    chat = await open_chat(up)
    await chat.post("after", "still there?")
    await chat.wait_for_answers(1)


async def test_a_second_start_does_not_even_look_at_the_port(up: Up) -> None:
    port = up.gateway()["http"].rpartition(":")[2]
    assert "ALREADY_RUNNING" in refusal(up.fased("up", "--port", port))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{ // Agents\n  agents: {\n    list: [ { id: 'a' ] }\n", "line 3"),
        ("", "Empty"),
        ("[]", "object"),
        ("{ agents: { list: [ 5 ] } }", "agents.list[0]"),
        ("{ agents: { list: [ { id: 'a' }, { id: 'a' } ] } }", "agents.list[1].id"),
        ("{ session: { reset: { mode: 'hourly' } } }", "session.reset.mode"),
    ],
)
async def test_a_broken_file_is_named_with_the_place_and_starts_nothing(
    tmp_path: Path, text: str, place: str
) -> None:
    file = tmp_path / "fased.json"
    file.write_text(text)
    line = refusal(fased(tmp_path, "up", "--port", "0"))
    assert str(file) in line
    assert place in line
    assert os.listdir(tmp_path) == ["fased.json"]


async def test_a_taken_port_is_named_and_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        try:
            line = refusal(fased(tmp_path, "up", "--port", str(port), HOME=str(tmp_path)))
        finally:
            remove_database(tmp_path)
    assert str(port) in line
    assert "taken" in line or "in use" in line
    assert not (tmp_path / "gateway.json").exists()
