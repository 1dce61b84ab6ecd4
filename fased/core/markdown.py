"""Markdown as models write it, parsed once to text and spans. Decides what is shown as what.

It renders for no platform (`telegram_html.py`). The parser is markdown-it: CommonMark's rules for
emphasis are hard to get right, and a well-kept parser follows them. Reference definitions are off,
since they would take text away, and so is HTML, which is text in a chat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import regex
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fased.core.chunking import ChunkMode, chunk_offsets

BULLET = "•"
RULE = "———"
INDENT = "  "
# markdown-it leaves out what is nested deeper, so such a text is shown as it is written.
MAX_NESTING = 100
# Open brackets cost the parser the square of their number: these many cost some 20 ms.
MAX_BRACKETS = 2_000

_LONE_SURROGATES = regex.compile(r"[\ud800-\udfff]")
_WEB_LINK = regex.compile(r"https?://[^\s/]", regex.IGNORECASE)
_TRAILING = regex.compile(r"\s+\Z")


class SpanKind(StrEnum):
    """How a part of a text is shown. Nothing is inside `code` or `pre`."""

    BOLD = "bold"
    ITALIC = "italic"
    STRIKE = "strike"
    CODE = "code"
    PRE = "pre"
    LINK = "link"
    QUOTE = "quote"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, from code point `start` up to `stop`, never empty.

    `argument` is a link's address, http or https, or what stands beside a code block's fence.
    """

    kind: SpanKind
    start: int
    stop: int
    argument: str = ""


@dataclass(frozen=True, slots=True)
class FormattedText:
    """A text and its spans, the outer before the inner, in order; none cuts another in two."""

    text: str
    spans: tuple[Span, ...] = ()


def parse_markdown(source: str) -> FormattedText:
    """The text that `source` shows, and how. Never raises, and leaves out marks only.

    Lists keep their bullets and numbers as text; a line break stays one. An address that is no
    web link is written beside its text, since no chat opens it.
    """
    source = _LONE_SURROGATES.sub("\ufffd", source)
    if source.count("[") > MAX_BRACKETS:
        return FormattedText(source.strip())
    tokens = _parser().parse(source)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        return FormattedText(source.strip())
    writer = _Writer()
    for token in tokens:
        writer.write_block(token)
    return writer.formatted()


def cut_formatted(
    formatted: FormattedText, limit_units: int, mode: ChunkMode = ChunkMode.LENGTH
) -> list[FormattedText]:
    """The messages that carry a text, in order, each of at most `limit_units` (UTF-16).

    A span that is cut goes on in the next message. Raises InvalidArgument for a limit below two.
    """
    code = [(span.start, span.stop) for span in formatted.spans if span.kind is SpanKind.PRE]
    offsets = chunk_offsets(formatted.text, limit_units, mode, code)
    return [_part(formatted, start, stop) for start, stop in offsets]


def _part(formatted: FormattedText, start: int, stop: int) -> FormattedText:
    spans = [
        Span(span.kind, max(span.start, start) - start, min(span.stop, stop) - start, span.argument)
        for span in formatted.spans
        if span.start < stop and start < span.stop
    ]
    return FormattedText(formatted.text[start:stop], tuple(spans))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    return parser.enable("strikethrough").disable("reference")


@dataclass(slots=True)
class _List:
    """A list that is being written; `number` is None for bullets."""

    is_tight: bool
    number: int | None
    delimiter: str = ""


class _Writer:
    """Writes tokens as text, and remembers where spans begin and end."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._gap = 0
        self._lists: list[_List] = []
        self._spans: list[Span | None] = []
        self._open: list[tuple[int, SpanKind, int, str]] = []

    def formatted(self) -> FormattedText:
        """What was written, without white space at the end."""
        text = _TRAILING.sub("", "".join(self._parts))
        spans = [
            Span(span.kind, span.start, min(span.stop, len(text)), span.argument)
            for span in self._spans
            if span is not None and span.start < min(span.stop, len(text))
        ]
        return FormattedText(text, tuple(spans))

    def write_block(self, token: Token) -> None:
        """Write one token of the block level."""
        match token.type:
            case "inline":
                self._write_inline(token.children or ())
            case "fence" | "code_block":
                self._write_code(token)
            case "heading_open" | "blockquote_open":
                self._start_line(2)
                self._open_span(_BLOCK_SPANS[token.type])
            case "heading_close" | "blockquote_close":
                self._close_span(_BLOCK_SPANS[token.type])
                self._end_line(2)
            case "bullet_list_open" | "ordered_list_open":
                self._end_line(1 if self._lists else 2)
                self._lists.append(_list_of(token))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                self._end_line(1 if self._lists else 2)
            case "list_item_open":
                self._write_marker(token)
            case "list_item_close":
                self._end_line(1)
            case "paragraph_open":
                self._start_line(1 if token.hidden else 2)
            case "paragraph_close":
                self._end_line(1 if token.hidden else 2)
            case "hr":
                self._start_line(2)
                self._write(RULE)
                self._end_line(2)
            case _:
                self._write(token.content)

    def _write_inline(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            self._write_word(token)

    def _write_word(self, token: Token) -> None:
        match token.type:
            case "softbreak" | "hardbreak":
                self._write(f"\n{self._indent()}")
            case "code_inline":
                self._open_span(SpanKind.CODE)
                self._write(token.content)
                self._close_span(SpanKind.CODE)
            case "strong_open" | "em_open" | "s_open":
                self._open_span(_INLINE_SPANS[token.type])
            case "strong_close" | "em_close" | "s_close":
                self._close_span(_INLINE_SPANS[token.type])
            case "link_open":
                self._open_link(str(token.attrs.get("href", "")))
                self._titles.append(str(token.attrs.get("title", "")))
            case "link_close":
                self._close_link()
            case "image":
                self._write_image(token)
            case _:
                self._write(token.content)
