"""`fased schedule`: when a schedule would fire. Needs no gateway.

Decides how a schedule is given and shown; the slots are `core/schedule_text.py`.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, cast

import typer

from cli import batch
from cli.options import Format, Output
from cli.output import Table, show
from fased.core import durations, schedule_text, task_text
from fased.core.errors import InvalidArgument

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
        answer = _answer(kind, expr, tz, start, count)
        show(output, answer, _table(answer["next"], tz))
    else:
        raise typer.BadParameter("give --kind and --expr, or --batch alone")


def _answer(kind: Kind, expr: str, tz: str, start: str, count: int) -> dict[str, list[int]]:
    start_at = durations.parse_instant(start, field="from") if start else datetime.now(UTC)
    row = {
        "schedule": _form(kind, expr, tz),
        "fromMs": durations.milliseconds_of(start_at),
        "count": count,
    }
    answer = schedule_text.preview(row)
    if refused := answer.get("error"):
        error = cast(dict[str, str], refused)
        raise InvalidArgument(error["message"], reason=error["reason"])
    return cast(dict[str, list[int]], answer)


def _form(kind: Kind, expr: str, tz: str) -> dict[str, object]:
    match kind:
        case Kind.EVERY:
            interval = durations.parse_duration(expr, field="expr")
            return {"kind": kind, "everyMs": interval // durations.MILLISECOND}
        case Kind.AT:
            return {"kind": kind, "at": expr, "tz": tz}
        case Kind.CRON:
            return {"kind": kind, "expr": expr, "tz": tz}


def _table(slots_ms: list[int], tz: str) -> Table:
    slots = [durations.instant_from_ms(slot) for slot in slots_ms]
    local = [(task_text.instant(slot, tz),) if tz else () for slot in slots]
    return Table(
        ("UTC", *(("LOCAL",) if tz else ())),
        [(durations.format_instant(slot), *there) for slot, there in zip(slots, local, strict=True)],
        empty="No slot after that time.",
    )
