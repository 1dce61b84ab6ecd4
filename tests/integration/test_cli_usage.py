"""The command's manners: help, usage errors, exit codes, and no gateway to ask."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import GROUPS
from tests.support.command import fased

# Words that lead to a call, for every kind of command that needs a gateway.
CALLS = (
    ["agents", "list"],
    ["task", "add", "tick", "--every", "5s", "--prompt", "tick"],
    ["task", "status"],
    ["sessions", "list"],
    ["token", "list"],
    ["gateway", "status"],
    ["gateway", "restart"],
    ["chat", "-m", "hello"],
    ["chat"],
)


def commands_of(help_text: str) -> list[str]:
    listed = help_text.partition("\nCommands:\n")[2]
    return re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE)


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    top = fased(tmp_path, "--help")
    assert top.returncode == 0
    assert set(commands_of(top.stdout)) == {*GROUPS, "chat", "migrate", "up"}
    for group in GROUPS:
        listed = fased(tmp_path, group, "--help")
        assert listed.returncode == 0
        assert commands_of(listed.stdout), group
    for words in (["up"], ["chat"], ["task", "add"], ["agents", "bind"], ["task", "run-show"]):
        shown = fased(tmp_path, *words, "--help").stdout
        assert re.search(r"Examples?:\n +fased " + " ".join(words), shown), words


def test_help_and_the_offline_helpers_start_without_grpc_rich_or_a_database_driver() -> None:
    script = """
import sys
from cli import main, route, schedule
heavy = {"grpc", "rich", "openai", "sqlalchemy", "asyncpg", "opentelemetry"}
print(sorted(heavy & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["nonsense"],
        ["task", "nonsense"],
        ["task", "add", "tick", "--prompt", "x"],
        ["task", "add", "tick", "--prompt", "x", "--every", "5s", "--manual"],
        ["task", "add", "tick", "--prompt", "@/no/such/file", "--every", "5s"],
        ["task", "add", "tick", "--prompt", "x", "--every", "5s", "--missed", "never"],
        ["task", "add", "tick", "--prompt", "x", "--every", "5s", "--timeout", "soon"],
        ["task", "run-show", "first"],
        ["task", "list", "--namespace", "Not A Label"],
        ["task", "list", "-o", "xml"],
        ["token", "create", "ci", "--role", "root"],
        ["token", "create", "ci", "--role", "viewer", "--expires", "30"],
        ["agents", "bind", "--agent", "main", "--bind", ":account"],
        ["route", "explain", "--config", "x.json"],
        ["route", "explain", "--batch", "/no/such/file"],
        ["schedule", "preview", "--kind", "cron"],
        ["up", "--port", "99999"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_one_clear_error(tmp_path: Path, words: list[str]) -> None:
    ended = fased(tmp_path, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(re.findall(r"^Error: ", ended.stderr, re.MULTILINE)) == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_without_a_gateway_one_line_says_how_to_start_one_and_the_exit_code_is_3(
    tmp_path: Path, words: list[str]
) -> None:
    ended = fased(tmp_path, *words)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("error: ")
    assert "fased up" in ended.stderr
    assert "make run" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_a_gateway_that_was_killed_is_not_reached_either(tmp_path: Path, words: list[str]) -> None:
    left = {"grpc": f"unix:{tmp_path}/gone.sock", "http": "", "token": "t", "pid": 2**30}
    (tmp_path / "gateway.json").write_text(json.dumps(left))
    ended = fased(tmp_path, *words)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.count("\n") == 1


def test_a_remote_gateway_is_named_where_it_is_not_reached(tmp_path: Path) -> None:
    there = {"FASED_GATEWAY": "127.0.0.1:1", "FASED_TOKEN": "fased_x"}
    ended = fased(tmp_path, "task", "list", **there)
    assert ended.returncode == 3
    assert "127.0.0.1:1" in ended.stderr


def test_a_remote_gateway_without_a_token_is_refused_before_any_call(tmp_path: Path) -> None:
    ended = fased(tmp_path, "task", "list", FASED_GATEWAY="127.0.0.1:1")
    assert ended.returncode == 1
    assert "FASED_TOKEN" in ended.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"grpc": 1}'])
def test_a_gateway_file_that_names_no_gateway_is_one_clear_line(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "gateway.json").write_text(content)
    ended = fased(tmp_path, "task", "list")
    assert ended.returncode == 3
    assert "gateway.json" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_with_json_errors_are_json_on_standard_error(tmp_path: Path) -> None:
    ended = fased(tmp_path, "task", "list", "-o", "json")
    assert (ended.returncode, ended.stdout) == (3, "")
    error = json.loads(ended.stderr)["error"]
    assert error["reason"] == "GATEWAY_UNREACHABLE"
    assert set(error) == {"reason", "message", "metadata"}


def test_restart_never_signals_a_process_that_is_not_fased(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        left = {"grpc": f"unix:{tmp_path}/x.sock", "token": "t", "pid": other.pid, "started": 1}
        (tmp_path / "gateway.json").write_text(json.dumps(left))
        ended = fased(tmp_path, "gateway", "restart")
        assert other.poll() is None
        other.communicate(b"\n", timeout=30)
    assert ended.returncode == 3
    assert str(other.pid) in ended.stderr
    # A signal would have ended it another way.
    assert other.returncode == 0


def test_the_version_is_shown(tmp_path: Path) -> None:
    ended = fased(tmp_path, "--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("fased ")
