"""Many questions from a file of JSON lines, answered a line for a line.

Decides what becomes of a line that is no question; its answer is the caller's.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping

import typer

from cli import failures, jsonfile
from cli.options import STDIN
from fased.core.errors import FasedError, InvalidArgument

Answer = Callable[[Mapping[str, object]], Mapping[str, object]]


def answer_lines(path: str, answer: Answer) -> None:
    """Print the answer to each line as one line of JSON, in order.

    A line that is no object, or that `answer` raises FasedError for, is answered with
    `{"error": {"reason", "message", "metadata", "line"}}`, and the exit code is 1 in the end.
    """
    is_whole = True
    for number, line in enumerate(_lines(path), 1):
        try:
            print(json.dumps(answer(_question(line, number))))
        except FasedError as error:
            is_whole = False
            print(json.dumps({"error": {**failures.error_fields(error), "line": number}}))
    if not is_whole:
        raise typer.Exit(failures.EXIT_REFUSED)


def _question(line: bytes, number: int) -> Mapping[str, object]:
    where = f"line {number}"
    try:
        value = jsonfile.parse(line.decode("utf-8-sig" if number == 1 else "utf-8"), where)
    except UnicodeDecodeError as exc:
        raise InvalidArgument(
            f"{where} is not UTF-8 text", reason="INVALID_JSON", metadata={"field": where}
        ) from exc
    if not isinstance(value, Mapping):
        raise InvalidArgument(
            f"{where} is not a JSON object", reason="INVALID_JSON", metadata={"field": where}
        )
    return value


def _lines(path: str) -> Iterator[bytes]:
    """The file's lines as bytes: one that is not UTF-8 is broken, and not those after it."""
    if path == STDIN:
        yield from sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            yield from file
    except OSError as exc:
        raise typer.BadParameter(f"cannot read {path}: {exc.strerror or exc}") from exc
