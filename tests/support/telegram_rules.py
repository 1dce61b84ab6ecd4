"""Telegram's rules for the texts of messages, as strict as its own server is.

Decides what HTML it takes, what it shows, and what it refuses, in the server's own words. They
follow the parser of its open source (tdlib, `parse_html`), with byte offsets in what it says.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from fased.core.chunking import length_units

MAX_MESSAGE_UNITS = 4096

Entity = dict[str, Any]

_TYPES = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "u": "underline",
    "ins": "underline",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
}
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_REFERENCE = re.compile(r"&(?:#x(?P<hex>[0-9a-fA-F]+)|#(?P<dec>[0-9]+)|(?P<name>[A-Za-z]+));?")
_SPACES = " \t\r\n\v\0"
_NAME_TOKEN = re.compile(r"[A-Za-z0-9.-]*")
_LINK = re.compile(r"(https?|ftp|tg|ton)://[^\s/]", re.IGNORECASE)
_DETECTED = re.compile(
    r"(?<![\w/@])(?:(?P<mention>@[A-Za-z]\w{2,31})"
    r"|(?P<bot_command>/[A-Za-z0-9_]{1,64}(?:@[A-Za-z]\w{2,31})?))(?!\w)"
)


class Refusal(Exception):
    """What the server answers instead of a result."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


@dataclass(slots=True)
class _Opened:
    name: str
    start_units: int
    argument: str = ""


@dataclass(slots=True)
class _Shown:
    """What is shown so far."""

    parts: list[str] = field(default_factory=list)
    units: int = 0
    entities: list[Entity] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.units += length_units(text)


def checked_text(source: str, parse_mode: str) -> tuple[str, list[Entity]]:
    """What a message of `source` shows, and its entities; raises Refusal as the server does."""
    entities: list[Entity] = []
    shown = source
    if parse_mode.lower() == "html":
        shown, entities = parse_html(source)
    elif parse_mode:
        raise Refusal(400, "Bad Request: unsupported parse_mode")
    start = length_units(shown) - length_units(shown.lstrip())
    shown = shown.strip()
    if not shown:
        raise Refusal(400, "Bad Request: message text is empty")
    if length_units(shown) > MAX_MESSAGE_UNITS:
        raise Refusal(400, "Bad Request: message is too long")
    return shown, _clipped(entities, start, length_units(shown))


def detected_entities(text: str) -> list[Entity]:
    """The mentions and commands that Telegram finds in what a person writes."""
    return [
        {
            "type": str(found.lastgroup),
            "offset": length_units(text[: found.start()]),
            "length": length_units(found[0]),
        }
        for found in _DETECTED.finditer(text)
    ]


def parse_html(source: str) -> tuple[str, list[Entity]]:
    """The text and entities of HTML; raises Refusal for what Telegram cannot parse."""
    # The server's strings end in a zero, and its loops stop there.
    text = source.replace("\0", "") + "\0"
    shown = _Shown()
    opened: list[_Opened] = []
    at = 0
    while at < len(text) - 1:
        if text[at] == "&" and (reference := _reference(text, at)):
            shown.add(reference[0])
            at = reference[1]
        elif text[at] != "<":
            shown.add(text[at])
            at += 1
        elif text[at + 1] == "/":
            at = _end_tag(text, at, opened, shown)
        else:
            tag, at = _start_tag(text, at, shown.units)
            opened.append(tag)
    if opened:
        raise _unparsable(f"Can't find end tag corresponding to start tag {opened[-1].name}")
    for entity in shown.entities:
        if entity["type"] == "code":
            entity.pop("language", None)
    entities = sorted(shown.entities, key=lambda entity: (entity["offset"], -entity["length"]))
    return "".join(shown.parts), entities


def _reference(text: str, at: int) -> tuple[str, int] | None:
    found = _REFERENCE.match(text, at)
    if found is None:
        return None
    if found["name"]:
        named = _NAMED.get(found["name"])
        return (named, found.end()) if named else None
    code = int(found["hex"], 16) if found["hex"] else int(found["dec"])
    if code == 0 or code >= 0x10FFFF or found.end() - at > 10:
        return None
    if 0xD800 <= code <= 0xDFFF:
        raise _unparsable("Text contains invalid Unicode characters after decoding HTML entities")
    return chr(code), found.end()


def _start_tag(text: str, begin: int, units: int) -> tuple[_Opened, int]:
    at = begin + 1
    while text[at] not in _SPACES and text[at] != ">":
        at += 1
    place = _byte_offset(text, begin)
    if text[at] == "\0":
        raise _unparsable(f"Unclosed start tag at byte offset {place}")
    name = text[begin + 1 : at].lower()
    if name not in _TYPES:
        raise _unparsable(f'Unsupported start tag "{name}" at byte offset {place}')
    tag = _Opened(name, units)
    while text[at] != ">":
        at = _attribute(text, at, tag, place)
    if name == "span" and tag.argument != "tg-spoiler":
        raise _unparsable(f'Tag "span" must have class "tg-spoiler" at byte offset {place}')
    return tag, at + 1


def _attribute(text: str, at: int, tag: _Opened, place: int) -> int:
    at = _after_spaces(text, at)
    if text[at] == ">":
        return at
    begin = at
    while text[at] not in _SPACES and text[at] not in "=>":
        at += 1
    name = text[begin:at]
    if not name:
        raise _unparsable(f'Empty attribute name in the tag "{tag.name}" at byte offset {place}')
    at = _after_spaces(text, at)
    if text[at] != "=":
        if tag.name == "blockquote" and name == "expandable":
            return at
        raise _unparsable(
            "Expected equal sign in declaration of an attribute of the tag "
            f'"{tag.name}" at byte offset {place}'
        )
    value, at = _value(text, _after_spaces(text, at + 1), tag.name, place)
    if (tag.name, name) in (("a", "href"), ("span", "class")):
        tag.argument = value
    elif (tag.name, name) == ("code", "class") and value.startswith("language-"):
        tag.argument = value.removeprefix("language-")
    return at


def _value(text: str, at: int, tag_name: str, place: int) -> tuple[str, int]:
    if text[at] == "\0":
        raise _unparsable(f'Unclosed start tag "{tag_name}" at byte offset {place}')
    if text[at] not in "'\"":
        token = _NAME_TOKEN.match(text, at)
        end = token.end() if token else at
        if text[end] not in _SPACES and text[end] != ">":
            raise _unparsable(f"Unexpected end of name token at byte offset {at}")
        return text[at:end].lower(), end
    quote = text[at]
    end = text.find(quote, at + 1)
    if end < 0:
        raise _unparsable(f"Unclosed start tag at byte offset {place}")
    value = _REFERENCE.sub(lambda found: _decoded(found[0]), text[at + 1 : end])
    return value, end + 1


def _decoded(reference: str) -> str:
    decoded = _reference(reference, 0)
    return decoded[0] if decoded else reference


def _end_tag(text: str, begin: int, opened: list[_Opened], shown: _Shown) -> int:
    place = _byte_offset(text, begin)
    if not opened:
        raise _unparsable(f"Unexpected end tag at byte offset {place}")
    at = begin + 2
    while text[at] not in _SPACES and text[at] != ">":
        at += 1
    name = text[begin + 2 : at].lower()
    while text[at] in _SPACES and text[at] != "\0":
        at += 1
    if text[at] != ">":
        raise _unparsable(f"Unclosed end tag at byte offset {place}")
    tag = opened.pop()
    if name and name != tag.name:
        raise _unparsable(
            f'Unmatched end tag at byte offset {place}, expected "</{tag.name}>", found "</{name}>"'
        )
    if shown.units > tag.start_units:
        _add_entity(tag, shown)
    return at + 1


def _add_entity(tag: _Opened, shown: _Shown) -> None:
    entity: Entity = {
        "type": _TYPES[tag.name],
        "offset": tag.start_units,
        "length": shown.units - tag.start_units,
    }
    if tag.name == "a":
        # An address that is none takes its link away, in silence.
        if _LINK.match(tag.argument):
            shown.entities.append(entity | {"url": tag.argument})
    elif tag.name == "pre" and _is_code_of(shown.entities[-1:], entity):
        shown.entities[-1]["type"] = "pre"
    elif tag.name == "code" and tag.argument:
        shown.entities.append(entity | {"language": tag.argument})
    else:
        shown.entities.append(entity)


def _is_code_of(last: list[Entity], pre: Entity) -> bool:
    return bool(last) and last[0] == pre | {"type": "code", "language": last[0].get("language")}


def _clipped(entities: list[Entity], start: int, length: int) -> list[Entity]:
    clipped = []
    for entity in entities:
        begin = max(entity["offset"] - start, 0)
        end = min(entity["offset"] + entity["length"] - start, length)
        if begin < end:
            clipped.append(entity | {"offset": begin, "length": end - begin})
    return clipped


def _after_spaces(text: str, at: int) -> int:
    while text[at] in _SPACES and text[at] != "\0":
        at += 1
    return at


def _byte_offset(text: str, at: int) -> int:
    return len(text[:at].encode())


def _unparsable(what: str) -> Refusal:
    return Refusal(400, f"Bad Request: can't parse entities: {what}")
