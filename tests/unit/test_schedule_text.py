"""How schedules may be written, and that what is written reads back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import durations, schedule_text
from fased.core.errors import InvalidArgument
from fased.core.schedule import At, Cron, Every, Schedule
from fased.core.tasks import TriggerKind, TriggerSpec

NOW = datetime(2026, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)
ANCHOR = NOW.replace(microsecond=123_000)
SECOND = timedelta(seconds=1)

milliseconds = st.integers(0, 4 * 10**12)
written: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(At, milliseconds.map(durations.instant_from_ms)),
    st.builds(
        Every,
        st.integers(1000, 10**11).map(lambda ms: timedelta(milliseconds=ms)),
        milliseconds.map(durations.instant_from_ms),
        st.sampled_from([timedelta(0), SECOND]),
    ),
    st.builds(
        Cron,
        st.sampled_from(["0 9 * * 1-5", "@daily"]),
        st.sampled_from(["UTC", "Europe/Berlin"]),
        st.sampled_from([timedelta(0), SECOND]),
    ),
)


@given(written)
def test_every_canonical_form_reads_back(planned: Schedule) -> None:
    assert schedule_text.from_json(schedule_text.to_json(planned), NOW) == planned
    assert schedule_text.from_trigger(schedule_text.to_trigger(planned), NOW) == planned


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"kind": "every", "everyMs": 30_000}, Every(30 * SECOND, ANCHOR)),
        ({"everyMs": " 30000 ", "anchorMs": "1000"}, Every(30 * SECOND, durations.EPOCH + SECOND)),
        ({"kind": "every", "everyMs": 30_000.9}, Every(30 * SECOND, ANCHOR)),
        (
            {"kind": "every", "everyMs": 30_000, "staggerMs": 1000},
            Every(30 * SECOND, ANCHOR, SECOND),
        ),
        ({"kind": "cron", "expr": " 0  9 * * * "}, Cron("0 9 * * *", "UTC")),
        ({"kind": "cron", "cron": "0 9 * * *", "tz": " "}, Cron("0 9 * * *", "UTC")),
        ({"expr": "@daily", "tz": "Europe/Berlin"}, Cron("@daily", "Europe/Berlin")),
        ({"kind": "at", "at": "2026-06-02T09:00"}, At(datetime(2026, 6, 2, 9, tzinfo=UTC))),
        ({"at": "2026-06-02T09:00+02:00"}, At(datetime(2026, 6, 2, 7, tzinfo=UTC))),
        ({"kind": "at", "atMs": 1765584000000}, At(datetime(2025, 12, 13, tzinfo=UTC))),
        ({"kind": "at", "at": "1765584000000"}, At(datetime(2025, 12, 13, tzinfo=UTC))),
        (
            {"kind": "at", "at": "2026-03-29T02:30", "tz": "Europe/Berlin"},
            At(datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ),
    ],
)
def test_json_is_read_leniently(form: dict[str, object], expected: Schedule) -> None:
    assert schedule_text.parse(form, NOW) == expected


@pytest.mark.parametrize(
    ("form", "reason", "field"),
    [
        ({}, "UNKNOWN_SCHEDULE_KIND", "kind"),
        ({"kind": "lunar"}, "UNKNOWN_SCHEDULE_KIND", "kind"),
        ({"kind": ["cron"], "expr": "@daily"}, "UNKNOWN_SCHEDULE_KIND", "kind"),
        ({"kind": "at"}, "INVALID_SCHEDULE", "at"),
        ({"kind": "at", "at": "soon"}, "INVALID_INSTANT", "at"),
        ({"kind": "at", "at": True}, "INVALID_SCHEDULE", "at"),
        ({"kind": "at", "at": "2026-06-02T09:00", "tz": "Nowhere"}, "INVALID_ZONE", "tz"),
        ({"kind": "every"}, "INVALID_SCHEDULE", "everyMs"),
        ({"kind": "every", "everyMs": "abc"}, "INVALID_SCHEDULE", "everyMs"),
        ({"kind": "every", "everyMs": float("nan")}, "INVALID_SCHEDULE", "everyMs"),
        ({"kind": "every", "everyMs": float("inf")}, "INVALID_SCHEDULE", "everyMs"),
        ({"kind": "every", "everyMs": True}, "INVALID_SCHEDULE", "everyMs"),
        ({"kind": "every", "everyMs": 10**400}, "INVALID_SCHEDULE", "everyMs"),
        ({"kind": "every", "everyMs": 999}, "INVALID_EVERY", "every"),
        ({"kind": "every", "everyMs": 0}, "INVALID_EVERY", "every"),
        ({"kind": "every", "everyMs": -5000}, "INVALID_EVERY", "every"),
        ({"kind": "every", "everyMs": 10**14}, "INVALID_EVERY", "every"),
        ({"kind": "every", "everyMs": 5000, "anchorMs": 10**15}, "INVALID_INSTANT", "anchor"),
        ({"kind": "every", "everyMs": 5000, "staggerMs": -1}, "INVALID_STAGGER", "stagger"),
        ({"kind": "cron"}, "INVALID_CRON", "expr"),
        ({"kind": "cron", "expr": 5}, "INVALID_SCHEDULE", "expr"),
        ({"kind": "cron", "expr": "0 0 30 2 *"}, "NEVER_FIRES", "expr"),
        ({"kind": "cron", "expr": "@daily", "tz": "Europe/Brelin"}, "INVALID_ZONE", "tz"),
    ],
)
def test_bad_json_is_refused_with_the_field_to_mend(
    form: dict[str, object], reason: str, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        schedule_text.parse(form, NOW)
    assert refused.value.reason == reason
    assert refused.value.metadata["field"] == field


def test_a_stored_form_is_read_though_its_zone_has_gone() -> None:
    form = {"kind": "cron", "expr": "0 9 * * *", "tz": "Mars/Olympus"}
    assert schedule_text.from_json(form, NOW) == Cron("0 9 * * *", "Mars/Olympus")


def test_a_trigger_as_a_person_wrote_it_is_read() -> None:
    every = TriggerSpec(TriggerKind.EVERY, "10 minutes")
    assert schedule_text.from_trigger(every, NOW) == Every(timedelta(minutes=10), ANCHOR)
    at = TriggerSpec(TriggerKind.AT, "2026-06-02T09:00", "Europe/Berlin")
    assert schedule_text.from_trigger(at, NOW) == At(datetime(2026, 6, 2, 7, tzinfo=UTC))
    assert schedule_text.from_trigger(TriggerSpec(TriggerKind.MANUAL), NOW) is None
    with pytest.raises(InvalidArgument, match="'soon' is not a duration"):
        schedule_text.from_trigger(TriggerSpec(TriggerKind.EVERY, "soon"), NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("every 5s", Every(5 * SECOND, ANCHOR)),
        (" Every 1h30m ", Every(timedelta(minutes=90), ANCHOR)),
        ("every 10 minutes", Every(timedelta(minutes=10), ANCHOR)),
        ("hourly", Every(timedelta(hours=1), ANCHOR)),
        ("DAILY", Every(timedelta(days=1), ANCHOR)),
        ("weekly", Every(timedelta(weeks=1), ANCHOR)),
        ("at 2026-06-02T09:00Z", At(datetime(2026, 6, 2, 9, tzinfo=UTC))),
        ("at 2026-06-02 09:00", At(datetime(2026, 6, 2, 7, tzinfo=UTC))),
        ("cron 0 9 * * 1-5", Cron("0 9 * * 1-5", "Europe/Berlin")),
        ("@daily", Cron("@daily", "Europe/Berlin")),
        ("", None),
        ("every", None),
        ("every morning", None),
        ("every 5 sheep", None),
        ("every 5s tick", None),
        ("at", None),
        ("cron", None),
        ("tomorrow", None),
    ],
)
def test_a_whole_text_is_a_schedule_or_none(text: str, expected: Schedule | None) -> None:
    assert schedule_text.schedule_from_words(text, NOW, tz="Europe/Berlin") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("every 0s", "INVALID_EVERY"),
        ("every 11w 5000d", "INVALID_EVERY"),
        ("at noon", "INVALID_INSTANT"),
        ("cron 61 * * * *", "INVALID_CRON"),
        ("@reboot", "INVALID_CRON"),
    ],
)
def test_words_that_mean_a_schedule_and_get_it_wrong_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        schedule_text.schedule_from_words(text, NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("text", "every", "prompt"),
    [
        ("every 5s Tick: tick", 5 * SECOND, "Tick: tick"),
        ("every 10 minutes check mail", timedelta(minutes=10), "check mail"),
        ("every 1h: report", timedelta(hours=1), "report"),
        ("weekly: report", timedelta(weeks=1), "report"),
        ("Daily summary of the news", timedelta(days=1), "summary of the news"),
        ("check mail every 30m", timedelta(minutes=30), "check mail"),
        ("check mail, every 1 hour 30 minutes", timedelta(minutes=90), "check mail"),
        ("report daily", timedelta(days=1), "report"),
    ],
)
def test_an_interval_before_or_after_a_prompt_is_taken_from_it(
    text: str, every: timedelta, prompt: str
) -> None:
    assert schedule_text.take_interval(text, NOW) == (Every(every, ANCHOR), prompt)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "check mail",
        "every morning",
        "dailyish",
        "the bi-weekly",
        "weekly-report",
        "every 5 mice run",
        "check every 2 days until done",
        "count every 5 sheep",
    ],
)
def test_a_prompt_that_only_sounds_like_an_interval_is_left_alone(text: str) -> None:
    assert schedule_text.take_interval(text, NOW) is None


def test_a_preview_lists_the_next_slots_in_milliseconds() -> None:
    row = {"schedule": {"kind": "every", "everyMs": 1000}, "fromMs": 5000, "count": 3}
    assert schedule_text.preview(row) == {"next": [6000, 7000, 8000]}
    row = {"schedule": {"kind": "at", "at": 9000}, "fromMs": 5000, "count": 3}
    assert schedule_text.preview(row) == {"next": [9000]}
    assert schedule_text.preview({**row, "count": 0}) == {"next": []}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "INVALID_SCHEDULE"),
        ([], "INVALID_SCHEDULE"),
        ({"fromMs": 1}, "INVALID_SCHEDULE"),
        ({"schedule": "daily", "fromMs": 1}, "INVALID_SCHEDULE"),
        ({"schedule": {"kind": "every", "everyMs": 1000}}, "INVALID_SCHEDULE"),
        ({"schedule": {"everyMs": 1000}, "fromMs": 10**15}, "INVALID_INSTANT"),
        ({"schedule": {"everyMs": 1000}, "fromMs": 1, "count": -1}, "INVALID_SCHEDULE"),
        ({"schedule": {"everyMs": 1000}, "fromMs": 1, "count": 10**6}, "INVALID_SCHEDULE"),
        ({"schedule": {"everyMs": 1}, "fromMs": 1}, "INVALID_EVERY"),
        ({"schedule": {"at": 10_000}, "fromMs": 80_000}, "AT_IN_THE_PAST"),
        ({"schedule": {"at": "2066-01-01"}, "fromMs": 1}, "TOO_FAR_AHEAD"),
        ({"schedule": {"expr": "0 0 31 6 *"}, "fromMs": 1}, "NEVER_FIRES"),
    ],
)
def test_a_preview_answers_a_bad_row_with_its_reason(row: object, reason: str) -> None:
    answer = schedule_text.preview(row)
    assert list(answer) == ["error"]
    error = answer["error"]
    assert isinstance(error, dict)
    assert error["reason"] == reason
    assert error["message"]
