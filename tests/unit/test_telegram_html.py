"""Telegram's HTML: what is sent for what people see, checked by the rules of the strict server."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fased.core.chunking import ChunkMode, length_units
from fased.core.errors import InvalidArgument
from fased.core.markdown import parse_markdown
from fased.core.telegram_html import MAX_MESSAGE_UNITS, render_markdown, to_html
from tests.support.telegram_rules import checked_text, parse_html
from tests.unit.test_markdown import ANY, WRITTEN

LIMIT = 4000
TYPES = {
    "bold": "bold",
    "italic": "italic",
    "strike": "strikethrough",
    "code": "code",
    "pre": "pre",
    "link": "text_link",
    "quote": "blockquote",
}


def html_of(source: str) -> str:
    (message,) = render_markdown(source, LIMIT)
    return message.html


def test_each_style_has_its_tag() -> None:
    assert html_of("**b** *i* ~~s~~ `c`") == "<b>b</b> <i>i</i> <s>s</s> <code>c</code>"
    assert html_of("> q") == "<blockquote>q</blockquote>"
    assert html_of("# h") == "<b>h</b>"


def test_styles_that_touch_do_not_nest() -> None:
    assert html_of("**a**`b`*c*") == "<b>a</b><code>b</code><i>c</i>"


def test_code_blocks_say_their_language() -> None:
    assert html_of("```c++ x\na<b\n```") == ('<pre><code class="language-c++">a&lt;b</code></pre>')
    assert html_of("```\nx\n```") == "<pre>x</pre>"


def test_what_means_something_in_html_is_escaped() -> None:
    assert html_of("a < b & c > d <b>") == "a &lt; b &amp; c &gt; d &lt;b&gt;"
    assert html_of('[x](https://a.b/?q=%22&r="1")') == (
        '<a href="https://a.b/?q=%22&amp;r=%221%22">x</a>'
    )


def test_plain_text_shows_the_addresses_that_links_carry() -> None:
    (message,) = render_markdown("See **[docs](https://a.b)** or <https://c.d>.", LIMIT)
    assert message.plain == "See docs (https://a.b) or https://c.d."


def test_plain_text_leaves_out_addresses_where_they_would_not_fit() -> None:
    (message,) = render_markdown("x" * 3_990 + f" [a](https://{'b' * 200})", LIMIT)
    assert message.plain.endswith("x a")


def test_a_text_that_shows_nothing_makes_no_message() -> None:
    assert render_markdown(" \n\n", LIMIT) == []


def test_length_is_what_is_shown_not_what_is_sent() -> None:
    (message,) = render_markdown("**" + "&" * LIMIT + "**", LIMIT)
    assert checked_text(message.html, "HTML")[0] == "&" * LIMIT


def test_a_limit_above_telegrams_own_is_telegrams_own() -> None:
    first, second = render_markdown("🙂" * (MAX_MESSAGE_UNITS // 2 + 1), 9_000)
    assert length_units(first.plain) == MAX_MESSAGE_UNITS
    assert second.plain == "🙂"


def test_a_limit_that_carries_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        render_markdown("x", 1)


@given(st.one_of(ANY, WRITTEN))
@example("**a\n\n- b\n> `c`**")
def test_telegram_takes_the_html_of_any_text_and_shows_the_same(source: str) -> None:
    formatted = parse_markdown(source)
    shown, entities = parse_html(to_html(formatted))
    assert shown == formatted.text.replace("\0", "")
    expected = [
        (TYPES[span.kind], length_units(shown[: span.start]), length_units(shown[: span.stop]))
        for span in formatted.spans
    ]
    found = [(e["type"], e["offset"], e["offset"] + e["length"]) for e in entities]
    assert sorted(found) == sorted(expected)


@given(st.one_of(ANY, WRITTEN), st.integers(2, 60), st.sampled_from(ChunkMode))
def test_every_message_is_valid_by_itself(source: str, limit_units: int, mode: ChunkMode) -> None:
    for message in render_markdown(source, limit_units, mode):
        shown, _ = checked_text(message.html, "HTML")
        assert length_units(shown) <= limit_units
        assert checked_text(message.plain, "")[0]


@pytest.mark.parametrize("mode", ChunkMode)
def test_a_long_answer_becomes_messages_that_telegram_takes(mode: ChunkMode) -> None:
    part = "# Plan\n\n**long & 日本語🙂** text, `x < y`\n\n- [a](https://b.c)\n\n```py\nx\n```\n\n"
    messages = render_markdown(part * 200, LIMIT, mode)
    shown = [checked_text(message.html, "HTML")[0] for message in messages]
    assert "".join("".join(shown).split()) == "".join(parse_markdown(part * 200).text.split())
