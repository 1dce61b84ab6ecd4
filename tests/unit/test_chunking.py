"""Chunking: the recorded rows that apply, the breaks people see, and the laws for any text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from fased.core import chunking
from fased.core.chunking import Chunking, ChunkMode, ChunkSettings
from fased.core.errors import InvalidArgument
from fased.core.names import ChannelId

CASES = json.loads((Path(__file__).parent.parent / "cases" / "chunk.json").read_text("utf-8"))
LEFT_OUT = {
    "chunk-010": "the reference knows no limit of Slack's own; behaviour §7 says 8000",
    "chunk-013": "the reference knows no limit of Discord's own; behaviour §7 says 2000",
    "chunk-022": "the reference keeps line breaks at a chunk's end, which no platform shows",
    "chunk-029": "the reference misses a space right after a full chunk; ours fills the chunk",
    **dict.fromkeys(
        (f"chunk-{number:03}" for number in range(33, 41)),
        "chunkByNewline makes every line a message; neither mode of behaviour §7 does",
    ),
}
APPLICABLE = [case for case in CASES if case["id"] not in LEFT_OUT]

FENCE_LINE = re.compile(r"^ {0,3}(```|~~~).*$", re.MULTILINE)


def settings_of(section: dict[str, Any]) -> ChunkSettings:
    mode = section.get("chunkMode")
    return ChunkSettings(section.get("textChunkLimit"), ChunkMode(mode) if mode else None)


def resolved(config: dict[str, Any] | None, channel: str, account: str | None) -> Chunking:
    section = (config or {}).get("channels", {}).get(channel, {})
    own = section.get("accounts", {}).get(account, {})
    return chunking.resolve_chunking(ChannelId(channel), settings_of(section), settings_of(own))


def spans(text: str, chunks: list[str]) -> list[tuple[int, int]]:
    """Where each chunk of a text without fences lies; fails where more than blanks is between."""
    found, end = [], 0
    for chunk in chunks:
        start = text.index(chunk, end)
        assert not text[end:start].strip(), f"lost {text[end:start]!r}"
        end = start + len(chunk)
        found.append((start, end))
    assert not text[end:].strip(), f"lost {text[end:]!r}"
    return found


def open_fences(text: str) -> int:
    opened = ""
    for line in FENCE_LINE.finditer(text):
        marker = line[1]
        if not opened:
            opened = marker
        elif opened == marker and line[0].strip() == marker:
            opened = ""
    return int(bool(opened))


def test_every_row_left_out_is_a_row() -> None:
    assert {case["id"] for case in CASES} >= LEFT_OUT.keys()
    assert len(APPLICABLE) == 49


@pytest.mark.parametrize("case", APPLICABLE, ids=[case["id"] for case in APPLICABLE])
def test_the_recorded_rows_hold(case: dict[str, Any]) -> None:
    function, args = case["function"], case["args"]
    match function:
        case "resolveTextChunkLimit":
            got: object = resolved(args[0], args[1], args[2]).limit_units
        case "resolveChunkMode":
            got = resolved(*args).mode
        case "chunkTextWithMode" | "chunkMarkdownTextWithMode":
            got = chunking.chunk_text(args[0], args[1], ChunkMode(args[2]))
        case _:
            got = chunking.chunk_text(args[0], args[1])
    assert got == case["expect"]


@pytest.mark.parametrize(
    ("channel", "limit"), [("telegram", 4000), ("discord", 2000), ("slack", 8000), ("other", 4000)]
)
def test_each_channel_has_its_limit_by_default(channel: str, limit: int) -> None:
    assert chunking.resolve_chunking(ChannelId(channel)) == Chunking(limit, ChunkMode.LENGTH)


@pytest.mark.parametrize("limit", [1, 0, -5])
def test_a_limit_that_holds_no_character_is_refused(limit: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        chunking.chunk_text("text", limit)
    assert refusal.value.reason == "INVALID_CHUNK_LIMIT"
    with pytest.raises(InvalidArgument):
        chunking.resolve_chunking(ChannelId("telegram"), ChunkSettings(limit_units=limit))


@pytest.mark.parametrize("mode", ChunkMode)
@pytest.mark.parametrize("text", ["", " ", "\n\n", " \n\t\n "])
def test_a_blank_text_makes_no_chunk(text: str, mode: ChunkMode) -> None:
    assert chunking.chunk_text(text, 100, mode) == []


def test_a_paragraph_end_is_preferred_to_a_line_end_to_a_sentence_end_to_a_word_end() -> None:
    assert chunking.chunk_text("One two.\n\nThree four\nfive six", 25)[0] == "One two."
    assert chunking.chunk_text("One two. Three four\nfive six", 25)[0] == "One two. Three four"
    assert chunking.chunk_text("One two three. Four five six", 25)[0] == "One two three."
    assert chunking.chunk_text("One two three four five six", 25)[0] == "One two three four five"


def test_a_better_break_that_leaves_the_chunk_almost_empty_is_passed_over() -> None:
    assert chunking.chunk_text("Hi.\n\n" + "word " * 12, 40)[0] == "Hi.\n\n" + "word " * 6 + "word"


def test_a_word_that_fits_one_chunk_is_kept_whole() -> None:
    link = "https://example.org/" + "x" * 18
    assert chunking.chunk_text(f"see {link} now", 40) == ["see", link, "now"]


def test_a_bracketed_remark_is_kept_whole_where_it_can_be() -> None:
    text = "The first words (and a remark) end"
    assert chunking.chunk_text(text, 26) == ["The first words", "(and a remark) end"]
    assert chunking.chunk_text("(one two three four five six", 12) == [
        "(one two",
        "three four",
        "five six",
    ]


def test_a_no_break_space_is_no_place_to_break() -> None:
    assert chunking.chunk_text("about 10\u00a0km far", 9) == ["about", "10\u00a0km far"]


def test_a_line_keeps_its_indentation_in_the_next_chunk() -> None:
    assert chunking.chunk_text("- one item\n  - two items", 14) == ["- one item", "  - two items"]


def test_lengths_are_utf16_units() -> None:
    assert chunking.length_units("a\u00e9😀") == 4
    assert chunking.chunk_text("😀" * 5, 4) == ["😀😀", "😀😀", "😀"]
    assert chunking.chunk_text("😀" * 2, 3) == ["😀", "😀"]


def test_a_grapheme_cluster_stays_whole() -> None:
    family = "👨‍👩‍👧"
    assert chunking.chunk_text(family * 3, 20) == [family * 2, family]
    assert chunking.chunk_text("e\u0301" * 5, 5) == ["e\u0301" * 2, "e\u0301" * 2, "e\u0301"]
    assert chunking.chunk_text("🇳🇴🇩🇪🇫🇷", 6) == ["🇳🇴", "🇩🇪", "🇫🇷"]


def test_a_cluster_longer_than_a_chunk_is_cut_between_code_points() -> None:
    text = "a" + "\u0301" * 9
    assert chunking.chunk_text(text, 4) == [text[0:4], text[4:8], text[8:10]]


def test_a_space_that_carries_a_mark_is_no_break() -> None:
    assert chunking.chunk_text("one two \u0301three", 9) == ["one", "two \u0301thre", "e"]


def test_a_fence_is_closed_and_opened_again_with_its_language() -> None:
    code = "\n".join(f"line {number}" for number in range(6))
    assert chunking.chunk_text(f"Look:\n```py\n{code}\n```\nDone.", 34) == [
        "Look:",
        "```py\nline 0\nline 1\nline 2\n```",
        "```py\nline 3\nline 4\nline 5\n```",
        "Done.",
    ]


def test_a_blank_line_inside_a_fence_makes_no_new_paragraph() -> None:
    text = "~~~\na\n\nb\n~~~\n\nafter"
    assert chunking.chunk_text(text, 100, ChunkMode.NEWLINE) == ["~~~\na\n\nb\n~~~", "after"]


def test_code_loses_no_blank_of_a_line() -> None:
    code = "    indented\n\n\tand tabbed   \n" + "x" * 60
    chunks = chunking.chunk_text(f"```\n{code}\n```", 30)
    bodies = [chunk.removeprefix("```\n").removesuffix("\n```") for chunk in chunks]
    assert bodies[0] == "    indented\n"
    assert bodies[1] == "\tand tabbed   "
    assert "".join(bodies[2:]) == "x" * 60


def test_blank_lines_at_the_end_of_code_make_no_chunk() -> None:
    text = "```\n" + "x" * 20 + "\n" * 40 + "```\nafter"
    assert chunking.chunk_text(text, 30) == ["```\n" + "x" * 20 + "\n\n\n```", "after"]


def test_a_fence_inside_a_longer_fence_is_its_text() -> None:
    text = "````md\n```js\n" + "let a;\n" * 8 + "```\n````"
    chunks = chunking.chunk_text(text, 40)
    assert all(chunk.startswith("````md\n") and chunk.endswith("\n````") for chunk in chunks)


def test_a_fence_left_open_is_open_in_the_last_chunk_only() -> None:
    chunks = chunking.chunk_text("```\n" + "code\n" * 10, 30)
    assert [open_fences(chunk) for chunk in chunks] == [0] * (len(chunks) - 1) + [1]


def test_a_fence_whose_own_lines_fill_half_a_chunk_is_plain_text() -> None:
    text = f"```{'x' * 40}\ncode code code\n```"
    chunks = chunking.chunk_text(text, 20)
    assert "".join("".join(chunks).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["a" * 400_000, "e" + "\u0301" * 400_000, "(" * 400_000])
def test_a_long_text_without_breaks_is_carried_whole(text: str) -> None:
    assert "".join(chunking.chunk_text(text, 4000)) == text


WORDS = st.text(
    st.sampled_from("aA1.!?,()[]*_- \n\t\r\u00a0\u3000é\u0301\u200dЖ中。😀👩👧🇳🇴\u0e33\u0600"),
    max_size=300,
)
LIMITS = st.integers(2, 60)
MODES = st.sampled_from(ChunkMode)


@given(WORDS | st.text(max_size=200), LIMITS, MODES)
def test_law_every_chunk_fits_and_none_is_blank(text: str, limit: int, mode: ChunkMode) -> None:
    for chunk in chunking.chunk_text(text, limit, mode):
        assert chunking.length_units(chunk) <= limit
        assert chunk.strip()


@given(WORDS, LIMITS, MODES)
def test_law_only_blanks_lie_between_chunks(text: str, limit: int, mode: ChunkMode) -> None:
    spans(text, chunking.chunk_text(text, limit, mode))


@given(WORDS, st.integers(1, 60), MODES)
def test_law_graphemes_stay_whole(text: str, extra: int, mode: ChunkMode) -> None:
    clusters = list(regex.finditer(r"\X", text))
    widest = max((chunking.length_units(cluster[0]) for cluster in clusters), default=1)
    boundaries = {0} | {cluster.end() for cluster in clusters}
    for start, end in spans(text, chunking.chunk_text(text, widest + extra, mode)):
        assert {start, end} <= boundaries


@given(WORDS, LIMITS)
def test_law_a_text_that_fits_is_one_chunk_as_it_is(text: str, limit: int) -> None:
    assume(text.strip() and chunking.length_units(text) <= limit)
    assert chunking.chunk_text(text, limit) == [text]


@given(WORDS, LIMITS, MODES)
def test_law_a_chunk_is_not_cut_again(text: str, limit: int, mode: ChunkMode) -> None:
    for chunk in chunking.chunk_text(text, limit, mode):
        assert chunking.chunk_text(chunk, limit) == [chunk]


PROSE = st.text(st.sampled_from("abc .()é😀"), min_size=1, max_size=80)
CODE = st.text(st.sampled_from("xy =()\n\t é"), max_size=120)
FENCES = st.builds(
    lambda marker, language, code: f"{marker}{language}\n{code}\n{marker}",
    st.sampled_from(["```", "~~~"]),
    st.sampled_from(["", "py", " js title=1"]),
    CODE,
)
DOCUMENTS = st.lists(PROSE | FENCES, min_size=1, max_size=6).flatmap(
    lambda blocks: st.sampled_from(["\n", "\n\n"]).map(lambda gap: gap.join(blocks))
)


@given(DOCUMENTS, st.integers(40, 120), MODES)
def test_law_each_chunk_closes_the_fences_it_opens(text: str, limit: int, mode: ChunkMode) -> None:
    chunks = chunking.chunk_text(text, limit, mode)
    assert [open_fences(chunk) for chunk in chunks] == [0] * len(chunks)
    assert all(chunking.length_units(chunk) <= limit for chunk in chunks)


@given(DOCUMENTS, st.integers(40, 120), MODES)
def test_law_fence_lines_aside_every_character_is_kept(
    text: str, limit: int, mode: ChunkMode
) -> None:
    joined = "\n".join(chunking.chunk_text(text, limit, mode))
    kept, given_text = FENCE_LINE.sub("", joined), FENCE_LINE.sub("", text)
    assert "".join(kept.split()) == "".join(given_text.split())


@given(DOCUMENTS, st.integers(40, 120))
def test_law_every_fence_of_the_text_with_code_in_it_is_still_there(text: str, limit: int) -> None:
    opened = [line[0] for line in FENCE_LINE.finditer(text)]
    joined = "\n".join(chunking.chunk_text(text, limit))
    reopened = [line[0] for line in FENCE_LINE.finditer(joined)]
    assert set(opened) == set(reopened)
