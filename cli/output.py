"""Answers as table, JSON or YAML. Decides layout and what of foreign text a terminal gets to see;
not what is answered.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from cli.options import Format

# A pipe has no width: nothing is cut or folded there.
PIPE_COLUMNS = 100_000


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their columns; without columns the first cell of a row names the second.

    `empty` is said instead when there are no rows.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    empty: str = ""


def show(output: Format, value: object, *blocks: Table | str) -> None:
    """Print `value` (plain dicts, lists, texts, numbers) as JSON or YAML, or else the blocks."""
    match output:
        case Format.JSON:
            print(json.dumps(value, indent=2))
        case Format.YAML:
            import yaml

            print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")
        case Format.TABLE:
            for block in blocks:
                _print_block(block)
        case _:
            assert_never(output)


def clean(text: str) -> str:
    """The text without the control characters that could command a terminal."""
    return "".join(
        char if char in "\n\t" or not _is_control(char) else "\N{REPLACEMENT CHARACTER}"
        for char in text.replace("\r\n", "\n")
    )


def terminal_text(markdown: str) -> str:
    """Text that chats show as Markdown, without the asterisks of its bold first line."""
    first, line_end, rest = markdown.partition("\n")
    return first.replace("**", "") + line_end + rest


def note(text: str) -> None:
    """Say something beside the answer, on standard error."""
    print(clean(text), file=sys.stderr)


def _is_control(char: str) -> bool:
    return ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0


def _print_block(block: Table | str) -> None:
    if isinstance(block, str):
        print(clean(block))
    elif not block.rows:
        if block.empty:
            print(block.empty)
    else:
        _print_table(block)


def _print_table(block: Table) -> None:
    # Rich takes longer to import than a command without a table takes to answer.
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    is_wide = not console.is_terminal
    if is_wide:
        console.width = PIPE_COLUMNS
    table = RichTable(
        box=None,
        show_header=bool(block.columns),
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for at in range(max(len(row) for row in block.rows)):
        header = block.columns[at] if block.columns else ""
        table.add_column(header, overflow="fold", no_wrap=is_wide)
    for row in block.rows:
        table.add_row(*(Text(clean(_cell(text, block))) for text in row))
    console.print(table)


def _cell(text: str, block: Table) -> str:
    return " ".join(text.split()) if block.columns else text
