"""What commands take alike: the namespace, the output format, durations, text from files.

Decides how they are spelled and that a bad value ends with exit code 2; not what they are for.
"""

import sys
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fased.core import durations
from fased.core.errors import InvalidArgument
from fased.core.names import DEFAULT_NAMESPACE, parse_namespace

STDIN = "-"


class Format(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(slots=True)
class Invocation:
    """What is known of the command under way by whoever reports how it ended."""

    format: Format = Format.TABLE


def _remembered(ctx: typer.Context, chosen: Format) -> Format:
    if isinstance(ctx.obj, Invocation):
        ctx.obj.format = chosen
    return chosen


def checked_namespace(text: str) -> str:
    """A namespace; raises BadParameter unless it is a DNS label."""
    try:
        return parse_namespace(text or DEFAULT_NAMESPACE)
    except InvalidArgument as refused:
        raise typer.BadParameter(refused.message) from refused


def duration(text: str) -> timedelta:
    """A duration as in 90s, 10m, 30d; raises BadParameter for anything else."""
    try:
        return durations.parse_duration(text)
    except InvalidArgument as refused:
        raise typer.BadParameter(refused.message) from refused


def text_or_file(text: str) -> str:
    """The text itself, or the content of the file in `@file`; `@-` reads standard input."""
    if not text.startswith("@"):
        return text
    return read_text(text[1:])


def read_text(path: str) -> str:
    """A file's text, of standard input for `-`; raises BadParameter when it cannot be read."""
    try:
        if path == STDIN:
            return sys.stdin.read()
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise typer.BadParameter(f"cannot read {path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise typer.BadParameter(f"{path} is not UTF-8 text") from exc


Output = Annotated[
    Format,
    typer.Option("--output", "-o", callback=_remembered, help="How to answer; json is stable."),
]
NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        envvar="FASED_NAMESPACE",
        parser=checked_namespace,
        help="The namespace to act in.",
    ),
]
