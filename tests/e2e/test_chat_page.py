"""The chat page as a person has it: a real browser, the real page, a model that writes slowly."""

import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tests.support.chats import Chat, open_chat
from tests.support.scripted_provider import Rule, ScriptedProvider, scripted_provider
from tests.support.up import Up, running_up

pytestmark = pytest.mark.asyncio(loop_scope="module")

PHONE_WIDTH_PX = 360
WAIT_MS = 20_000
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_NAME_OF_FOCUSED = """() => {
  const element = document.activeElement;
  const label = element.labels?.[0]?.querySelector("span") ?? element.labels?.[0];
  return element.getAttribute("aria-label") ?? (label ?? element).textContent.trim();
}"""


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with scripted_provider() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(provider: ScriptedProvider) -> AsyncIterator[Up]:
    async with running_up(FASED_MODEL_BASE_URL=provider.base_url, FASED_MODEL="small") as started:
        # An open page comes back to the address it knows.
        started.port = int(started.gateway()["http"].rpartition(":")[2])
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(path for name in names if (path := shutil.which(name)))
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield launched
        await launched.close()


@asynccontextmanager
async def opened(browser: Browser, address: str, width_px: int = 1100) -> AsyncIterator[Page]:
    """A page in a browser that knows nothing yet; its scripts must not fail."""
    context = await browser.new_context(viewport={"width": width_px, "height": 740})
    context.set_default_timeout(WAIT_MS)
    crashes: list[str] = []
    page = await context.new_page()
    page.on("pageerror", lambda error: crashes.append(str(error)))
    await page.goto(address)
    yield page
    await context.close()
    assert crashes == []


def address_of(up: Up) -> str:
    """The address that `fased up` printed last."""
    return str(re.findall(r"Chat +(http://\S+)", up.output())[-1])


def composer(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def said(page: Page, text: str) -> Locator:
    """Stored messages with this text."""
    return page.get_by_role("log", name="Conversation").get_by_role("article").filter(has_text=text)


async def connected(page: Page) -> None:
    await expect(page.get_by_text("Connected", exact=True)).to_be_visible(timeout=WAIT_MS)


async def posted(chat: Chat) -> list[str]:
    return [event["text"] for event in await chat.events() if event["kind"] == "posted"]


async def test_the_printed_address_signs_in_and_an_answer_streams_in(
    up: Up, browser: Browser, provider: ScriptedProvider, tmp_path: Path
) -> None:
    hold = threading.Event()
    rule = Rule(match="story", answer="Once upon a time it ended.", hold=hold, hold_after=3)
    provider.rules = [rule]
    async with opened(browser, address_of(up)) as page:
        await connected(page)
        assert "token" not in page.url
        await composer(page).fill("tell me a story")
        await composer(page).press("Enter")
        await expect(said(page, "tell me a story")).to_contain_text("thinking")
        partial = page.get_by_role("article").filter(has_text="Once upon a")
        await expect(partial).to_be_visible(timeout=WAIT_MS)
        await expect(partial).not_to_contain_text("ended")
        await expect(said(page, "Once upon a")).to_have_count(0)
        hold.set()
        await expect(said(page, "Once upon a time it ended.")).to_be_visible(timeout=WAIT_MS)
        await expect(partial).to_have_count(1)
        await expect(said(page, "tell me a story")).not_to_contain_text("thinking")
        await page.screenshot(path=tmp_path / "answered.png")
        await page.reload()
        await connected(page)
        await expect(said(page, "Once upon a time it ended.")).to_have_count(1)


async def test_shift_enter_makes_a_line_and_enter_sends(up: Up, browser: Browser) -> None:
    async with opened(browser, address_of(up)) as page:
        await connected(page)
        await expect(composer(page)).to_be_focused()
        await page.keyboard.type("first line")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("second line")
        await page.keyboard.press("Enter")
        await expect(composer(page)).to_have_value("")
        await expect(said(page, "You said: first line")).to_be_visible(timeout=WAIT_MS)
    assert "first line\nsecond line" in await posted(await open_chat(up))


async def test_everything_is_reached_and_done_by_keyboard(up: Up, browser: Browser) -> None:
    async with opened(browser, address_of(up)) as page:
        await connected(page)
        await expect(composer(page)).to_be_focused()
        reached: list[str] = []
        while reached.count("Message") < 2:
            reached.append(await page.evaluate(_NAME_OF_FOCUSED))
            await page.keyboard.press("Tab")
            assert len(reached) < 100, reached
        assert {"Message", "Send", "Agent", "Session", "New session", "Sign out"} <= set(reached)
        assert reached[1] == "Send"
        await page.get_by_role("button", name="New session").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.type("By hand")
        await page.keyboard.press("Enter")
        picker = page.get_by_role("combobox", name="Session")
        await expect(picker.locator("option:checked")).to_have_text("By hand")
        await expect(composer(page)).to_be_focused()
        await page.keyboard.type("no mouse")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(said(page, "You said: no mouse")).to_be_visible(timeout=WAIT_MS)


async def test_a_phone_needs_no_sideways_scrolling(
    up: Up, browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, address_of(up), width_px=PHONE_WIDTH_PX) as page:
        await connected(page)
        await composer(page).fill(f"wide-{'w' * 300}\n\n```\n{'code ' * 80}\n```")
        await composer(page).press("Enter")
        await expect(said(page, "You said: wide-")).to_be_visible(timeout=WAIT_MS)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE_WIDTH_PX
        for control in (composer(page), page.get_by_role("button", name="Send")):
            box = await control.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE_WIDTH_PX
        await page.screenshot(path=tmp_path / "phone.png")


async def test_an_open_page_comes_back_after_a_restart_and_sends_once_what_was_typed_meanwhile(
    up: Up, browser: Browser
) -> None:
    async with opened(browser, address_of(up)) as page:
        await connected(page)
        await up.kill()
        await expect(page.get_by_role("status")).not_to_have_text("Connected", timeout=WAIT_MS)
        await composer(page).fill("typed in the dark")
        await composer(page).press("Enter")
        await expect(
            page.get_by_role("article").filter(has_text="typed in the dark")
        ).to_contain_text("will be sent")
        await up.start()
        await connected(page)
        await expect(said(page, "You said: typed in the dark")).to_have_count(1, timeout=WAIT_MS)
        mine = page.get_by_role("article").filter(has_text=re.compile("^typed in the dark"))
        await expect(mine).to_have_count(1)
    chat = await open_chat(up)
    assert (await posted(chat)).count("typed in the dark") == 1
    assert (await chat.said()).count("You said: typed in the dark") == 1


async def test_a_wrong_token_shows_the_login_box_and_a_right_one_opens_it(
    up: Up, browser: Browser
) -> None:
    async with opened(browser, f"{up.gateway()['http']}/#token=wrong") as page:
        box = page.get_by_label("Token")
        await expect(box).to_be_visible(timeout=WAIT_MS)
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(composer(page)).to_be_hidden()
        await box.fill("wrong too")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await box.fill(up.gateway()["token"])
        await page.keyboard.press("Enter")
        await connected(page)


async def test_without_a_token_the_page_asks_for_one_and_shows_nothing(
    up: Up, browser: Browser
) -> None:
    async with opened(browser, up.gateway()["http"]) as page:
        await expect(page.get_by_label("Token")).to_be_visible(timeout=WAIT_MS)
        await expect(page.get_by_role("log")).to_have_count(0)
