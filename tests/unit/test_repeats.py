"""Which repeated log lines are dropped."""

import logging

from fased.telemetry.repeats import Repeats


def line(name: str, text: str, at_s: float, *values: object) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.ERROR, "file", 1, text, values, None)
    record.created = at_s
    return record


def test_one_line_of_a_kind_is_kept_each_period_whatever_its_values() -> None:
    repeats = Repeats(("chatty",), period_s=30)
    kept = [
        repeats.filter(line("chatty.client", "cannot reach %s", 1000 + at_s, at_s))
        for at_s in (0, 0.1, 29, 30, 31, 61)
    ]
    assert kept == [True, False, False, True, False, True]


def test_lines_of_another_kind_are_kept() -> None:
    repeats = Repeats(("chatty",), period_s=30)
    assert repeats.filter(line("chatty", "one", 1000))
    assert repeats.filter(line("chatty", "two", 1000))
    assert repeats.filter(line("chatty.other", "one", 1000))


def test_other_loggers_may_repeat_themselves() -> None:
    repeats = Repeats(("chatty",), period_s=30)
    for name in ("fased", "chatty_too"):
        assert repeats.filter(line(name, "again", 1000))
        assert repeats.filter(line(name, "again", 1000))
