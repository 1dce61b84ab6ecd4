"""A model's provider that fails, on the whole way from the chat and back: one clear sentence for
each post, its state, and no call or answer too many.
"""

import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from tests.support.chats import Chat, open_chat
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider
from tests.support.up import Up, running_up

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-canary-0123456789"
SILENCE_S = 2
# Loopback, where nothing listens.
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(provider: ScriptedProvider) -> AsyncIterator[Up]:
    async with running_up(
        FASED_MODEL_BASE_URL=provider.base_url,
        FASED_MODEL_API_KEY=KEY,
        FASED_MODEL="small",
        FASED_MODEL_SILENCE_S=str(SILENCE_S),
        OPENAI_BASE_URL=NOWHERE,
        OPENAI_API_KEY=KEY,
    ) as started:
        made = started.fased("agents", "add", "lost", "--model", "openai/any", "--non-interactive")
        assert made.returncode == 0, made.stderr
        yield started
        assert "Traceback" not in started.output()
        assert KEY not in started.output()


@dataclass(frozen=True, slots=True)
class Failing:
    """What a provider does to every call, and what the chat is told of it."""

    name: str
    rule: Rule
    says: tuple[str, ...]
    calls: int = 1


QUICK = {"retry-after-ms": "1"}
FAILING = (
    Failing("401", Rule(status=401, error={"message": f"bad key {KEY}"}), ("FASED_MODEL_API_KEY",)),
    Failing("404", Rule(status=404, error={"message": "no such model"}), ("small",)),
    Failing("500", Rule(status=500, error="oops", headers=QUICK), ("500",), 2),
    Failing("429", Rule(status=429, headers={"retry-after": "1"}), ("rate",), 2),
    Failing("429 for long", Rule(status=429, headers={"retry-after": "3600"}), ("rate",)),
    Failing("cut off", Rule(answer="one two three", close_after=2), ("FASED_MODEL_BASE_URL",), 2),
    Failing("unfinished", Rule(answer="one two three", finish=None), ("complete",), 2),
    Failing("no chat", Rule(raw=b"<html>hello</html>"), ("small",), 2),
)


def play(provider: ScriptedProvider, text: str, rule: Rule) -> None:
    """Answer this text by this rule; a rule's times are counted by its place in the list."""
    provider.rules.append(replace(rule, match=f"^{re.escape(text)}$"))


async def told(chat: Chat, post_id: str) -> str:
    """The one sentence that a failed post was answered with."""
    sentence = await chat.ask(post_id, post_id)
    assert (await chat.states())[post_id] == "failed"
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert KEY not in sentence
    return sentence


@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.name)
async def test_a_provider_that_fails_is_told_in_one_sentence(
    up: Up, provider: ScriptedProvider, failing: Failing
) -> None:
    play(provider, failing.name, failing.rule)
    sentence = await told(await open_chat(up, failing.name), failing.name)
    assert all(word in sentence for word in failing.says), sentence
    assert provider.count(failing.name) == failing.calls


async def test_a_provider_that_is_down_is_named_with_its_address_and_setting(up: Up) -> None:
    sentence = await told(await open_chat(up, "down", "lost"), "anybody there?")
    assert NOWHERE in sentence
    assert "OPENAI_BASE_URL" in sentence


async def test_a_provider_that_says_nothing_is_given_up(up: Up, provider: ScriptedProvider) -> None:
    play(provider, "silence", Rule(hold=threading.Event()))
    sentence = await told(await open_chat(up, "silent"), "silence")
    assert f"nothing for {SILENCE_S} seconds" in sentence
    assert provider.count("silence") == 2


PASSING = (
    Failing("500 once", Rule(status=500, times=1, headers=QUICK), ()),
    Failing("429 once", Rule(status=429, times=1, headers={"retry-after": "1"}), ()),
    Failing("cut off once", Rule(answer="You said: half", close_after=2, times=1), ()),
)


@pytest.mark.parametrize("failing", PASSING, ids=lambda failing: failing.name)
async def test_a_failure_that_passes_is_tried_again_and_answered_once(
    up: Up, provider: ScriptedProvider, failing: Failing
) -> None:
    play(provider, failing.name, failing.rule)
    chat = await open_chat(up, failing.name)
    assert await chat.ask("hello", failing.name) == f"You said: {failing.name}"
    assert (await chat.states())["hello"] == "answered"
    assert provider.count(failing.name) == 2
    assert [event["kind"] for event in await chat.events()].count("said") == 1


async def test_a_failed_post_leaves_the_next_one_its_turn(
    up: Up, provider: ScriptedProvider
) -> None:
    play(provider, "first", Rule(status=404))
    chat = await open_chat(up, "next")
    await chat.post("1", "first")
    await chat.post("2", "second")
    assert await chat.ask("3", "third") == "You said: third"
    assert await chat.states() == {"1": "failed", "2": "answered", "3": "answered"}


async def test_a_run_whose_provider_is_slower_than_its_deadline_is_stopped_and_told(
    up: Up, provider: ScriptedProvider
) -> None:
    play(provider, "think hard", Rule(hold=threading.Event()))
    chat = await open_chat(up, "slow")
    made = await chat.ask("make", "/task new manual --timeout 1s Slow: think hard")
    assert made.startswith("Created **Slow**")
    assert "deadline" in await chat.ask("run", "/task run Slow")
    assert "timed_out" in await chat.ask("runs", "/task runs Slow")
    assert provider.count("think hard") == 1
