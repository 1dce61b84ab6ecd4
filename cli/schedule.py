"""`fased schedule`: when a schedule would fire. Needs no gateway.

Decides how a schedule is given and shown; the slots are `core/schedule_text.py`.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from cli import batch
from cli.options import Format, Output
from cli.output import Table, show
from fased.core import durations, schedule, schedule_text, task_text

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Kind(StrEnum):
    """What a schedule is made of."""

    CRON = "cron"
    EVERY = "every"
    AT = "at"


@app.callback()
def group() -> None:
    """Try schedules."""


@app.command()
def preview(
    kind: Annotated[Kind | None, typer.Option(help="What --expr is.")] = None,
    expr: Annotated[
        str | None, typer.Option(help="A cron expression, a duration as in 90m, or an ISO time.")
    ] = None,
    tz: Annotated[str, typer.Option(help="IANA zone; UTC unless given.")] = "",
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="ISO time; now unless given.")
    ] = "",
    count: Annotated[
        int, typer.Option(min=0, max=schedule_text.MAX_PREVIEW_COUNT, help="How many slots.")
    ] = 5,
    rows: Annotated[
        str | None,
        typer.Option("--batch", metavar="FILE", help="Many questions, a JSON object a line."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """List the next slots of a schedule.

    \b
    A line of --batch: {"schedule": {"kind": "cron", "expr", "tz"}, "fromMs": n, "count": k},
    or {"kind": "every", "everyMs", "anchorMs"}, or {"kind": "at", "at"}.

    \b
    Examples:
      fased schedule preview --kind cron --expr "0 9 * * mon-fri" --tz Europe/Berlin
      fased schedule preview --kind every --expr 90m --from 2026-01-31T09:00Z --count 3
      fased schedule preview --batch questions.jsonl > answers.jsonl
    """
    if rows is not None and kind is None and expr is None:
        batch.answer_lines(rows, schedule_text.preview)
    elif rows is None and kind is not None and expr is not None:
        slots = _slots(kind, expr, tz, start, count)
        answer = {"next": [durations.milliseconds_of(slot) for slot in slots]}
        show(output, answer, _table(slots, tz))
    else:
        raise typer.BadParameter("give --kind and --expr, or --batch alone")


def _slots(kind: Kind, expr: str, tz: str, start: str, count: int) -> list[datetime]:
    start_at = durations.parse_instant(start, field="from") if start else datetime.now(UTC)
    parsed = schedule_text.from_json(_form(kind, expr, tz), start_at)
    schedule.check_new(parsed, start_at)
    return list(schedule.next_fires(parsed, start_at, count))


def _form(kind: Kind, expr: str, tz: str) -> dict[str, object]:
    match kind:
        case Kind.EVERY:
            interval = durations.parse_duration(expr, field="expr")
            return {"kind": kind, "everyMs": interval // durations.MILLISECOND}
        case Kind.AT:
            return {"kind": kind, "at": expr, "tz": tz}
        case Kind.CRON:
            return {"kind": kind, "expr": expr, "tz": tz}


def _table(slots: list[datetime], tz: str) -> Table:
    return Table(
        ("UTC", "LOCAL") if tz else ("UTC",),
        [
            (durations.format_instant(slot), *((task_text.instant(slot, tz),) if tz else ()))
            for slot in slots
        ],
        empty="No slot after that time.",
    )
