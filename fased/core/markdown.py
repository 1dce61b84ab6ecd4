"""Markdown as models write it, parsed once to text and spans. Decides what is shown as what.

It renders for no platform (`telegram_html.py`). The parser is markdown-it: CommonMark's rules for
emphasis are hard to get right, and a well-kept parser follows them. Reference definitions are off,
since they would take text away, and so is HTML, which is text in a chat.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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
# Open brackets cost the parser the square of their number: these many some 20 ms.
MAX_BRACKETS = 2_000

_LONE_SURROGATE = regex.compile(r"[\ud800-\udfff]")
_TRAILING_BLANKS = regex.compile(r"\s+\Z")
_WEB_ADDRESS = regex.compile(r"https?://[^\s/]", regex.IGNORECASE)
_PARSER = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    .enable("strikethrough")
    .disable("reference")
)


class SpanKind(StrEnum):
    """How a part of a text is shown."""

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

    `argument` is a link's address (http or https), or what stands beside a code block's fence.
    """

    kind: SpanKind
    start: int
    stop: int
    argument: str = ""


@dataclass(frozen=True, slots=True)
class FormattedText:
    """A text and its spans in order, the outer before the inner.

    None cuts another in two, none is inside one of its own kind, and code holds none.
    """

    text: str
    spans: tuple[Span, ...] = ()


def parse_markdown(source: str) -> FormattedText:
    """The text that `source` shows, and how. Never raises, and leaves out nothing but marks.

    Lists keep bullets and numbers as text, and a line break stays one. An address that is no web
    address is written beside its text, since no chat opens it.
    """
    source = _LONE_SURROGATE.sub("\ufffd", source)
    if source.count("[") > MAX_BRACKETS:
        return FormattedText(source.strip())
    tokens = _PARSER.parse(source)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        return FormattedText(source.strip())
    writer = _Writer()
    writer.write(tokens)
    return writer.formatted()


def cut_formatted(
    formatted: FormattedText, limit_units: int, mode: ChunkMode = ChunkMode.LENGTH
) -> list[FormattedText]:
    """The messages that carry a text, in order, each of at most `limit_units` (UTF-16), none blank.

    A span that is cut goes on in the next message. Raises InvalidArgument for a limit below two.
    """
    code = [(span.start, span.stop) for span in formatted.spans if span.kind is SpanKind.PRE]
    offsets = chunk_offsets(formatted.text, limit_units, mode, code)
    return [_part(formatted.text, formatted.spans, start, stop) for start, stop in offsets]


def _part(text: str, spans: Iterable[Span], start: int, stop: int) -> FormattedText:
    inside = (
        Span(span.kind, max(span.start, start) - start, min(span.stop, stop) - start, span.argument)
        for span in spans
        if span.start < stop and start < span.stop
    )
    return FormattedText(text[start:stop], tuple(inside))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A span that has begun; `slot` is its place among the spans, None inside one of its kind."""

    kind: SpanKind
    start: int
    part: int
    slot: int | None
    address: str = ""
    title: str = ""


class _Writer:
    """Writes the parser's tokens as text, and remembers where spans begin and end."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        # Line breaks wanted before what comes next.
        self._gap = 0
        # Whether the line holds nothing but what it begins with: no break is wanted there.
        self._is_fresh = True
        # The next number of each list around, None for bullets.
        self._lists: list[int | None] = []
        self._spans: list[Span | None] = []
        self._opened: list[_Opened] = []
        self._kinds: Counter[SpanKind] = Counter()

    def write(self, tokens: Iterable[Token]) -> None:
        """Write tokens; one that nothing is known about is written as it is."""
        for token in tokens:
            step = _STEPS.get(token.type)
            if step is None:
                self._write_text(token.content)
            else:
                step(self, token)

    def formatted(self) -> FormattedText:
        """What was written, without blanks at its end."""
        text = _TRAILING_BLANKS.sub("", "".join(self._parts))
        return _part(text, (span for span in self._spans if span), 0, len(text))

    def write_inline(self, token: Token) -> None:
        self.write(token.children or ())

    def break_line(self, token: Token) -> None:
        self._write_text("\n" + INDENT * len(self._lists))

    def part_paragraph(self, token: Token) -> None:
        self._want_breaks(1 if token.hidden else 2)

    def write_rule(self, token: Token) -> None:
        self._want_block()
        self._write_text(RULE)
        self._want_block()

    def open_style(self, token: Token) -> None:
        self._open(_STYLES[token.type])

    def close_style(self, token: Token) -> None:
        self._close()

    def open_block_style(self, token: Token) -> None:
        self._want_block()
        self._open(_STYLES[token.type])

    def close_block_style(self, token: Token) -> None:
        self._close()
        self._want_block()

    def open_list(self, token: Token) -> None:
        self._want_block()
        self._lists.append(int(token.attrs.get("start", 1)) if token.tag == "ol" else None)

    def close_list(self, token: Token) -> None:
        self._lists.pop()
        self._want_block()

    def open_item(self, token: Token) -> None:
        self._want_breaks(1)
        number = self._lists[-1]
        marker = BULLET if number is None else f"{number}{token.markup}"
        self._begin_line(INDENT * (len(self._lists) - 1))
        self._write_text(f"{marker} ")
        self._lists[-1] = None if number is None else number + 1
        self._is_fresh = True

    def close_item(self, token: Token) -> None:
        self._is_fresh = False
        self._want_breaks(1)

    def write_code_block(self, token: Token) -> None:
        # Unlike a word, code never begins behind a bullet.
        self._is_fresh = self._length == 0
        self._want_block()
        self._begin_line("")
        self._write_code(SpanKind.PRE, token.content.removesuffix("\n"), token.info.strip())
        self._want_block()

    def write_inline_code(self, token: Token) -> None:
        self._write_code(SpanKind.CODE, token.content, "")

    def open_link(self, token: Token) -> None:
        self._open(SpanKind.LINK, _attribute(token, "href"), _attribute(token, "title"))

    def close_link(self, token: Token) -> None:
        link = self._opened[-1]
        shown = "".join(self._parts[link.part :])
        # A link inside a link (a picture that is one) has no span to carry its address.
        is_carried = link.slot is not None and _WEB_ADDRESS.match(link.address) is not None
        if not shown:
            self._write_text(link.address)
        self._close(link.address if is_carried else None)
        if shown and not is_carried and link.address not in ("", shown, f"mailto:{shown}"):
            self._write_text(f" ({link.address})")
        if link.title:
            self._write_text(f" ({link.title})")

    def write_image(self, token: Token) -> None:
        self._open(SpanKind.LINK, _attribute(token, "src"), _attribute(token, "title"))
        self.write(token.children or ())
        self.close_link(token)

    def _write_code(self, kind: SpanKind, text: str, language: str) -> None:
        self._open(kind)
        self._write_text(text or language)
        self._close(language)

    def _open(self, kind: SpanKind, address: str = "", title: str = "") -> None:
        self._begin_line(INDENT * len(self._lists))
        slot = None if self._kinds[kind] else len(self._spans)
        if slot is not None:
            self._spans.append(None)
        self._kinds[kind] += 1
        self._opened.append(_Opened(kind, self._length, len(self._parts), slot, address, title))

    def _close(self, argument: str | None = "") -> None:
        """End the innermost span; None as argument leaves its text without one."""
        opened = self._opened.pop()
        self._kinds[opened.kind] -= 1
        if opened.slot is not None and argument is not None and self._length > opened.start:
            span = Span(opened.kind, opened.start, self._length, argument)
            self._spans[opened.slot] = span

    def _want_block(self) -> None:
        self._want_breaks(1 if self._lists else 2)

    def _want_breaks(self, count: int) -> None:
        if not self._is_fresh:
            self._gap = max(self._gap, count)

    def _begin_line(self, indent: str) -> None:
        """Make the breaks that are wanted, so that what comes next begins where it is shown."""
        if self._gap:
            breaks = "\n" * self._gap + indent
            self._parts.append(breaks)
            self._length += len(breaks)
            self._gap = 0
            self._is_fresh = True

    def _write_text(self, text: str) -> None:
        if text:
            self._begin_line(INDENT * len(self._lists))
            self._parts.append(text)
            self._length += len(text)
            self._is_fresh = False


def _attribute(token: Token, name: str) -> str:
    return str(token.attrs.get(name, ""))


_STYLES: Mapping[str, SpanKind] = {
    "strong_open": SpanKind.BOLD,
    "em_open": SpanKind.ITALIC,
    "s_open": SpanKind.STRIKE,
    "heading_open": SpanKind.BOLD,
    "blockquote_open": SpanKind.QUOTE,
}
_STEPS: Mapping[str, Callable[[_Writer, Token], None]] = {
    "inline": _Writer.write_inline,
    "softbreak": _Writer.break_line,
    "hardbreak": _Writer.break_line,
    "strong_open": _Writer.open_style,
    "strong_close": _Writer.close_style,
    "em_open": _Writer.open_style,
    "em_close": _Writer.close_style,
    "s_open": _Writer.open_style,
    "s_close": _Writer.close_style,
    "code_inline": _Writer.write_inline_code,
    "link_open": _Writer.open_link,
    "link_close": _Writer.close_link,
    "image": _Writer.write_image,
    "paragraph_open": _Writer.part_paragraph,
    "paragraph_close": _Writer.part_paragraph,
    "heading_open": _Writer.open_block_style,
    "heading_close": _Writer.close_block_style,
    "blockquote_open": _Writer.open_block_style,
    "blockquote_close": _Writer.close_block_style,
    "bullet_list_open": _Writer.open_list,
    "bullet_list_close": _Writer.close_list,
    "ordered_list_open": _Writer.open_list,
    "ordered_list_close": _Writer.close_list,
    "list_item_open": _Writer.open_item,
    "list_item_close": _Writer.close_item,
    "fence": _Writer.write_code_block,
    "code_block": _Writer.write_code_block,
    "hr": _Writer.write_rule,
}
