"""JSON from people's files. Decides what can be read, and says where it cannot."""

import json

from cli.options import read_text
from fased.core.errors import InvalidArgument


def read_json5(path: str) -> object:
    """The value in a JSON5 file, or standard input for `-`.

    Raises InvalidArgument INVALID_JSON naming the file, BadParameter when it cannot be read.
    """
    text = read_text(path)
    try:
        return parse(text, path)
    except InvalidArgument:
        # JSON is JSON5, and its own parser a hundred times as fast.
        import json5

        try:
            return json5.loads(text)
        except (ValueError, RecursionError) as exc:
            raise _invalid(path, exc) from exc


def parse(text: str, where: str) -> object:
    """The value in a JSON text; raises InvalidArgument INVALID_JSON naming `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _invalid(where, exc) from exc


def _invalid(where: str, exc: Exception) -> InvalidArgument:
    why = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
    return InvalidArgument(
        f"{where} is not JSON: {why.replace('<string>:', 'line ')}",
        reason="INVALID_JSON",
        metadata={"field": where},
    )
