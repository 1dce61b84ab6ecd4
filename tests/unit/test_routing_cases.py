"""The recorded routing rows (`tests/cases/routing.json`), through the parser and the resolver.

Every row of the file applies. None is left out: each has a configuration in the seeds' shape and a
message, and the rows about leniency (a null binding 059, a binding without match 058, `mainKey`
102, an unknown `dmScope` 103, numbers as ids 066) are leniency the product keeps.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fased.core import configuration, route_explain, route_json, routing

ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "routing.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_recorded_message_goes_where_the_row_says(row: dict[str, Any]) -> None:
    parsed = configuration.parse_configuration(row["config"])
    table = configuration.routing_table(parsed)
    message = route_json.parse_route_input(row["input"])

    decision = routing.resolve_route(table, message)

    assert {
        "agentId": decision.agent_id,
        "accountId": decision.account_id,
        "channel": decision.channel,
        "sessionKey": decision.session_key,
        "mainSessionKey": decision.main_session_key,
        "matchedBy": decision.matched_by,
    } == row["expect"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_an_explanation_in_json_agrees_with_the_row_and_counts_every_binding(
    row: dict[str, Any],
) -> None:
    parsed = configuration.parse_configuration(row["config"])
    table = configuration.routing_table(parsed)
    message = route_json.parse_route_input(row["input"])

    answer = route_json.explanation_json(route_explain.explain_route(table, message))
    answer = json.loads(json.dumps(answer))

    assert {key: answer[key] for key in row["expect"]} == row["expect"]
    named = [candidate["binding"] for candidate in answer["candidates"]]
    winner = [answer["binding"]] if answer["binding"] else []
    assert sorted(named + winner) == sorted(table.bindings)
