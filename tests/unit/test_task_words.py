"""The words after /task new: schedules, flags, names, prompts and several lines."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fased.core import schedule_text
from fased.core.errors import InvalidArgument
from fased.core.task_flags import FLAGS
from fased.core.task_words import MAX_TASKS_PER_MESSAGE, TaskDraft, parse_task_drafts
from fased.core.tasks import TriggerKind, TriggerSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def only_draft(words: str) -> TaskDraft:
    (draft,) = parse_task_drafts(words)
    return draft


def refusal_of(words: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refusal:
        parse_task_drafts(words)
    return refusal.value


@pytest.mark.parametrize(
    ("words", "kind", "expr"),
    [
        ("every 5s Tick: tick", TriggerKind.EVERY, "5s"),
        ("every 1h Tick: tick", TriggerKind.EVERY, "1h"),
        ("every 90m Tick: tick", TriggerKind.EVERY, "1h30m"),
        ("every 1h30m: Tick: tick", TriggerKind.EVERY, "1h30m"),
        ("EVERY 10 Minutes Tick: tick", TriggerKind.EVERY, "10m"),
        ("every hour Tick: tick", TriggerKind.EVERY, "1h"),
        ("hourly Tick: tick", TriggerKind.EVERY, "1h"),
        ("Daily: Tick: tick", TriggerKind.EVERY, "1d"),
        ("weekly, Tick: tick", TriggerKind.EVERY, "1w"),
        ("Tick: tick hourly", TriggerKind.EVERY, "1h"),
        ("Tick: tick, daily.", TriggerKind.EVERY, "1d"),
        ("Tick: tick every 30m", TriggerKind.EVERY, "30m"),
        ("Tick: tick every 10 minutes", TriggerKind.EVERY, "10m"),
        ("Tick: tick every week", TriggerKind.EVERY, "1w"),
        ("at 2026-01-31T09:00Z Tick: tick", TriggerKind.AT, "2026-01-31T09:00Z"),
        ("at 2026-01-31 09:00 Tick: tick", TriggerKind.AT, "2026-01-31 09:00"),
        ("at 2026-01-31T09:00:00+01:00: Tick: tick", TriggerKind.AT, "2026-01-31T09:00:00+01:00"),
        ("cron 0 9 * * 1-5 -- Tick: tick", TriggerKind.CRON, "0 9 * * 1-5"),
        ("cron @hourly -- Tick: tick", TriggerKind.CRON, "@hourly"),
        ("cron '0 9 * * *' Tick: tick", TriggerKind.CRON, "0 9 * * *"),
        ("manual Tick: tick", TriggerKind.MANUAL, ""),
    ],
)
def test_a_schedule_leads_or_ends_and_the_rest_is_name_and_prompt(
    words: str, kind: TriggerKind, expr: str
) -> None:
    draft = only_draft(words)
    assert draft == TaskDraft("Tick", "tick", TriggerSpec(kind, expr), {})
    assert (schedule_text.from_trigger(draft.trigger, NOW) is None) == (kind is TriggerKind.MANUAL)


@pytest.mark.parametrize(
    ("words", "reason", "field"),
    [
        ("", "MISSING_SCHEDULE", "schedule"),
        ("check the mail", "MISSING_SCHEDULE", "schedule"),
        ("-- check the mail daily", "MISSING_SCHEDULE", "schedule"),
        ("every banana check", "MISSING_SCHEDULE", "schedule"),
        ("every 5x check", "INVALID_SCHEDULE", "schedule"),
        ("every 10 check", "INVALID_SCHEDULE", "schedule"),
        ("every 0s check", "INVALID_EVERY", "every"),
        ("at noon check", "INVALID_INSTANT", "schedule"),
        ("at 2026-02-30T09:00 check", "INVALID_INSTANT", "schedule"),
        ("cron 0 9 * * * Brief: write", "INVALID_SCHEDULE", "schedule"),
        ("every 5s", "MISSING_PROMPT", "prompt"),
        ("every 5s Tick:", "MISSING_PROMPT", "prompt"),
        ("cron 0 9 * * * --", "MISSING_PROMPT", "prompt"),
        ("every 5s --bogus 1 check", "UNKNOWN_FLAG", "--bogus"),
        ("every 5s check --bogus", "UNKNOWN_FLAG", "--bogus"),
        ("--mdoe auto every 5s check", "UNKNOWN_FLAG", "--mdoe"),
        ("every 5s --mode", "INVALID_FLAG", "--mode"),
        ("every 5s --mode --tool x check", "INVALID_FLAG", "--mode"),
        ("every 5s --mode fast check", "INVALID_FLAG", "--mode"),
        ("every 5s --max-tokens many check", "INVALID_FLAG", "--max-tokens"),
        ("every 5s --max-cost -1 check", "INVALID_FLAG", "--max-cost"),
        ("every 5s --timeout 0s check", "INVALID_FLAG", "--timeout"),
        ("every 5s --best-effort=maybe check", "INVALID_FLAG", "--best-effort"),
        ('every 5s --objective "" check', "INVALID_FLAG", "--objective"),
        ("every 5s --mode auto check --mode auto", "DUPLICATE_FLAG", "--mode"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(words: str, reason: str, field: str) -> None:
    refusal = refusal_of(words)
    assert (refusal.reason, refusal.metadata["field"]) == (reason, field)


def test_an_unknown_flag_is_answered_with_near_ones_or_all() -> None:
    assert "--mode" in refusal_of("every 5s --mdoe auto check").message
    assert all(f"--{name}" in refusal_of("every 5s --zzzz 1 check").message for name in FLAGS)


@pytest.mark.parametrize(
    "words",
    [
        "--mode no-model every 5s Tick: tick",
        "every 5s --mode no-model Tick: tick",
        "every 5s --mode=no-model -- Tick: tick",
        "every 5s Tick: tick --mode no-model",
        "Tick: tick every 5s --mode no-model",
        "every 5s --MODE 'No-Model' Tick: tick",
        "every 5s —mode no-model Tick: tick",
    ],
)
def test_flags_stand_before_the_prompt_or_at_the_end(words: str) -> None:
    assert only_draft(words) == TaskDraft(
        "Tick", "tick", TriggerSpec(TriggerKind.EVERY, "5s"), {"mode": "no-model"}
    )


def test_flags_of_a_cron_task_may_stand_before_its_two_hyphens() -> None:
    draft = only_draft("cron 0 9 * * * --tz Europe/Oslo --best-effort -- Brief: write")
    assert draft.trigger == TriggerSpec(TriggerKind.CRON, "0 9 * * *", "Europe/Oslo")
    assert (draft.prompt, draft.flags) == ("write", {"best-effort": "true"})


def test_words_after_two_hyphens_are_never_flags() -> None:
    draft = only_draft("every 1h -- explain git log --oneline --model")
    assert (draft.prompt, draft.flags) == ("explain git log --oneline --model", {})


def test_flags_inside_the_prompt_are_its_words() -> None:
    draft = only_draft("every 1h Ask: run it with --mode auto and --bogus 1 please")
    assert draft.prompt == "run it with --mode auto and --bogus 1 please"
    assert draft.flags == {}


def test_a_value_in_quotes_may_hold_spaces() -> None:
    draft = only_draft('every 1h --objective "keep it up" --stop-text=“all done” Watch: look')
    assert draft.flags == {"objective": "keep it up", "stop-text": "all done"}


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("check the mail", "check the mail"),
        ("Check the status. Then write a long report on all of it", "Check the status"),
        ("https://example.org: is it up?", "https://example.org: is it up?"),
        ("x" * 60, "x" * 48),
        (f"{'too long for a name ' * 5}: text", "too long for a name too long for a name too long"),
        ("first line\nsecond line", "first line"),
    ],
)
def test_a_task_without_a_name_is_named_after_its_first_words(prompt: str, name: str) -> None:
    draft = only_draft(f"every 1h {prompt}")
    assert (draft.name, draft.prompt) == (name, prompt)


def test_further_lines_belong_to_the_prompt() -> None:
    draft = only_draft(
        "every 1h Report: list\n\n- what is new\n  Every item on a line\nAt the end sum"
    )
    assert draft.prompt == "list\n\n- what is new\n  Every item on a line\nAt the end sum"


def test_a_schedule_at_the_end_of_the_prompt_of_a_scheduled_task_is_its_words() -> None:
    assert only_draft("every 1h Report: what changes daily").prompt == "what changes daily"


@pytest.mark.parametrize(
    "words",
    [
        "every 1h A: one\nat 2026-01-31T09:00 B: two\n\ncron 0 9 * * * -- C: three",
        "\nhourly A: one\nevery day B: two\nmanual C: three\n",
        "A: one hourly\nB: two every 5 minutes --best-effort\nweekly C: three",
    ],
)
def test_lines_that_each_carry_a_schedule_are_tasks(words: str) -> None:
    drafts = parse_task_drafts(words)
    assert [(draft.name, draft.prompt) for draft in drafts] == [
        ("A", "one"),
        ("B", "two"),
        ("C", "three"),
    ]


def test_a_first_line_of_flags_is_shared_and_a_line_may_choose_otherwise() -> None:
    first, second = parse_task_drafts(
        "--mode no-model --tz Europe/Oslo\nevery 1h A: one\nevery 2h --mode auto B: two"
    )
    assert (first.flags, second.flags) == ({"mode": "no-model"}, {"mode": "auto"})
    assert first.trigger.timezone == second.trigger.timezone == "Europe/Oslo"


def test_of_several_tasks_the_wrong_one_is_named() -> None:
    refusal = refusal_of("every 1h A: one\nevery 2x B: two")
    assert refusal.message.startswith("task 2: ")
    assert refusal.metadata == {"field": "schedule", "task": "2"}


def test_a_message_makes_a_bounded_number_of_tasks() -> None:
    lines = [f"every 1h T{number}: text" for number in range(MAX_TASKS_PER_MESSAGE + 1)]
    assert len(parse_task_drafts("\n".join(lines[1:]))) == MAX_TASKS_PER_MESSAGE
    assert refusal_of("\n".join(lines)).reason == "TOO_MANY_TASKS"


def test_many_unmatched_quotes_are_read() -> None:
    prompt = "“ " * 8_000 + "--tool"
    assert only_draft(f"every 1h -- {prompt}").prompt == prompt


SWITCH = "nothing, or =true or =false"
WORD = st.text(st.characters(categories=("L", "Nd")), min_size=1, max_size=12)
VALUES = {
    "words": st.lists(WORD, min_size=1, max_size=3).map(" ".join),
    SWITCH: st.just("true"),
    "a whole number above 0": st.integers(1, 10**11).map(str),
    "an amount such as 0.50": st.integers(0, 999).map(lambda cents: f"{cents / 100:.2f}"),
    "a duration such as 90s or 10m": st.integers(1, 99).map(lambda minutes: f"{minutes}m"),
}
ANY_FLAGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(wants) if isinstance(wants, tuple) else VALUES[wants]
        for name, wants in FLAGS.items()
    },
)


def written(name: str, value: str) -> str:
    return f"--{name}" if FLAGS[name] == SWITCH else f'--{name} "{value}"'


@given(ANY_FLAGS, st.sampled_from(["{flags} every 5s {prompt}", "every 5s {flags} {prompt}"]))
def test_law_flags_come_back_as_they_were_written(flags: dict[str, str], shape: str) -> None:
    text = " ".join(written(name, value) for name, value in flags.items())
    draft = only_draft(shape.format(flags=text, prompt="Tick: tick"))
    assert (draft.name, draft.prompt) == ("Tick", "tick")
    assert {**draft.flags} | ({"tz": draft.trigger.timezone} if "tz" in flags else {}) == flags


@given(st.lists(WORD, min_size=1, max_size=30).map(" ".join))
def test_law_a_prompt_after_two_hyphens_comes_back_and_its_name_is_short(prompt: str) -> None:
    draft = only_draft(f"every 5s -- {prompt}")
    assert draft.prompt == prompt
    assert 1 <= len(draft.name) <= 48
