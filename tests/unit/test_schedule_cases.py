"""The recorded schedule rows of `tests/cases/cron.json`, and which of them do not bind us."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fased.core import durations, schedule, schedule_text
from fased.core.errors import InvalidArgument
from fased.core.schedule import Cron

ROWS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "cron.json").read_text()
)
SCHEDULE_ROWS = {
    row["id"]: row
    for row in ROWS
    if row["function"] in ("computeNextRunAtMs", "computePreviousRunAtMs", "computeJobNextRunAtMs")
}
# The reference staggers by default at the top of the hour, ours is exact unless a window is
# declared; and a declared window's offset comes from its own hash of the id, ours from another.
STAGGERED = {"cron-168", "cron-169", "cron-170", "cron-171", "cron-173"}
# The reference answers an interval that is no number with "never"; ours refuses it.
REFUSED_HERE = {"cron-008"}
LEFT_OUT = {
    **dict.fromkeys(STAGGERED, "another default and another hash for the stagger"),
    **dict.fromkeys(REFUSED_HERE, "refused, not silently never"),
    "cron-181": "the reference counts from the last run, ours keeps the anchored grid",
}


def instant(milliseconds: int) -> datetime:
    return durations.instant_from_ms(milliseconds)


def test_the_rows_about_schedules_are_all_here_and_those_left_out_among_them() -> None:
    assert len(SCHEDULE_ROWS) == 27
    assert set(LEFT_OUT) <= set(SCHEDULE_ROWS)


@pytest.mark.parametrize("row_id", sorted(SCHEDULE_ROWS.keys() - LEFT_OUT.keys()))
def test_a_recorded_slot_is_ours_too(row_id: str) -> None:
    row = SCHEDULE_ROWS[row_id]
    form, now_ms = row["args"]
    form = form.get("schedule", form)
    if row["function"] == "computePreviousRunAtMs":
        planned = schedule_text.parse(form, instant(now_ms))
        found = schedule.previous_fire(planned, instant(now_ms))
        assert found is not None
        assert durations.milliseconds_of(found) == row["expect"]
        return
    answer = schedule_text.preview({"schedule": form, "fromMs": now_ms, "count": 1})
    if "error" in row:
        error = answer["error"]
        assert isinstance(error, dict)
        assert error["reason"] == "INVALID_CRON"
    else:
        assert answer == {"next": [row["expect"]]}


@pytest.mark.parametrize("row_id", sorted(STAGGERED))
def test_a_row_with_the_references_stagger_lies_in_the_window_after_our_exact_slot(
    row_id: str,
) -> None:
    row = SCHEDULE_ROWS[row_id]
    job, now_ms = row["args"]
    planned = schedule_text.parse(job["schedule"], instant(now_ms))
    assert isinstance(planned, Cron)
    window_ms = job["schedule"].get("staggerMs", 300_000)
    exact = schedule.next_fire(planned, instant(now_ms))
    assert exact is not None
    assert 0 <= row["expect"] - durations.milliseconds_of(exact) < window_ms


@pytest.mark.parametrize("row_id", sorted(REFUSED_HERE))
def test_a_row_without_a_readable_interval_is_refused(row_id: str) -> None:
    form, now_ms = SCHEDULE_ROWS[row_id]["args"]
    with pytest.raises(InvalidArgument, match="everyMs"):
        schedule_text.parse(form, instant(now_ms))


def test_the_row_that_counts_from_its_last_run_follows_the_grid_here() -> None:
    job, now_ms = SCHEDULE_ROWS["cron-181"]["args"]
    answer = schedule_text.preview({"schedule": job["schedule"], "fromMs": now_ms, "count": 2})
    assert answer == {"next": [1771755240000, 1771757040000]}


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["function"] == "coerceFiniteScheduleNumber"],
    ids=lambda row: row["id"],
)
def test_a_recorded_number_is_read_or_refused_alike(row: dict[str, Any]) -> None:
    value = row["args"][0]
    if isinstance(value, dict):
        value = float(value["__num"])
    form = {"kind": "every", "everyMs": value}
    if row["expect"] is None:
        with pytest.raises(InvalidArgument, match="everyMs"):
            schedule_text.parse(form, instant(0))
    else:
        parsed = schedule_text.to_json(schedule_text.parse(form, instant(0)))
        assert parsed["everyMs"] == row["expect"]
