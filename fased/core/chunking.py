"""How a long text becomes messages. Decides where to cut it; renders and sends nothing.

Lengths are UTF-16 code units everywhere: Telegram counts them, and no platform's own count of
characters is ever larger, so a chunk that fits in them fits wherever it goes.

A cut takes away only white space (in code: one line break, and blank lines at the end), and adds
only fence lines: a code fence that is cut is closed there and opened again in the next chunk.
Text that was parsed before (`markdown.py`) has no fence lines, and is cut by offsets.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import regex

from fased.core.errors import InvalidArgument
from fased.core.names import ChannelId

DEFAULT_LIMIT_UNITS = 4000
LIMIT_UNITS_BY_CHANNEL = {
    ChannelId("telegram"): 4000,
    ChannelId("discord"): 2000,
    ChannelId("slack"): 8000,
}
# One code point outside the basic plane takes two units: less could not carry it.
MIN_LIMIT_UNITS = 2
# A better kind of break is passed over where it would leave the chunk emptier than this.
MIN_FILL = 0.25

_CLUSTER = regex.compile(r"\X")
# White space where a line may break, at a grapheme boundary on both sides (UAX 29), or a bracket.
_MARK = regex.compile(
    r"[()]|(?<!\p{GCB=Prepend})[^\S\u00a0\u2007\u202f]+"
    r"(?!\p{GCB=Extend}|\p{GCB=ZWJ}|\p{GCB=SpacingMark})"
)
_BLANK_LINES = regex.compile(r"(?:[^\S\n]*\n)+")
_PARAGRAPH_GAP = regex.compile(r"\n(?:[^\S\n]*\n)+")
# CommonMark 4.5: indented by three at most; what follows backticks holds no backtick.
_FENCE_LINE = regex.compile(
    r"^(?P<indent> {0,3})(?P<marker>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>[^\n]*)$", regex.MULTILINE
)
_SENTENCE_END = regex.compile(r"\p{Sentence_Terminal}|…")


class ChunkMode(StrEnum):
    """`length` fills each chunk; `newline` gives each paragraph a chunk of its own."""

    LENGTH = "length"
    NEWLINE = "newline"


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """What a channel or one of its accounts sets; None leaves the choice to the next level."""

    limit_units: int | None = None
    mode: ChunkMode | None = None


@dataclass(frozen=True, slots=True)
class Chunking:
    """The limit and mode that hold for one account."""

    limit_units: int
    mode: ChunkMode


class _Rank(IntEnum):
    """Kinds of break in prose, the better the larger."""

    BRACKETED = 1
    WORD = 2
    SENTENCE = 3
    LINE = 4
    PARAGRAPH = 5


@dataclass(frozen=True, slots=True)
class _Cut:
    """One chunk ends before `stop` with `suffix` added; the next begins at `resume`."""

    stop: int
    resume: int
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One chunk: `prefix`, the text from `start` to `stop`, `suffix`."""

    start: int
    stop: int
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class _Fence:
    """A fenced code block by its offsets; `end` is that of its last line, before the line break.

    Its own lines go before and after each part of a body that is cut.
    """

    start: int
    body_start: int
    body_end: int
    end: int
    opening: str = ""
    closing: str = ""


def resolve_chunking(
    channel: ChannelId,
    channel_settings: ChunkSettings | None = None,
    account_settings: ChunkSettings | None = None,
) -> Chunking:
    """The account's own settings, else the channel's, else the defaults of behaviour §7."""
    limit_units = LIMIT_UNITS_BY_CHANNEL.get(channel, DEFAULT_LIMIT_UNITS)
    mode = ChunkMode.LENGTH
    for settings in (channel_settings, account_settings):
        if settings is not None:
            limit_units = limit_units if settings.limit_units is None else settings.limit_units
            mode = settings.mode or mode
    return Chunking(_checked_limit(limit_units), mode)


def chunk_text(text: str, limit_units: int, mode: ChunkMode = ChunkMode.LENGTH) -> list[str]:
    """The messages that carry `text`, in order, each of at most `limit_units`, none blank.

    Cuts at the end of a paragraph, else of a line, a sentence, a word; a word longer than a chunk
    is cut between grapheme clusters, and only a cluster longer than a chunk between code points.
    A fence whose own lines take more than half a chunk is not reopened. A fence that the text
    leaves open is left open in the last chunk. Raises InvalidArgument for a limit below two.
    """
    _checked_limit(limit_units)
    pieces = _pieces(text, limit_units, mode, _fences(text, limit_units))
    chunks = (f"{piece.prefix}{text[piece.start : piece.stop]}{piece.suffix}" for piece in pieces)
    return [chunk for chunk in chunks if chunk.strip()]


def chunk_offsets(
    text: str, limit_units: int, mode: ChunkMode, code: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The same cuts as offsets, start and stop of each chunk, for text without fence lines.

    `code` holds where each code block begins and ends, in order: those are cut as fences are.
    """
    _checked_limit(limit_units)
    blocks = [_Fence(start, start, stop, stop) for start, stop in code]
    pieces = _pieces(text, limit_units, mode, blocks)
    return [(p.start, p.stop) for p in pieces if text[p.start : p.stop].strip()]


def length_units(text: str) -> int:
    """The length of `text` in UTF-16 code units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _checked_limit(limit_units: int) -> int:
    if limit_units < MIN_LIMIT_UNITS:
        raise InvalidArgument(
            f"a chunk limit of {limit_units} is too small: give at least {MIN_LIMIT_UNITS}",
            reason="INVALID_CHUNK_LIMIT",
            metadata={"field": "chunk_limit"},
        )
    return limit_units


def _pieces(text: str, limit_units: int, mode: ChunkMode, fences: list[_Fence]) -> Iterator[_Piece]:
    spans = _paragraphs(text, fences) if mode is ChunkMode.NEWLINE else [(0, len(text))]
    return (piece for span in spans for piece in _split(text, span, limit_units, fences))


def _split(
    text: str, span: tuple[int, int], limit_units: int, fences: list[_Fence]
) -> Iterator[_Piece]:
    start, last = span
    if length_units(text[start:last]) <= limit_units:
        yield _Piece(start, last)
        return
    while start < last:
        fence = _fence_at(fences, start)
        prefix = ""
        if fence is None:
            start = _after_blank_lines(text, start, last)
        elif start >= fence.body_start:
            prefix = fence.opening
        room_units = limit_units - length_units(prefix)
        end = _reach(text, start, last, room_units)
        cut = _Cut(last, last) if end == last else _cut(text, start, end, room_units, fences)
        yield _Piece(start, cut.stop, prefix, cut.suffix)
        start = cut.resume


def _after_blank_lines(text: str, start: int, last: int) -> int:
    blank = _BLANK_LINES.match(text, start, last)
    return blank.end() if blank else start


def _cut(text: str, start: int, end: int, room_units: int, fences: list[_Fence]) -> _Cut:
    """Where to end the chunk that begins at `start` and would be full at `end`."""
    fence = _fence_at(fences, end)
    if fence is not None and fence.start <= start:
        return _fence_cut(text, start, room_units, fence)
    floor = start + int((end - start) * MIN_FILL)
    breaks = list(_prose_breaks(text, start, end, fences))
    if not breaks:
        stop = _last_cluster_end(text, start, end)
        return _Cut(stop, stop)
    return max(breaks, key=lambda b: (b[0] if b[1].stop >= floor else 0, b[1].stop))[1]


def _fence_cut(text: str, start: int, room_units: int, fence: _Fence) -> _Cut:
    suffix = fence.closing
    end = _reach(text, start, fence.body_end, room_units - length_units(suffix))
    if end == fence.body_end:
        return _Cut(end, fence.end, suffix)
    body_start = max(start, fence.body_start)
    line_end = text.rfind("\n", body_start, end + 1)
    if line_end < 0 or not text[body_start:line_end].strip():
        stop = _last_cluster_end(text, start, end)
        return _Cut(stop, stop, suffix)
    resume = line_end + 1
    if not text[resume : fence.body_end].strip():
        resume = fence.end
    return _Cut(line_end, resume, suffix)


def _prose_breaks(
    text: str, start: int, end: int, fences: list[_Fence]
) -> Iterator[tuple[_Rank, _Cut]]:
    """The places where a chunk may end after `start` and not after `end`.

    None is inside a fence, so that a fence that fits only in part begins the next chunk.
    """
    depth = 0
    # The bound keeps a long text without breaks from being read to its end for every chunk.
    for mark in _MARK.finditer(text, start, 2 * end - start + 1):
        if mark.start() > end:
            return
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth = max(0, depth - 1)
        elif mark.start() > start and _fence_at(fences, mark.start()) is None:
            yield _rank(text, mark, depth), _Cut(mark.start(), _resume(mark))


def _rank(text: str, blank: regex.Match[str], depth: int) -> _Rank:
    line_breaks = blank[0].count("\n")
    if line_breaks:
        return _Rank.LINE if line_breaks == 1 else _Rank.PARAGRAPH
    if depth:
        return _Rank.BRACKETED
    ends_sentence = _SENTENCE_END.match(text, blank.start() - 1)
    return _Rank.SENTENCE if ends_sentence else _Rank.WORD


def _resume(blank: regex.Match[str]) -> int:
    # A line keeps its indentation, which means something in lists and code.
    return blank.start() + blank[0].rfind("\n") + 1 if "\n" in blank[0] else blank.end()


def _reach(text: str, start: int, last: int, room_units: int) -> int:
    """The furthest offset up to `last` that `room_units` from `start` go, past one character."""
    end = min(last, start + room_units)
    spare = room_units - length_units(text[start:end])
    while spare < 0 and end > start + 1:
        end -= 1
        spare += length_units(text[end])
    return end


def _last_cluster_end(text: str, start: int, end: int) -> int:
    """The last grapheme boundary after `start` and not after `end`; `end` where there is none."""
    boundary: int = start
    # One character more, so that a cluster that goes on past `end` is seen to.
    for cluster in _CLUSTER.finditer(text, start, end + 1):
        if cluster.end() > end:
            break
        boundary = cluster.end()
    return boundary if boundary > start else end


def _paragraphs(text: str, fences: list[_Fence]) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in _PARAGRAPH_GAP.finditer(text):
        if _fence_at(fences, gap.start()) is None:
            yield start, gap.start()
            start = gap.end()
    yield start, len(text)


def _fences(text: str, limit_units: int) -> list[_Fence]:
    """The fenced blocks that a chunk of `limit_units` can carry, in order."""
    fences = []
    opened: regex.Match[str] | None = None
    for line in _FENCE_LINE.finditer(text):
        if opened is None:
            opened = line
        elif line["marker"].startswith(opened["marker"]) and not line["info"].strip():
            fences.append(_fence(text, opened, line.start(), line.end()))
            opened = None
    if opened is not None:
        fences.append(_fence(text, opened, len(text) + 1, len(text)))
    return [fence for fence in fences if 2 * _overhead_units(text, fence) <= limit_units]


def _overhead_units(text: str, fence: _Fence) -> int:
    return length_units(text[fence.start : fence.body_start]) + length_units(fence.closing)


def _fence(text: str, opened: regex.Match[str], closing_start: int, end: int) -> _Fence:
    body_start = min(opened.end() + 1, len(text))
    return _Fence(
        start=opened.start(),
        body_start=body_start,
        body_end=max(body_start, closing_start - 1),
        end=end,
        opening=f"{opened[0].rstrip()}\n",
        closing=f"\n{opened['indent']}{opened['marker']}",
    )


def _fence_at(fences: list[_Fence], position: int) -> _Fence | None:
    index = bisect_right(fences, position, key=lambda fence: fence.start) - 1
    return fences[index] if index >= 0 and position < fences[index].end else None
