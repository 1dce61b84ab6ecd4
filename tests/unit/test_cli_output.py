"""What people and programs get to see: formats, foreign text, errors."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli import failures
from cli.options import Format
from cli.output import Table, clean, show, terminal_text
from fased.core import errors
from fased.core.errors import FasedError

TABLE = Table(("TASK", "PLAN"), [("tick", "every 5s [bold]"), ("rest", "a\nb")], empty="None.")


def test_a_table_in_a_pipe_is_plain_text_without_markup_colour_or_cut_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 500
    show(Format.TABLE, {}, Table(("A", "B"), [("[red]1[/red]", long)]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["A", "B"], ["[red]1[/red]", long]]
    assert "\x1b" not in "".join(lines)


def test_a_row_of_a_table_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(Format.TABLE, {}, TABLE)
    assert capsys.readouterr().out.splitlines()[2].split() == ["rest", "a", "b"]


def test_a_table_without_rows_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    show(Format.TABLE, {}, Table(("TASK",), [], empty="No tasks yet."))
    assert capsys.readouterr().out == "No tasks yet.\n"


def test_json_and_yaml_hold_the_value_and_nothing_of_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"tasks": [{"name": "täglich 😀\ud800", "runs": 3, "next": None}]}
    show(Format.JSON, value, TABLE)
    assert json.loads(capsys.readouterr().out) == value
    whole = {"tasks": [{"name": "täglich 😀", "runs": 3, "next": None}]}
    show(Format.YAML, whole, TABLE)
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown) == whole
    assert "täglich" in shown


@given(st.text())
def test_no_text_can_command_a_terminal(text: str) -> None:
    shown = clean(text)
    assert not any(ord(char) < 0x20 and char not in "\n\t" for char in shown)
    assert not any(0x7F <= ord(char) < 0xA0 for char in shown)
    assert clean(shown) == shown


def test_the_bold_head_of_a_chat_text_is_plain_and_the_rest_is_left_as_it_is() -> None:
    assert terminal_text("**tick** (1)\n- prompt: **x**") == "tick (1)\n- prompt: **x**"


def test_an_error_is_one_line_with_reason_field_and_next_step() -> None:
    error = errors.InvalidArgument(
        "the cron expression\nhas 4 fields", reason="INVALID_CRON", metadata={"field": "expr"}
    )
    assert failures.one_line(error) == (
        "error: the cron expression has 4 fields (INVALID_CRON); field: expr"
    )
    missing = errors.FailedPrecondition(
        "no model", reason="MODEL_MISSING", metadata={"setup_target": "OPENAI_API_KEY"}
    )
    assert failures.one_line(missing) == (
        "error: no model (MODEL_MISSING); next: set up OPENAI_API_KEY"
    )


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (errors.Unauthenticated("?", reason="TOKEN_INVALID"), "FASED_TOKEN"),
        (errors.PermissionDenied("?", reason="ROLE_TOO_LOW"), "fased token create"),
        (errors.Aborted("?", reason="ETAG_MISMATCH"), "again"),
        (errors.Unavailable("?", reason="DATABASE_DOWN"), "again"),
    ],
)
def test_an_error_of_a_kind_that_can_be_mended_says_how(error: FasedError, step: str) -> None:
    assert step in failures.next_step(error)


def test_with_json_an_error_is_json_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.NotFound("no task", reason="TASK_MISSING", metadata={"field": "name"})
    assert failures.report(error, Format.JSON) == failures.EXIT_REFUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert json.loads(printed.err) == {
        "error": {"reason": "TASK_MISSING", "message": "no task", "metadata": {"field": "name"}}
    }


def test_an_unreachable_gateway_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = failures.GatewayUnreachable("nobody", reason="GATEWAY_UNREACHABLE")
    assert failures.report(error, Format.TABLE) == failures.EXIT_UNREACHABLE
    assert capsys.readouterr().err.count("\n") == 1
