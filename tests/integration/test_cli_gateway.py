"""The commands against a real `fased up`, whose models are a scripted provider on the loopback.

One start serves the module: each test makes what it needs under names of its own.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import TIMEOUT_S, Ended, fased, running_up, settings
from tests.support.postgres import temporary_folder
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def state_dir(provider: ScriptedProvider) -> Iterator[Path]:
    model = {"FASED_MODEL_BASE_URL": provider.base_url, "FASED_MODEL": "custom/test"}
    with temporary_folder() as base, running_up(base, **model) as folder:
        yield folder


def done(ended: Ended) -> str:
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def answered(state_dir: Path, *words: str, **environment: str) -> Any:
    """The JSON that a command answers with."""
    return json.loads(done(fased(state_dir, *words, "-o", "json", **environment)))


def refused(state_dir: Path, *words: str, **environment: str) -> dict[str, Any]:
    """The error of a command that the service refuses; it is one line without JSON, too."""
    ended = fased(state_dir, *words, "-o", "json", **environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    error: dict[str, Any] = json.loads(ended.stderr)["error"]
    return error


def test_without_a_defined_model_provider_the_list_says_how_one_is_made(state_dir: Path) -> None:
    assert answered(state_dir, "providers", "list") == {"providers": []}
    assert "ModelProvider" in done(fased(state_dir, "providers", "list"))


def test_an_agent_is_made_listed_bound_and_removed(state_dir: Path) -> None:
    made = answered(
        state_dir,
        *("agents", "add", "coding", "--model", "custom/test", "--workspace", "/tmp/coding"),
        *("--system-prompt", "Write code.", "--non-interactive"),
    )
    assert made["name"] == "namespaces/default/agents/coding"
    assert (made["model"], made["workspace"]) == ("custom/test", "/tmp/coding")

    words = ("agents", "bind", "--agent", "coding", "--bind", "discord:coding", "--bind", "slack")
    bound = answered(state_dir, *words)["bindings"]
    assert [each["match"]["channel"] for each in bound] == ["discord", "slack"]

    listed = answered(state_dir, "agents", "list", "--bindings")["agents"]
    own = {each["name"].rpartition("/")[2]: each["bindings"] for each in listed}
    assert (
        own["coding"] == answered(state_dir, "agents", "bindings", "--agent", "coding")["bindings"]
    )
    assert own["main"] == []
    table = done(fased(state_dir, "agents", "list", "--bindings"))
    assert "discord:coding; slack:default" in table

    for each in bound:
        done(fased(state_dir, "agents", "unbind", each["name"].rpartition("/")[2]))
    done(fased(state_dir, "agents", "remove", "coding"))
    listed = answered(state_dir, "agents", "list")["agents"]
    assert "namespaces/default/agents/coding" not in {each["name"] for each in listed}


def test_a_refusal_says_what_field_and_with_which_reason(state_dir: Path) -> None:
    error = refused(state_dir, "agents", "add", "main", "--non-interactive")
    assert error["reason"] == "AGENT_EXISTS"
    assert error["metadata"]["field"] == "agent_id"
    line = fased(state_dir, "agents", "add", "main").stderr
    assert line.startswith("error: ")
    assert "(AGENT_EXISTS); field: agent_id" in line
    assert line.count("\n") == 1


def test_a_bad_cron_expression_is_refused_and_leaves_no_task(state_dir: Path) -> None:
    words = ("task", "add", "broken", "--cron", "0 99 * * *", "--prompt", "x")
    assert refused(state_dir, *words)["reason"] == "INVALID_CRON"
    assert refused(state_dir, "task", "show", "broken")["reason"] == "TASK_MISSING"


def test_a_task_lives_from_add_to_rm(state_dir: Path) -> None:
    words = ("--manual", "--mode", "no-model", "--prompt", "tick", "--missed", "all:3")
    made = answered(state_dir, "task", "add", "life", *words)
    assert (made["state"], made["trigger"]["kind"]) == ("active", "manual")
    assert (made["missed"], made["missedLimit"]) == ("all", 3)
    assert made["target"]["channel"] == "webchat"

    run = answered(state_dir, "task", "run", "life", "--wait")
    assert (run["state"], run["result"]["text"]) == ("succeeded", "tick")
    listed = answered(state_dir, "task", "runs", "life")["runs"]
    assert [each["runId"] for each in listed] == [run["runId"]]
    shown = done(fased(state_dir, "task", "run-show", str(run["runId"])))
    assert f"Run #{run['runId']}: succeeded" in shown
    assert "- checkpoints: " in shown

    assert answered(state_dir, "task", "pause", "life")["state"] == "paused"
    assert answered(state_dir, "task", "resume", "life")["state"] == "active"
    assert "life" in done(fased(state_dir, "task", "list"))
    assert answered(state_dir, "task", "status")["workers"] == 1
    done(fased(state_dir, "task", "rm", "life"))
    assert refused(state_dir, "task", "show", "life")["reason"] == "TASK_MISSING"


def test_the_operators_words_are_refused_on_a_run_that_succeeded(state_dir: Path) -> None:
    words = ("--manual", "--mode", "no-model", "--delivery", "internal", "--prompt", "tick")
    assert answered(state_dir, "task", "add", "ended", *words)["target"] is None
    run = str(answered(state_dir, "task", "run", "ended", "--wait")["runId"])
    error = refused(state_dir, "task", "cancel-run", run)
    assert error["message"] == "Run is already terminal: succeeded."
    for word in ("retry-run", "clear-stale"):
        assert refused(state_dir, "task", word, run)["reason"]


def test_a_run_that_fails_makes_the_waiting_command_fail(
    state_dir: Path, provider: ScriptedProvider
) -> None:
    provider.rules.append(Rule(match="^no such luck$", status=401, error={"message": "bad key"}))
    answered(state_dir, "task", "add", "luck", "--manual", "--prompt", "no such luck")
    ended = fased(state_dir, "task", "run", "luck", "--wait", "-o", "json")
    assert ended.returncode == 1
    run = json.loads(ended.stdout)
    assert run["state"] != "succeeded"
    assert run["result"]["reason"]


def test_a_message_is_answered_and_its_session_shows_both(state_dir: Path) -> None:
    assert done(fased(state_dir, "chat", "-m", "good morning")) == "You said: good morning\n"
    shown = answered(state_dir, "sessions", "show", "agent:main:main")
    assert shown["session"]["sessionKey"] == "agent:main:main"
    said = [(each["role"], each["text"]) for each in shown["transcript"]]
    at = said.index(("user", "good morning"))
    assert said[at + 1] == ("assistant", "You said: good morning")
    keys = [each["sessionKey"] for each in answered(state_dir, "sessions", "list")["sessions"]]
    assert "agent:main:main" in keys


def test_a_command_in_the_chat_is_answered_too(state_dir: Path) -> None:
    assert "/task new" in done(fased(state_dir, "chat", "-m", "/help"))


def test_a_message_that_fails_ends_with_the_failures_text(
    state_dir: Path, provider: ScriptedProvider
) -> None:
    provider.rules.append(Rule(match="^refuse me$", status=401, error={"message": "bad key"}))
    ended = fased(state_dir, "chat", "-m", "refuse me")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "(RUN_FAILED)" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_message_without_an_answer_in_time_says_so(
    state_dir: Path, provider: ScriptedProvider
) -> None:
    hold = threading.Event()
    provider.rules.append(Rule(match="^take your time$", hold=hold))
    # A session of its own: what is held back holds no other test's messages.
    done(fased(state_dir, "agents", "add", "slow", "--non-interactive"))
    words = ("chat", "--agent", "slow", "-m", "take your time", "--wait", "1")
    assert refused(state_dir, *words)["reason"] == "NO_ANSWER_YET"
    hold.set()


def test_lines_of_a_pipe_are_all_answered_before_the_chat_ends(state_dir: Path) -> None:
    ended = fased(state_dir, "chat", stdin="first line\n\nsecond line")
    assert "main: You said: first line\n" in done(ended)
    assert ended.stdout.endswith("main: You said: second line\n")


def test_a_chat_in_a_terminal_streams_answers_and_leaves_with_ctrl_d_and_ctrl_c(
    state_dir: Path,
) -> None:
    for key, code in ((b"\x04", 0), (b"\x03", 130)):
        with Terminal(state_dir, "chat") as terminal:
            terminal.wait_for("> ")
            terminal.type(b"hello there\n")
            terminal.wait_for("main: You said: hello there\r\n> ")
            terminal.type(key)
            assert terminal.ended() == code
        assert "Traceback" not in terminal.shown


def test_agents_add_asks_in_a_terminal_for_what_is_not_given(state_dir: Path) -> None:
    with Terminal(state_dir, "agents", "add", "asked", "--workspace", "/tmp/asked") as terminal:
        terminal.wait_for("Model")
        terminal.type(b"custom/test\n")
        terminal.wait_for("System prompt")
        terminal.type(b"\n")
        assert terminal.ended() == 0
    listed = answered(state_dir, "agents", "list")["agents"]
    made = next(each for each in listed if each["name"].endswith("/asked"))
    assert (made["model"], made["workspace"]) == ("custom/test", "/tmp/asked")


def test_a_token_does_what_its_role_allows_in_its_namespaces_until_it_is_revoked(
    state_dir: Path,
) -> None:
    words = ("token", "create", "looker", "--role", "viewer", "--namespace", "team-a")
    made = answered(state_dir, *words, "--expires", "30d")
    assert made["token"]["namespaces"] == ["team-a"]
    assert made["token"]["expireTime"]
    token = {"FASED_TOKEN": made["secret"]}

    there = ("-n", "team-a")
    assert answered(state_dir, "task", "list", *there, **token) == {"tasks": []}
    assert refused(state_dir, "task", "list", **token)["reason"] == "NAMESPACE_DENIED"
    add = ("agents", "add", "mine", "--non-interactive")
    assert refused(state_dir, *add, *there, **token)["reason"] == "ROLE_TOO_LOW"
    listed = answered(state_dir, "token", "list", *there)["tokens"]
    assert [each["role"] for each in listed] == ["viewer"]
    assert made["secret"] not in json.dumps(listed)

    done(fased(state_dir, "token", "revoke", "looker", *there))
    assert refused(state_dir, "task", "list", *there, **token)["reason"] == "TOKEN_INVALID"


def test_the_namespace_may_come_from_the_environment(state_dir: Path) -> None:
    words = ("agents", "add", "only-there", "--non-interactive")
    made = answered(state_dir, *words, FASED_NAMESPACE="team-b")
    assert made["name"] == "namespaces/team-b/agents/only-there"
    listed = answered(state_dir, "agents", "list")["agents"]
    assert "only-there" not in {each["name"].rpartition("/")[2] for each in listed}


def test_a_restart_comes_back_with_what_was_there(state_dir: Path) -> None:
    before = json.loads((state_dir / "gateway.json").read_text())
    answered(state_dir, "task", "add", "kept", "--manual", "--prompt", "x")
    after = answered(state_dir, "gateway", "restart")
    assert after["http"].startswith("http://127.0.0.1:")
    assert json.loads((state_dir / "gateway.json").read_text())["started"] > before["started"]
    assert answered(state_dir, "task", "show", "kept")["displayName"] == "kept"
    assert answered(state_dir, "gateway", "status")["queue"]["workers"] >= 1


class Terminal:
    """A command in a terminal of its own; `shown` is all that it printed so far."""

    def __init__(self, state_dir: Path, *words: str) -> None:
        self.shown = ""
        self._leader, follower = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words],
            env=settings(state_dir, TERM="xterm"),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(follower)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(TIMEOUT_S)
        os.close(self._leader)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        self.shown = ""
        os.write(self._leader, keys)

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows `text`, since the last keys."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()

    def ended(self) -> int:
        """Wait for the end; gives the exit code."""
        while self._read():
            pass
        return self._process.wait(TIMEOUT_S)

    def _read(self) -> bool:
        """Take in what there is; False when the terminal was left."""
        if not select.select([self._leader], [], [], 0.1)[0]:
            return True
        try:
            chunk = os.read(self._leader, 65536)
        except OSError:
            # How Linux says that nobody has the other end open any more.
            return False
        self.shown += chunk.decode(errors="replace")
        return bool(chunk)


def _take_terminal() -> None:
    """Make standard input the terminal that controls the process, so that Ctrl-C reaches it."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Tests in the background of a shell ignore it, and so would what they start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
