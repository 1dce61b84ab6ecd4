"""`fased route`: where a message would go by a configuration file, and why. Needs no gateway.

Decides how files are read and answers shown; the answer is `core/route_explain.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli import batch, jsonfile
from cli.options import Format, Output
from cli.output import Table, show
from fased.core import configuration, route_explain, route_json
from fased.core.errors import InvalidArgument

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Try routing on files."""


@app.command()
def explain(
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="The configuration, JSON5; - for stdin.")
    ] = None,
    message: Annotated[
        str | None, typer.Option(metavar="FILE", help="The message, JSON5; - for stdin.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option("--batch", metavar="FILE", help="Many questions, a JSON object a line."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Say which Agent and session a message goes to, and why no other.

    \b
    The message: {channel, accountId, peer: {kind, id}, parentPeer, guildId,
    memberRoleIds, teamId}. A line of --batch: {"config": {…}, "input": {…}}.

    \b
    Examples:
      fased route explain --config ~/.fased/fased.json --message message.json
      fased route explain --batch questions.jsonl > answers.jsonl
    """
    if rows is not None and config is None and message is None:
        batch.answer_lines(rows, _answer_row)
    elif rows is None and config is not None and message is not None:
        answer = _answer(jsonfile.read_json5(config), jsonfile.read_json5(message))
        show(output, answer, *_blocks(answer))
    else:
        raise typer.BadParameter("give --config and --message, or --batch alone")


def _answer_row(row: Mapping[str, object]) -> dict[str, object]:
    if "input" not in row:
        raise InvalidArgument(
            "input is needed: the message", reason="INPUT_MISSING", metadata={"field": "input"}
        )
    return _answer(row.get("config"), row["input"])


def _answer(config: object, message: object) -> dict[str, Any]:
    parsed = configuration.parse_configuration(config)
    explanation = route_explain.explain_route(
        configuration.routing_table(parsed),
        route_json.parse_route_input(message),
        accounts=parsed.accounts,
    )
    answer = route_json.explanation_json(explanation)
    warnings = [route_json.finding_json(finding) for finding in parsed.warnings]
    return {**answer, "warnings": warnings}


def _blocks(answer: Mapping[str, Any]) -> list[Table | str]:
    facts = Table(
        (),
        [
            ("Agent", answer["agentId"]),
            ("session", answer["sessionKey"]),
            ("matched by", answer["matchedBy"]),
            ("binding", answer["binding"] or "none"),
            ("because", answer["message"]),
        ],
    )
    losers = Table(
        ("BINDING", "AGENT", "TIER", "FAILED", "WHY NOT"),
        [
            (each["binding"], each["agentId"], each["tier"] or "-", each["failed"], each["message"])
            for each in answer["candidates"]
        ],
    )
    findings = [*answer["findings"], *answer["lint"], *answer["warnings"]]
    notes = Table(
        ("REASON", "WHERE", "WHAT"),
        [(each["reason"], each["setupTarget"], each["message"]) for each in findings],
    )
    blocks: list[Table | str] = [facts]
    for title, table in (("Other bindings:", losers), ("Findings:", notes)):
        if table.rows:
            blocks += ["", title, table]
    return blocks
