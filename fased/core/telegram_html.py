"""A formatted text as Telegram's HTML, in messages that Telegram takes. Decides tags and escapes.

It does not decide where a text is cut (`chunking.py`), and sends nothing. The rules are those of
https://core.telegram.org/bots/api#html-style.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from fased.core.chunking import ChunkMode, length_units
from fased.core.markdown import FormattedText, Span, SpanKind, cut_formatted, parse_markdown

# Telegram's own limit, in UTF-16 code units of the text that is shown.
MAX_MESSAGE_UNITS = 4096

_TAGS = {
    SpanKind.BOLD: "b",
    SpanKind.ITALIC: "i",
    SpanKind.STRIKE: "s",
    SpanKind.CODE: "code",
    SpanKind.QUOTE: "blockquote",
}


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """One message: `html` to send, and `plain` where Telegram refuses the first's formatting."""

    html: str
    plain: str


def render_markdown(
    source: str, limit_units: int, mode: ChunkMode = ChunkMode.LENGTH
) -> list[RenderedMessage]:
    """The messages that carry a Markdown text, in order; none where it shows nothing.

    Each is valid by itself, and shows at most `limit_units` and never more than Telegram takes.
    Raises InvalidArgument for a limit below two.
    """
    pieces = cut_formatted(parse_markdown(source), min(limit_units, MAX_MESSAGE_UNITS), mode)
    return [RenderedMessage(to_html(piece), to_plain(piece)) for piece in pieces]


def to_html(formatted: FormattedText) -> str:
    """The text in Telegram's HTML."""
    parts: list[str] = []
    at = 0
    for position, tag in _tags(formatted):
        parts.append(escape(formatted.text[at:position], quote=False))
        parts.append(tag)
        at = position
    parts.append(escape(formatted.text[at:], quote=False))
    return "".join(parts)


def to_plain(formatted: FormattedText) -> str:
    """The text alone, with the addresses of its links beside them while they fit in a message."""
    parts: list[str] = []
    at = 0
    for span in formatted.spans:
        if span.kind is SpanKind.LINK and span.argument != formatted.text[span.start : span.stop]:
            parts.append(f"{formatted.text[at : span.stop]} ({span.argument})")
            at = span.stop
    plain = "".join(parts) + formatted.text[at:]
    return plain if length_units(plain) <= MAX_MESSAGE_UNITS else formatted.text


def _tags(formatted: FormattedText) -> Iterator[tuple[int, str]]:
    """Every tag with its place in the text, in the order they are written."""
    around: list[Span] = []
    for span in formatted.spans:
        while around and around[-1].stop <= span.start:
            ended = around.pop()
            yield ended.stop, _closing(ended)
        around.append(span)
        yield span.start, _opening(span)
    for ended in reversed(around):
        yield ended.stop, _closing(ended)


def _opening(span: Span) -> str:
    match span.kind:
        case SpanKind.LINK:
            return f'<a href="{escape(span.argument)}">'
        case SpanKind.PRE if span.argument:
            return f'<pre><code class="language-{escape(span.argument.split()[0])}">'
        case SpanKind.PRE:
            return "<pre>"
        case _:
            return f"<{_TAGS[span.kind]}>"


def _closing(span: Span) -> str:
    match span.kind:
        case SpanKind.LINK:
            return "</a>"
        case SpanKind.PRE:
            return "</code></pre>" if span.argument else "</pre>"
        case _:
            return f"</{_TAGS[span.kind]}>"
