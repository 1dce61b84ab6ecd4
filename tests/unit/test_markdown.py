"""Markdown: what models write as people see it, and the laws for any text."""

import re
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fased.core.chunking import ChunkMode, length_units
from fased.core.markdown import (
    MAX_BRACKETS,
    MAX_NESTING,
    FormattedText,
    Span,
    SpanKind,
    cut_formatted,
    parse_markdown,
)

MARKS = ["*", "**", "_", "~~", "`", "```", "\n", "\n\n", "> ", "- ", "1. ", "# ", "[", "](", ")"]
MARKS += ["![", "](https://a.b/c", ' "', '"', "\\", "    ", "<", ">", "|", "---", "\t", " ", "~~~"]
WORDS = st.text("abcdefxyz", min_size=1, max_size=6)
# Markup in every order, with words that must be found again.
WRITTEN = st.lists(st.one_of(st.sampled_from(MARKS), WORDS), max_size=40).map("".join)
ANY = st.text(st.characters(codec=None), max_size=80)
PLAIN = st.lists(st.text("abcXYZäß日本🙂 .,;:?'", max_size=30), max_size=8).map("\n".join)


def shown(source: str) -> dict[str, list[str]]:
    """The text under each kind of span."""
    formatted = parse_markdown(source)
    kinds: dict[str, list[str]] = {}
    for span in formatted.spans:
        kinds.setdefault(span.kind.value, []).append(formatted.text[span.start : span.stop])
    return kinds


def text_of(source: str) -> str:
    return parse_markdown(source).text


def letters(text: str) -> Counter[str]:
    return Counter(re.findall("[a-z]", text))


def test_styles_are_spans_and_their_marks_are_gone() -> None:
    source = "**bold** and *it* or _it_, ~~gone~~, `x = *1*`"
    assert text_of(source) == "bold and it or it, gone, x = *1*"
    assert shown(source) == {
        "bold": ["bold"],
        "italic": ["it", "it"],
        "strike": ["gone"],
        "code": ["x = *1*"],
    }


def test_styles_nest_and_a_style_inside_itself_says_nothing_more() -> None:
    assert parse_markdown("**a *b* `c` __d__**") == FormattedText(
        "a b c d",
        (Span(SpanKind.BOLD, 0, 7), Span(SpanKind.ITALIC, 2, 3), Span(SpanKind.CODE, 4, 5)),
    )


def test_a_fenced_block_keeps_every_character_and_its_language() -> None:
    formatted = parse_markdown("So:\n\n```python x.py\nif a < b:\n\n    *c* = '`'\n```\nDone.")
    assert formatted.text == "So:\n\nif a < b:\n\n    *c* = '`'\n\nDone."
    (span,) = formatted.spans
    assert (span.kind, span.argument) == (SpanKind.PRE, "python x.py")


def test_a_fence_that_is_left_open_is_code_to_the_end() -> None:
    assert shown("```\na\n**b**") == {"pre": ["a\n**b**"]}


def test_headings_are_bold_lines() -> None:
    assert text_of("# Plan\ntext\n\nEnd\n===\nx") == "Plan\n\ntext\n\nEnd\n\nx"
    assert shown("# Plan *now*\ntext") == {"bold": ["Plan now"], "italic": ["now"]}


def test_lists_keep_bullets_numbers_and_depth_as_text() -> None:
    source = "Two:\n- one\n- two\n  continued\n  - deep **b**\n    1. first\n\n3) three\n4) four"
    assert text_of(source) == (
        "Two:\n\n• one\n• two\n  continued\n  • deep b\n    1. first\n\n3) three\n4) four"
    )


def test_items_of_more_than_a_line_are_kept_apart() -> None:
    assert text_of("1. a\n\n   more\n2. b") == "1. a\n\n  more\n\n2. b"


def test_code_in_a_list_begins_a_line_of_its_own() -> None:
    assert text_of("- run\n  ```\n  x\n  ```\n- ```\n  y\n  ```") == "• run\nx\n• \ny"


def test_an_empty_item_keeps_its_bullet() -> None:
    assert text_of("-\n- a") == "• \n• a"


def test_a_quote_is_one_span_however_deep() -> None:
    assert shown("> a\n> > b\n\nc") == {"quote": ["a\n\nb"]}


def test_links_keep_their_address_and_an_image_is_a_link_to_it() -> None:
    formatted = parse_markdown("[a *b*](https://x.y/?q=1&r=2) ![alt](http://i/j.png)")
    links = [span for span in formatted.spans if span.kind is SpanKind.LINK]
    assert formatted.text == "a b alt"
    assert [span.argument for span in links] == ["https://x.y/?q=1&r=2", "http://i/j.png"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("[file](./a.md)", "file (./a.md)"),
        ("[part](#top)", "part (#top)"),
        ("[mail](mailto:a@b.c)", "mail (mailto:a@b.c)"),
        ("<a@b.c>", "a@b.c"),
        ("[x](javascript:alert)", "[x](javascript:alert)"),
        ("[](https://a.b)", "https://a.b"),
        ('[x](https://a.b "tip")', "x (tip)"),
        ("[empty]()", "empty"),
        ("[ref][1]\n\n[1]: https://a.b", "[ref][1]\n\n[1]: https://a.b"),
        ("<b>html</b> &amp; a < b", "<b>html</b> & a < b"),
        (r"\*no\* snake_case_word 2*3*4", "*no* snake_case_word 234"),
        ("a\nb  \nc\\\nd", "a\nb\nc\nd"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_what_has_no_span_stays_readable(source: str, text: str) -> None:
    assert text_of(source) == text


def test_html_is_text_with_markdown_in_it() -> None:
    assert parse_markdown("<div>\n**b**\n</div>") == FormattedText(
        "<div>\nb\n</div>", (Span(SpanKind.BOLD, 6, 7),)
    )


def test_what_is_nested_too_deep_for_the_parser_is_shown_as_written() -> None:
    source = "> " * MAX_NESTING + "deep"
    assert parse_markdown(source) == FormattedText(source)


def test_brackets_that_would_keep_the_parser_busy_are_shown_as_written() -> None:
    source = "![[" * MAX_BRACKETS
    assert parse_markdown(source) == FormattedText(source)


@given(st.one_of(ANY, WRITTEN))
@example("\ud800[a](\udfff)")
@example("\0\r\n\t\x0b")
def test_any_text_is_parsed_and_its_spans_nest(source: str) -> None:
    formatted = parse_markdown(source)
    around: list[Span] = []
    for span in formatted.spans:
        assert 0 <= span.start < span.stop <= len(formatted.text)
        while around and around[-1].stop <= span.start:
            around.pop()
        assert all(span.stop <= outer.stop for outer in around)
        kinds = {outer.kind for outer in around}
        assert span.kind not in kinds
        assert not kinds & {SpanKind.CODE, SpanKind.PRE}
        around.append(span)
    starts = [span.start for span in formatted.spans]
    assert starts == sorted(starts)
    formatted.text.encode()


@given(WRITTEN)
@example("[![a](https://b.c/d)](https://e.f/g)")
@example('[](./a "b") ![](c)')
@example("```ab cd")
def test_no_letter_is_lost(source: str) -> None:
    formatted = parse_markdown(source)
    kept = [formatted.text, *(span.argument for span in formatted.spans)]
    assert letters(source) <= letters("".join(kept))


@given(PLAIN)
def test_plain_text_keeps_its_words_and_gets_no_spans(source: str) -> None:
    formatted = parse_markdown(source)
    assert formatted.text.split() == source.split()
    assert [span.kind for span in formatted.spans if span.kind is not SpanKind.PRE] == []


@given(st.one_of(ANY, WRITTEN), st.integers(2, 40), st.sampled_from(ChunkMode))
def test_cut_parts_fit_and_carry_all_that_is_shown(
    source: str, limit_units: int, mode: ChunkMode
) -> None:
    formatted = parse_markdown(source)
    parts = cut_formatted(formatted, limit_units, mode)
    assert all(length_units(part.text) <= limit_units for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(formatted.text.split())
    for part in parts:
        assert all(0 <= span.start < span.stop <= len(part.text) for span in part.spans)
    assert {span.kind for part in parts for span in part.spans} <= {
        span.kind for span in formatted.spans
    }


def test_a_style_that_is_cut_goes_on_in_the_next_part() -> None:
    first, second = cut_formatted(parse_markdown("**one two three**"), 8)
    assert first == FormattedText("one two", (Span(SpanKind.BOLD, 0, 7),))
    assert second == FormattedText("three", (Span(SpanKind.BOLD, 0, 5),))


def test_code_is_cut_between_lines_and_stays_code() -> None:
    parts = cut_formatted(parse_markdown("See:\n\n```py\naaaa\n  bbbb\ncccc\n```\nEnd"), 12)
    assert [part.text for part in parts] == ["See:", "aaaa\n  bbbb", "cccc\n\nEnd"]
    assert [span.argument for part in parts for span in part.spans] == ["py", "py"]


def test_a_code_block_that_fits_in_a_part_is_not_cut() -> None:
    parts = cut_formatted(parse_markdown("word word\n\n```\nx x\n\ny y\n```\nEnd of it"), 15)
    assert [part.text for part in parts] == ["word word", "x x\n\ny y", "End of it"]


def test_fence_lines_that_are_shown_as_text_are_no_fences_when_cut() -> None:
    parts = cut_formatted(parse_markdown("````\n```\naaaa\n```\nbbbb\n````"), 10)
    assert "\n".join(part.text for part in parts) == "```\naaaa\n```\nbbbb"
