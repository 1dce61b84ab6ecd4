"""The options of `fased task add`: how a task is written on a command line.

Decides spelling; a bad value ends with exit code 2. Which schedules and models there are is decided
by the services.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cli.options import duration, text_or_file
from fased.core.tasks import MissedPolicy, Overlap, TriggerKind, TriggerSpec


class Mode(StrEnum):
    """How a task's runs are carried out, as far as this version does."""

    NO_MODEL = "no-model"
    AGENT_TURN = "agent-turn"


class Delivery(StrEnum):
    """Where a task's results go."""

    ANNOUNCE = "announce"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Missed:
    """What becomes of missed slots; `limit` is of ALL, `within` of WITHIN."""

    policy: MissedPolicy = MissedPolicy.ONCE
    limit: int = 0
    within: timedelta = timedelta(0)


def missed(text: str) -> Missed:
    """`skip`, `once`, `all:20` or `within:2h`; raises BadParameter for anything else."""
    word, _, detail = text.partition(":")
    if text in (MissedPolicy.SKIP, MissedPolicy.ONCE):
        return Missed(MissedPolicy(word))
    if word == MissedPolicy.ALL and detail.isascii() and detail.isdigit():
        return Missed(MissedPolicy.ALL, limit=int(detail[:9]))
    if word == MissedPolicy.WITHIN:
        return Missed(MissedPolicy.WITHIN, within=duration(detail))
    raise typer.BadParameter("write skip, once, all:COUNT or within:DURATION")


def trigger_of(every: str, cron: str, at: str, manual: bool, tz: str) -> TriggerSpec:
    """The one trigger that was given; raises BadParameter for none, several, or a stray zone."""
    exprs = {TriggerKind.EVERY: every, TriggerKind.CRON: cron, TriggerKind.AT: at}
    given = [TriggerSpec(kind, expr, tz) for kind, expr in exprs.items() if expr]
    if manual:
        given.append(TriggerSpec(TriggerKind.MANUAL, "", tz))
    if len(given) != 1:
        raise typer.BadParameter("give one of --every, --cron, --at and --manual")
    if tz and given[0].kind not in (TriggerKind.CRON, TriggerKind.AT):
        raise typer.BadParameter("--tz goes with --cron and --at")
    return given[0]


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")]
PromptOption = Annotated[
    str,
    typer.Option(
        "--prompt",
        metavar="TEXT|@FILE",
        parser=text_or_file,
        help="What to do; @- reads standard input.",
    ),
]
EveryOption = Annotated[str, typer.Option("--every", metavar="DURATION", help="As in 5s, 1h30m.")]
CronOption = Annotated[str, typer.Option("--cron", metavar="EXPR", help="Five or six fields.")]
AtOption = Annotated[str, typer.Option("--at", metavar="TIME", help="Once, at an ISO time.")]
ManualOption = Annotated[bool, typer.Option("--manual", help="Only when asked for.")]
ZoneOption = Annotated[
    str, typer.Option("--tz", metavar="ZONE", help="Of --cron and --at; UTC unless given.")
]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="no-model delivers the prompt as written.")
]
AgentOption = Annotated[
    str, typer.Option("--agent", help="Its Agent; the default one unless given.")
]
SessionOption = Annotated[
    str, typer.Option("--session", metavar="KEY", help="The Agent's main one unless given.")
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="PROVIDER/MODEL", help="The Agent's unless given.")
]
DeliveryOption = Annotated[
    Delivery, typer.Option("--delivery", help="announce: into the session's WebChat.")
]
OverlapOption = Annotated[
    Overlap, typer.Option("--overlap", help="What a slot does while a run lives.")
]
MissedOption = Annotated[
    Missed | None,
    typer.Option(
        "--missed",
        metavar="skip|once|all:COUNT|within:DURATION",
        parser=missed,
        help="What becomes of slots that nobody could fire; once unless given.",
    ),
]
TimeoutOption = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout", metavar="DURATION", parser=duration, help="Of a run; 10m unless given."
    ),
]
