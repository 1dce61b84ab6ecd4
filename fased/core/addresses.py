"""Addresses of HTTP servers, as people write them. Decides what is one; asks nobody."""

from urllib.parse import urlsplit

MAX_ADDRESS_CHARS = 500


def why_no_address(text: str) -> str:
    """Why a text is no address of a server, as half a sentence; `""` when it is one.

    It is not repeated: who mistakes a field may have written a password there.
    """
    try:
        parts = urlsplit(text)
        is_plain = parts.port != 0 and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        is_plain = False
    if not is_plain or parts.scheme not in ("http", "https") or len(text) > MAX_ADDRESS_CHARS:
        return "an address is http(s)://HOST[:PORT][/PATH]"
    if parts.username is not None or parts.password is not None:
        return "an address holds no user and no password"
    return ""
