"""Chat commands: which texts are commands, what they ask for, and what is said to misspelt ones."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fased.core import command_catalogue
from fased.core.command_words import parse_command
from fased.core.commands import (
    AgentAction,
    AgentCommand,
    Approve,
    Command,
    Decision,
    Help,
    Model,
    ModelAction,
    New,
    Reset,
    RunAction,
    RunVerb,
    SessionAction,
    SessionCommand,
    Status,
    Stop,
    TaskAction,
    TaskAsk,
    TaskEdit,
    TaskList,
    TaskNew,
    TaskRuns,
    TaskVerb,
    Usage,
    WhoAmI,
)
from fased.core.errors import InvalidArgument
from fased.core.names import RunId

COMMANDS: list[tuple[str, Command]] = [
    ("/help", Help()),
    ("/status", Status()),
    ("/whoami", WhoAmI()),
    ("/stop", Stop()),
    ("/reset", Reset()),
    ("/usage", Usage()),
    ("/new", New()),
    ("/new ollama/qwen3", New("ollama/qwen3")),
    ("/model", Model(ModelAction.STATUS)),
    ("/model status", Model(ModelAction.STATUS)),
    ("/model list", Model(ModelAction.LIST)),
    ("/model openai/gpt-5", Model(ModelAction.SET, "openai/gpt-5")),
    ("/approve a1b2 allow", Approve("a1b2", Decision.ALLOW)),
    ("/approve a1b2 Deny", Approve("a1b2", Decision.DENY)),
    ("/agent", AgentCommand(AgentAction.CURRENT)),
    ("/agent list", AgentCommand(AgentAction.LIST)),
    ("/agent switch Research Agent", AgentCommand(AgentAction.SWITCH, "Research Agent")),
    ("/session", SessionCommand(SessionAction.CURRENT)),
    ("/session new", SessionCommand(SessionAction.NEW)),
    ("/session new Market watch", SessionCommand(SessionAction.NEW, "Market watch")),
    ('/session switch "Market watch"', SessionCommand(SessionAction.SWITCH, "Market watch")),
    ("/session close", SessionCommand(SessionAction.CLOSE)),
    ("/task list", TaskList()),
    ("/task list all", TaskList(all=True)),
    ("/task runs 0f3a", TaskRuns("0f3a")),
    ("/task runs 0f3a 5", TaskRuns("0f3a", 5)),
    ("/task runs 5 Service watch", TaskRuns("Service watch", 5)),
    ("/task runs 12345678", TaskRuns("12345678")),
    ("/task edit 0f3a every 30m", TaskEdit("0f3a", "every 30m")),
    ('/task edit "Service watch" make it daily', TaskEdit("Service watch", "make it daily")),
    ("/task ask 0f3a", TaskAsk("0f3a")),
    ("/task ask 0f3a is it up?", TaskAsk("0f3a", "is it up?")),
    *((f"/task {verb} 0f3a", TaskAction(verb, "0f3a")) for verb in TaskVerb),
    *((f"/task {verb} 17", RunAction(verb, RunId(17))) for verb in RunVerb),
    ("/task cancel-run #17", RunAction(RunVerb.CANCEL, RunId(17))),
]

MISUSES = [
    ("/help me", "INVALID_COMMAND", "command", "/help"),
    ("/stop now", "INVALID_COMMAND", "command", "/stop"),
    ("/new two words", "INVALID_COMMAND", "model", "/new [model]"),
    ("/model two words", "INVALID_COMMAND", "model", "/model"),
    ("/approve", "INVALID_COMMAND", "decision", "/approve <id> allow|deny"),
    ("/approve a1b2 maybe", "INVALID_COMMAND", "decision", "/approve <id> allow|deny"),
    ("/agent swich x", "UNKNOWN_SUBCOMMAND", "subcommand", "switch"),
    ("/agent switch", "INVALID_COMMAND", "name", "/agent"),
    ("/agent list all", "INVALID_COMMAND", "words", "/agent"),
    ("/session switch", "INVALID_COMMAND", "name", "/session"),
    ("/session close it", "INVALID_COMMAND", "words", "/session"),
    ("/task", "UNKNOWN_SUBCOMMAND", "subcommand", "new, list, runs"),
    ("/task cancle 0f3a", "UNKNOWN_SUBCOMMAND", "subcommand", "cancel"),
    ("/task list some", "INVALID_COMMAND", "words", "/task list [all]"),
    ("/task show", "INVALID_COMMAND", "task", "/task show <id>"),
    ('/task show ""', "INVALID_COMMAND", "task", "/task show <id>"),
    ("/task runs 0f3a 0", "INVALID_COMMAND", "n", "/task runs <id> [n]"),
    ("/task runs 0f3a 101", "INVALID_COMMAND", "n", "/task runs <id> [n]"),
    ("/task edit 0f3a", "INVALID_COMMAND", "words", "/task edit <id> <words>"),
    ("/task edit", "INVALID_COMMAND", "task", "/task edit <id> <words>"),
    ("/task ask", "INVALID_COMMAND", "task", "/task ask <id>"),
    ("/task run-show", "INVALID_COMMAND", "run", "/task run-show <run>"),
    ("/task retry-run seven", "INVALID_COMMAND", "run", "/task retry-run <run>"),
    (f"/task clear-stale {2**63}", "INVALID_COMMAND", "run", "/task clear-stale <run>"),
]


@pytest.mark.parametrize(("text", "command"), COMMANDS, ids=[text for text, _ in COMMANDS])
def test_each_command_is_read_as_what_it_asks_for(text: str, command: Command) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    "text",
    ["/Task: List all", "/task@fased_bot list all", "/task:list  ALL", "  /task list: all\n"],
)
def test_case_a_colon_and_the_name_of_the_bot_change_nothing(text: str) -> None:
    assert parse_command(text) == TaskList(all=True)


@pytest.mark.parametrize(
    "text",
    ["", "help", "please /help", "/", "/ help", "//help", "/etc/hosts", "/shrug", "/tasks list",
     "/task-list", "/helpme", "/status/page"],
)  # fmt: skip
def test_what_names_no_command_is_an_ordinary_message(text: str) -> None:
    assert parse_command(text) is None


@pytest.mark.parametrize(
    ("text", "reason", "field", "hint"), MISUSES, ids=[text for text, *_ in MISUSES]
)
def test_a_misused_command_is_refused_with_its_field_and_the_way_to_write_it(
    text: str, reason: str, field: str, hint: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse_command(text)
    assert (refusal.value.reason, refusal.value.metadata["field"]) == (reason, field)
    assert hint in refusal.value.message


def test_task_new_carries_its_drafts() -> None:
    command = parse_command("/task new every 5s --mode no-model Tick: tick")
    assert isinstance(command, TaskNew)
    assert [(draft.name, draft.prompt) for draft in command.drafts] == [("Tick", "tick")]


def test_every_command_has_its_entry_in_the_catalogue() -> None:
    keys = [entry.key for entry in command_catalogue.COMMANDS]
    assert len(set(keys)) == len(keys)
    assert {command.key for _, command in COMMANDS} | {TaskNew.key} == set(keys)


def test_help_shows_what_is_available_and_nothing_else() -> None:
    shown = command_catalogue.help_text({"help", "task list"})
    assert shown.splitlines() == [
        "Commands:",
        "/help - show the commands",
        "/task list [all] - list the tasks of this session, or all",
    ]


NAMES = st.sampled_from([entry.key for entry in command_catalogue.COMMANDS])
SCRAPS = st.sampled_from(
    ["every 5s", "every", "at", "cron", "-- ", "--", "—", "--mode", "--mode=auto", "--tz", '"', "'",
     "“x”", "daily", "N:", "\n", "all", "17", "#3", "5m", "2026-01-31", "09:00", "\ud800", "\x00"]
)  # fmt: skip
TEXTS = st.builds(
    lambda name, glue, scraps: f"/{name}{glue}{glue.join(scraps)}",
    NAMES,
    st.sampled_from([" ", ": ", "\n"]),
    st.lists(SCRAPS | st.text(max_size=12), max_size=12),
)


def outcome_of(text: str) -> Command | str | None:
    try:
        return parse_command(text)
    except InvalidArgument as refusal:
        return refusal.reason if refusal.metadata["field"] else ""


@given(TEXTS | st.text().map(lambda text: f"/{text}") | st.text())
@example("/task new every 5s \u200b")
@example("/task new daily \u00a0:\u00a0")
def test_law_any_text_is_a_command_or_a_message_or_refused(text: str) -> None:
    outcome = outcome_of(text)
    assert outcome_of(text) == outcome
    if isinstance(outcome, str):
        assert outcome.isupper()
    elif isinstance(outcome, TaskNew):
        assert all(draft.name and draft.prompt for draft in outcome.drafts)


@given(st.text(st.characters(exclude_characters="/")))
def test_law_a_text_that_does_not_begin_with_a_slash_is_a_message(text: str) -> None:
    assert parse_command(text) is None
