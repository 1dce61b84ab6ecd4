"""What a cron expression may say, and on which days and times of a calendar it fires (in UTC)."""

from datetime import UTC, datetime, timedelta

import pytest

from fased.core import cron, zones
from fased.core.errors import InvalidArgument

UTC_ZONE = zones.find_zone("UTC")
# A Thursday, and the first day of a year that is no leap year.
START = datetime(2026, 1, 1, tzinfo=UTC)


def fires(expr: str, count: int, after: datetime = START - timedelta(seconds=1)) -> list[datetime]:
    expression = cron.parse(expr)
    found = [after]
    while len(found) <= count:
        found.append(cron.next_fire(expression, UTC_ZONE, found[-1]))
    return found[1:]


def dates(expr: str, count: int) -> list[str]:
    return [f"{fire:%m-%d}" for fire in fires(expr, count)]


def times(expr: str, count: int) -> list[str]:
    return [f"{fire:%H:%M:%S}" for fire in fires(expr, count)]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("* * * * *", ["00:00:00", "00:01:00", "00:02:00"]),
        ("*/20 * * * * *", ["00:00:00", "00:00:20", "00:00:40", "00:01:00"]),
        ("15,45 3 * * *", ["03:15:00", "03:45:00", "03:15:00"]),
        ("0 22-2 * * *", ["00:00:00", "01:00:00", "02:00:00", "22:00:00", "23:00:00"]),
        ("50-10/10 5 * * *", ["05:00:00", "05:10:00", "05:50:00", "05:00:00"]),
        ("5/25 0 * * *", ["00:05:00", "00:30:00", "00:55:00", "00:05:00"]),
        ("0-10/5,30 0 * * *", ["00:00:00", "00:05:00", "00:10:00", "00:30:00"]),
        ("@hourly", ["00:00:00", "01:00:00"]),
        ("59 59 23 * * *", ["23:59:59", "23:59:59"]),
    ],
)
def test_times_of_day(expr: str, expected: list[str]) -> None:
    assert times(expr, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("0 0 * * fri-mon", ["01-02", "01-03", "01-04", "01-05", "01-09"]),
        ("0 0 * * fri-mon/2", ["01-02", "01-04", "01-09", "01-11"]),
        ("0 0 * * 5-7", ["01-02", "01-03", "01-04", "01-09"]),
        ("0 0 * * 7", ["01-04", "01-11"]),
        ("0 0 * * 0", ["01-04", "01-11"]),
        ("0 0 * * 7-1", ["01-04", "01-05", "01-11"]),
        ("0 0 * * 0-7", ["01-01", "01-02", "01-03", "01-04"]),
        ("0 0 * * Sunday,WED", ["01-04", "01-07", "01-11"]),
        ("0 0 1 nov-feb *", ["01-01", "02-01", "11-01", "12-01", "01-01"]),
        ("0 0 1 March *", ["03-01", "03-01"]),
        ("0 0 L * *", ["01-31", "02-28", "03-31", "04-30"]),
        ("0 0 L-2 * ?", ["01-29", "02-26", "03-29"]),
        ("0 0 1,L 2 *", ["02-01", "02-28", "02-01"]),
        ("0 0 LW * *", ["01-30", "02-27", "03-31", "04-30", "05-29"]),
        ("0 0 15W * *", ["01-15", "02-16", "03-16", "04-15", "05-15", "06-15", "07-15", "08-14"]),
        ("0 0 1W * *", ["01-01", "02-02", "03-02", "04-01", "05-01", "06-01", "07-01", "08-03"]),
        ("0 0 31W * *", ["01-30", "03-31", "05-29", "07-31"]),
        ("0 0 ? * fri#2", ["01-09", "02-13", "03-13"]),
        ("0 0 * * 4#5", ["01-29", "04-30", "07-30"]),
        ("0 0 * * friL", ["01-30", "02-27", "03-27"]),
        ("0 0 * * 0L", ["01-25", "02-22"]),
        ("0 0 * * mon#L", ["01-26", "02-23"]),
        ("0 0 * * mon#1,wedL", ["01-05", "01-28", "02-02", "02-25"]),
        ("0 0 */10 * *", ["01-01", "01-11", "01-21", "01-31", "02-01"]),
        ("@weekly", ["01-04", "01-11"]),
        ("@daily", ["01-01", "01-02"]),
        ("@midnight", ["01-01", "01-02"]),
        ("@monthly", ["01-01", "02-01"]),
        ("@YEARLY", ["01-01", "01-01"]),
        ("@annually", ["01-01", "01-01"]),
    ],
)
def test_days_of_the_calendar(expr: str, expected: list[str]) -> None:
    assert dates(expr, len(expected)) == expected


def test_a_day_matches_either_day_field_when_both_are_restricted() -> None:
    assert dates("0 0 13 * fri", 4) == ["01-02", "01-09", "01-13", "01-16"]
    assert dates("0 0 */10 * mon", 4) == ["01-01", "01-05", "01-11", "01-12"]
    assert dates("0 0 13 * mon#1", 3) == ["01-05", "01-13", "02-02"]


def test_an_unrestricted_day_field_leaves_the_choice_to_the_other() -> None:
    assert dates("0 0 13 * ?", 2) == dates("0 0 13 * *", 2) == ["01-13", "02-13"]
    assert dates("0 0 ? * fri", 2) == dates("0 0 */1 * fri", 2) == ["01-02", "01-09"]


def test_a_leap_day_waits_for_its_year_and_skips_the_century_that_has_none() -> None:
    assert [fire.year for fire in fires("0 0 29 2 *", 2)] == [2028, 2032]
    after = datetime(2096, 3, 1, tzinfo=UTC)
    assert fires("0 0 29 2 *", 1, after) == [datetime(2104, 2, 29, tzinfo=UTC)]
    assert fires("0 0 * 2 mon#5", 2) == [
        datetime(2044, 2, 29, tzinfo=UTC),
        datetime(2072, 2, 29, tzinfo=UTC),
    ]


def test_white_space_and_case_do_not_matter() -> None:
    assert cron.parse("  0\t9 *  * MON-Fri ") == cron.parse("0 9 * * 1-5")


@pytest.mark.parametrize(
    ("expr", "part", "words"),
    [
        ("60 * * * *", "minute", "0-59"),
        ("61 * * * * *", "second", "0-59"),
        ("0 24 * * *", "hour", "0-23"),
        ("0 0 0 * *", "day-of-month", "1-31"),
        ("0 0 32W * *", "day-of-month", "1-31"),
        ("0 0 * 13 *", "month", "1-12 or jan-dec"),
        ("0 0 * foo *", "month", "1-12 or jan-dec"),
        ("0 0 * * 8", "day-of-week", "0-7 or sun-sat"),
        ("0 0 * * fri#6", "day-of-week", "fri#2"),
        ("0 0 * * L", "day-of-week", "friL"),
        ("*/0 * * * *", "minute", "a step is 1 to 60"),
        ("*/90 * * * *", "minute", "a step is 1 to 60"),
        ("? * * * *", "minute", "0-59"),
        ("1,,2 * * * *", "minute", "0-59"),
        ("1- * * * *", "minute", "0-59"),
        ("-5 * * * *", "minute", "0-59"),
        ("1.5 * * * *", "minute", "0-59"),
        ("٣ * * * *", "minute", "0-59"),
        ("0 jan * * *", "hour", "0-23"),
        ("0 0 * * mon-wed#2", "day-of-week", "0-7"),
    ],
)
def test_a_bad_field_is_named_with_what_it_allows(expr: str, part: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        cron.parse(expr)
    assert refused.value.reason == "INVALID_CRON"
    assert refused.value.metadata == {"field": "expr", "part": part}
    assert part in refused.value.message
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        ("", "needed"),
        ("   ", "needed"),
        ("* * * *", "has 4 fields: it takes 5"),
        ("0 0 0 1 1 * 2026", "has 7 fields: it takes 5"),
        ("@reboot", "@hourly"),
        ("0 0 * * * " + "," * 1000, "longer than 1000"),
    ],
)
def test_what_is_no_expression_at_all_is_refused(expr: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as refused:
        cron.parse(expr)
    assert refused.value.reason == "INVALID_CRON"
    assert refused.value.metadata == {"field": "expr"}


@pytest.mark.parametrize(
    "expr", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 L-30 2 *", "0 0 L-40 * *", "0 0 30W 2 ?"]
)
def test_an_impossible_date_is_refused(expr: str) -> None:
    with pytest.raises(InvalidArgument, match="never fires") as refused:
        cron.parse(expr)
    assert refused.value.reason == "NEVER_FIRES"
    assert refused.value.metadata == {"field": "expr"}


def test_an_impossible_day_of_month_beside_a_weekday_still_fires() -> None:
    assert dates("0 0 30 2 mon", 2) == ["02-02", "02-09"]


def test_a_fire_within_the_second_is_strictly_later() -> None:
    expression = cron.parse("0 12 * * *")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    assert cron.next_fire(expression, UTC_ZONE, noon - tick) == noon
    assert cron.next_fire(expression, UTC_ZONE, noon) == noon + timedelta(days=1)
    assert cron.previous_fire(expression, UTC_ZONE, noon + tick) == noon
    assert cron.previous_fire(expression, UTC_ZONE, noon) == noon - timedelta(days=1)
