"""`fased route explain` and `fased schedule preview`: the real command, without any gateway.

The recorded rows go through `--batch`, one process a file. Of `routing.json` every row applies.
Of the schedule rows of `cron.json`, those in `LEFT_OUT` do not, each for the reason given there.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ended, fased

CASES = Path(__file__).parents[1] / "cases"
LEFT_OUT = {
    "cron-008": "the reference takes an interval that is no number as never; ours refuses it",
    "cron-010": "asks for the slot before, which a preview does not show",
    "cron-168": "the reference staggers by default at the top of the hour; ours is exact",
    "cron-169": "the reference staggers by default at the top of the hour; ours is exact",
    "cron-170": "the reference staggers by default at the top of the hour; ours is exact",
    "cron-171": "a stagger's offset comes from the task's id, and a preview has no task",
    "cron-173": "the reference staggers by default at the top of the hour; ours is exact",
    "cron-181": "the reference counts from the last run; ours keeps the anchored grid",
}


def rows_of(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((CASES / name).read_text(encoding="utf-8"))
    return rows


def batch(folder: Path, words: tuple[str, str], lines: list[str]) -> Ended:
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return fased(folder, *words, "--batch", str(path))


def test_every_recorded_message_is_routed_as_its_row_says(tmp_path: Path) -> None:
    rows = rows_of("routing.json")
    lines = [json.dumps({"config": row["config"], "input": row["input"]}) for row in rows]

    ended = batch(tmp_path, ("route", "explain"), lines)

    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(answers) == len(rows)
    differing = {
        row["id"]: answer
        for row, answer in zip(rows, answers, strict=True)
        if {key: answer[key] for key in row["expect"]} != row["expect"]
        or not isinstance(answer["candidates"], list)
    }
    assert differing == {}


def test_every_recorded_schedule_has_its_row_s_next_slot(tmp_path: Path) -> None:
    names = ("computeNextRunAtMs", "computePreviousRunAtMs", "computeJobNextRunAtMs")
    schedule_rows = [row for row in rows_of("cron.json") if row["function"] in names]
    assert len(schedule_rows) == 27
    assert set(LEFT_OUT) <= {row["id"] for row in schedule_rows}
    rows = [row for row in schedule_rows if row["id"] not in LEFT_OUT]
    lines = []
    for row in rows:
        form, from_ms = row["args"]
        question = {"schedule": form.get("schedule", form), "fromMs": from_ms, "count": 1}
        lines.append(json.dumps(question))

    ended = batch(tmp_path, ("schedule", "preview"), lines)

    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    for row, answer in zip(rows, answers, strict=True):
        if "error" in row:
            assert answer["error"]["reason"] == "INVALID_CRON", row["id"]
        else:
            assert answer == {"next": [row["expect"]]}, row["id"]


@pytest.mark.parametrize("words", [("route", "explain"), ("schedule", "preview")])
def test_a_broken_line_is_answered_with_its_number_and_those_after_it_are_answered_too(
    tmp_path: Path, words: tuple[str, str]
) -> None:
    whole = json.dumps(
        {
            "config": {},
            "input": {"channel": "telegram"},
            "schedule": {"kind": "at", "at": "2026-01-31T09:00Z"},
            "fromMs": 1_765_584_000_000,
        }
    )
    lines = [whole, "{", "", "[1]", "[" * 200_000, whole]
    path = tmp_path / "questions.jsonl"
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\n" + whole.encode())

    ended = fased(tmp_path, *words, "--batch", str(path))

    assert ended.returncode == 1
    assert ended.stderr == ""
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [answer.get("error", {}).get("line") for answer in answers] == [
        None,
        *(2, 3, 4, 5),
        None,
        7,
        None,
    ]
    assert {answers[at]["error"]["reason"] for at in (1, 2, 3, 4, 6)} == {"INVALID_JSON"}


def test_a_schedule_that_is_refused_is_an_answer(tmp_path: Path) -> None:
    question = {"schedule": {"kind": "cron", "expr": "0 99 * * *"}, "fromMs": 0}
    ended = batch(tmp_path, ("schedule", "preview"), [json.dumps(question)])
    assert ended.returncode == 0
    error = json.loads(ended.stdout)["error"]
    assert error["reason"] == "INVALID_CRON"
    assert "99" in error["message"]


def test_a_batch_reads_standard_input_too(tmp_path: Path) -> None:
    question = {"schedule": {"kind": "every", "everyMs": 1000}, "fromMs": 0, "count": 2}
    ended = fased(tmp_path, "schedule", "preview", "--batch", "-", stdin=json.dumps(question))
    assert json.loads(ended.stdout) == {"next": [1000, 2000]}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A configuration and a message in JSON5, as the words that name them."""
    config, message = tmp_path / "fased.json", tmp_path / "message.json5"
    config.write_text(
        """{
          // The shape of the guide.
          agents: { list: [{ id: "main" }, { id: "coding" }] },
          bindings: [
            { agentId: "coding", match: { channel: "discord", accountId: "coding" } },
            { agentId: "main", match: { channel: "discord", peer: { kind: "direct", id: "7" } } },
            { agentId: "ghost", match: { channel: "discord", accountId: "*" } },
          ],
          sesion: {},
        }""",
        encoding="utf-8",
    )
    message.write_text(
        "{ channel: 'Discord', accountId: 'coding', peer: { kind: 'direct', id: 7 } }",
        encoding="utf-8",
    )
    return ["--config", str(config), "--message", str(message)]


def test_an_explanation_shows_the_winner_and_each_loser_with_what_failed(
    tmp_path: Path, files: list[str]
) -> None:
    ended = fased(tmp_path, "route", "explain", *files, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    assert (answer["agentId"], answer["matchedBy"]) == ("coding", "binding.account")
    failed = {each["binding"]: each["failed"] for each in answer["candidates"]}
    assert failed == {"bindings[1]": "account", "bindings[2]": "OUTRANKED"}
    assert "sesion" in {each["setupTarget"] for each in answer["warnings"]}

    table = fased(tmp_path, "route", "explain", *files)
    assert table.returncode == 0, table.stderr
    for word in ("coding", "binding.account", "bindings[1]", "OUTRANKED", "UNKNOWN_KEY"):
        assert word in table.stdout


def test_a_preview_lists_the_slots_with_the_wall_clock_of_the_zone(tmp_path: Path) -> None:
    words = ["--kind", "cron", "--expr", "30 2 * * *", "--tz", "Europe/Berlin", "--count", "2"]
    words += ["--from", "2026-03-28T12:00Z"]
    ended = fased(tmp_path, "schedule", "preview", *words)
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert rows[1:] == [
        ["2026-03-29T01:00:00Z", "2026-03-29", "03:00:00", "Europe/Berlin"],
        ["2026-03-30T00:30:00Z", "2026-03-30", "02:30:00", "Europe/Berlin"],
    ]
    ended = fased(tmp_path, "schedule", "preview", *words, "-o", "json")
    assert json.loads(ended.stdout) == {"next": [1774746000000, 1774830600000]}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--kind", "cron", "--expr", "0 99 * * *"], "INVALID_CRON"),
        (["--kind", "every", "--expr", "soon"], "INVALID_DURATION"),
        (["--kind", "at", "--expr", "2020-01-01", "--from", "2026-01-01"], "AT_IN_THE_PAST"),
        (["--kind", "cron", "--expr", "* * * * *", "--tz", "Mars/Base"], "INVALID_ZONE"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, words: list[str], reason: str
) -> None:
    ended = fased(tmp_path, "schedule", "preview", *words)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: ")
    assert f"({reason})" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "{a: 1", "[" * 3000, "\x00"])
def test_a_file_that_is_not_json_is_refused_in_one_line_that_names_it(
    tmp_path: Path, files: list[str], text: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    ended = fased(tmp_path, "route", "explain", "--config", str(path), *files[2:])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "broken.json" in ended.stderr
    assert "(INVALID_JSON)" in ended.stderr
    assert ended.stderr.count("\n") == 1
