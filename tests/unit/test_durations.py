"""What durations and instants may look like, and what they mean."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import durations
from fased.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", timedelta(seconds=5)),
        ("1h", timedelta(hours=1)),
        ("90m", timedelta(minutes=90)),
        ("1h30m", timedelta(minutes=90)),
        ("10 minutes", timedelta(minutes=10)),
        ("1 minute", timedelta(minutes=1)),
        ("1 hour 30 mins", timedelta(minutes=90)),
        ("2 Weeks 3D", timedelta(days=17)),
        ("250ms", timedelta(milliseconds=250)),
        ("5m 7ms", timedelta(minutes=5, milliseconds=7)),
        ("  7d ", timedelta(days=7)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_read_in_whole_units(text: str, expected: timedelta) -> None:
    assert durations.parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "m",
        "-5s",
        "1.5h",
        "5 sheep",
        "30m1h",
        "1h1h",
        "5s5",
        "9999999999999w",
        "٣s",
        "1 mo",
    ],
)
def test_what_is_no_duration_is_refused_with_its_field_and_the_spellings(text: str) -> None:
    with pytest.raises(InvalidArgument, match="5s, 90m, 1h30m") as refused:
        durations.parse_duration(text, field="every")
    assert refused.value.reason == "INVALID_DURATION"
    assert refused.value.metadata == {"field": "every"}


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30_000)))
def test_a_formatted_duration_reads_back_to_the_millisecond(duration: timedelta) -> None:
    cut = duration - duration % durations.MILLISECOND
    assert durations.parse_duration(durations.format_duration(duration)) == cut


def test_a_formatted_duration_is_the_shortest_spelling() -> None:
    assert durations.format_duration(timedelta(minutes=90)) == "1h30m"
    assert durations.format_duration(timedelta(days=8, milliseconds=1)) == "1w1d1ms"
    assert durations.format_duration(timedelta(0)) == "0s"
    with pytest.raises(ValueError, match="negative"):
        durations.format_duration(timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 minutes check mail", (timedelta(minutes=10), "check mail")),
        ("5s: tick", (timedelta(seconds=5), ": tick")),
        ("30m 2 sheep", (timedelta(minutes=30), "2 sheep")),
        ("5 mice", None),
        ("", None),
    ],
)
def test_a_leading_duration_is_split_from_the_words_after_it(
    text: str, expected: tuple[timedelta, str] | None
) -> None:
    assert durations.split_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-12T18:00:00", datetime(2026, 1, 12, 18, tzinfo=UTC)),
        ("2026-01-12T18:00:00Z", datetime(2026, 1, 12, 18, tzinfo=UTC)),
        ("2026-01-12t18:00z", datetime(2026, 1, 12, 18, tzinfo=UTC)),
        ("2026-01-12 18:00+01:00", datetime(2026, 1, 12, 17, tzinfo=UTC)),
        ("2026-01-12", datetime(2026, 1, 12, tzinfo=UTC)),
        (" 2026-01-12T18:00:00.250Z ", datetime(2026, 1, 12, 18, 0, 0, 250_000, tzinfo=UTC)),
        ("1765584000000", datetime(2025, 12, 13, tzinfo=UTC)),
    ],
)
def test_an_instant_without_a_zone_is_utc(text: str, expected: datetime) -> None:
    parsed = durations.parse_instant(text)
    assert parsed == expected
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-02-30T00:00",
        "2026-01-12T25:00",
        "12",
        "1765584000",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "99999999999999999",
        "1800-01-01",
    ],
)
def test_what_is_no_instant_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidArgument, match="ISO 8601") as refused:
        durations.parse_instant(text, field="anchor")
    assert refused.value.reason == "INVALID_INSTANT"
    assert refused.value.metadata == {"field": "anchor"}


@given(
    st.integers(min_value=-2_000_000_000_000_000, max_value=200_000_000_000_000_000),
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_a_formatted_instant_reads_back(microseconds: int, offset_minutes: int) -> None:
    zone = timezone(timedelta(minutes=offset_minutes))
    instant = (durations.EPOCH + timedelta(microseconds=microseconds)).astimezone(zone)
    text = durations.format_instant(instant)
    assert text.endswith("Z")
    assert durations.parse_instant(text) == instant


@given(st.integers(min_value=-2_208_988_800_000, max_value=221_845_391_999_999))
def test_epoch_milliseconds_read_back(milliseconds: int) -> None:
    assert durations.milliseconds_of(durations.instant_from_ms(milliseconds)) == milliseconds
