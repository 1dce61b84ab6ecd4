"""The text of a message read as a command.

Decides what the words ask for; not whether this sender may ask, nor what comes of it. A message
that begins with no name of a command is an ordinary message. One that does and goes on with words
the command does not take is refused, rather than half understood.
"""

import difflib
import re
from collections.abc import Collection, Mapping

from fased.core import command_catalogue, task_flags, task_words
from fased.core.commands import (
    DEFAULT_RUNS_SHOWN,
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

MAX_RUNS_SHOWN = 100
MAX_RUN_ID = 2**63 - 1

_COMMAND = re.compile(r"/(?P<name>[a-z]+)(?:@[\w.-]+)?(?::\s*|\s+|\Z)(?P<words>.*)", re.I | re.S)
_COUNT = re.compile(r"[0-9]{1,3}")
_RUN_ID = re.compile(r"[1-9][0-9]{0,18}")
_TASK_WORDS = ("new", "list", "runs", "edit", "ask", *TaskVerb, *RunVerb)
_WORDLESS: Mapping[str, Command] = {
    "help": Help(),
    "status": Status(),
    "whoami": WhoAmI(),
    "stop": Stop(),
    "reset": Reset(),
    "usage": Usage(),
}


def parse_command(text: str) -> Command | None:
    """The command that `text` is, or None for an ordinary message.

    Names are read in any case, and `:` or `@botname` may follow them. A slash word that names no
    command (`/etc/hosts`, `/shrug`) makes an ordinary message. Raises InvalidArgument with reason
    INVALID_COMMAND or UNKNOWN_SUBCOMMAND for words the command does not take, naming the `field`
    and how the command is written, and for `/task new` what `task_words.parse_task_drafts` does.
    """
    match = _COMMAND.match(text.strip())
    if match is None:
        return None
    name, words = match["name"].lower(), match["words"].strip()
    if name in _WORDLESS:
        return _checked_alone(name, words)
    match name:
        case "new":
            return New(_model_ref("new", words))
        case "model":
            return _model(words)
        case "approve":
            return _approve(words)
        case "agent":
            return _agent(words)
        case "session":
            return _session(words)
        case "task":
            return _task(words)
        case _:
            return None


def _checked_alone(name: str, words: str) -> Command:
    if words:
        raise _misused(name, f"/{name} takes no words, not {words[:40]!r}", "command")
    return _WORDLESS[name]


def _model_ref(key: str, words: str) -> str:
    if len(words.split()) > 1:
        raise _misused(key, f"{words[:40]!r} is no model reference", "model")
    return words


def _model(words: str) -> Model:
    match words.lower():
        case "" | "status":
            return Model(ModelAction.STATUS)
        case "list":
            return Model(ModelAction.LIST)
        case _:
            return Model(ModelAction.SET, _model_ref("model", words))


def _approve(words: str) -> Approve:
    approval, _, answer = words.partition(" ")
    decision = answer.strip().lower()
    if decision not in tuple(Decision):
        raise _misused("approve", "an approval needs its id, and allow or deny", "decision")
    return Approve(approval, Decision(decision))


def _agent(words: str) -> AgentCommand:
    word, rest = _subcommand("agent", words or AgentAction.CURRENT, tuple(AgentAction))
    _check_rest("agent", rest, takes=word == AgentAction.SWITCH, needs=word == AgentAction.SWITCH)
    return AgentCommand(AgentAction(word), task_flags.unquoted(rest))


def _session(words: str) -> SessionCommand:
    word, rest = _subcommand("session", words or SessionAction.CURRENT, tuple(SessionAction))
    takes_name = word in (SessionAction.NEW, SessionAction.SWITCH)
    _check_rest("session", rest, takes=takes_name, needs=word == SessionAction.SWITCH)
    return SessionCommand(SessionAction(word), task_flags.unquoted(rest))


def _task(words: str) -> Command:
    word, rest = _subcommand("task", words, _TASK_WORDS)
    match word:
        case "new":
            return TaskNew(task_words.parse_task_drafts(rest))
        case "list":
            _check_rest("task list", rest, takes=rest.lower() == "all", needs=False)
            return TaskList(all=bool(rest))
        case "runs":
            return _task_runs(rest)
        case "edit":
            return _task_edit(rest)
        case "ask":
            ref, question = task_flags.first_word(rest)
            return TaskAsk(_task_ref("task ask", ref), question)
        case _ if word in tuple(TaskVerb):
            return TaskAction(TaskVerb(word), _task_ref(f"task {word}", rest))
        case _:
            return _run_action(RunVerb(word), rest)


def _task_runs(words: str) -> TaskRuns:
    """`<id> [n]`, or `[n] <id>`; one word is the task, though it be all digits."""
    first, _, after = words.partition(" ")
    before, _, last = words.rpartition(" ")
    ref, count = words, DEFAULT_RUNS_SHOWN
    if before and _COUNT.fullmatch(last):
        ref, count = before, int(last)
    elif after and _COUNT.fullmatch(first):
        ref, count = after, int(first)
    if not 1 <= count <= MAX_RUNS_SHOWN:
        raise _misused("task runs", f"n is 1 to {MAX_RUNS_SHOWN}", "n")
    return TaskRuns(_task_ref("task runs", ref), count)


def _task_edit(words: str) -> TaskEdit:
    ref, edit = task_flags.first_word(words)
    if ref and not edit:
        raise _misused("task edit", "an edit says what to change", "words")
    return TaskEdit(_task_ref("task edit", ref), edit)


def _task_ref(key: str, words: str) -> str:
    ref = task_flags.unquoted(words.strip()).strip()
    if not ref:
        raise _misused(key, "a task is named by its id, the beginning of it, or its name", "task")
    return ref


def _run_action(verb: RunVerb, words: str) -> RunAction:
    digits = words.removeprefix("#")
    if not _RUN_ID.fullmatch(digits) or int(digits) > MAX_RUN_ID:
        raise _misused(f"task {verb}", f"{words[:40]!r} is no run's number", "run")
    return RunAction(verb, RunId(int(digits)))


def _subcommand(command: str, words: str, known: Collection[str]) -> tuple[str, str]:
    """The first word, lower-cased, which must be among `known`, and the words after it."""
    word, *rest = words.split(maxsplit=1) or [""]
    lowered = word.lower().removesuffix(":")
    if lowered not in known:
        near = difflib.get_close_matches(lowered[:40], known, n=3) or known
        problem = f"unknown word {word[:40]!r}" if word else "a word is missing"
        raise InvalidArgument(
            f"{problem} after /{command}: write one of {', '.join(near)}",
            reason="UNKNOWN_SUBCOMMAND",
            metadata={"field": "subcommand"},
        )
    return lowered, "".join(rest)


def _check_rest(key: str, rest: str, *, takes: bool, needs: bool) -> None:
    if rest and not takes:
        raise _misused(key, f"{rest[:40]!r} says nothing here", "words")
    if needs and not rest:
        raise _misused(key, "a name is missing", "name")


def _misused(key: str, message: str, field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{message}: write {command_catalogue.usage_of(key)}",
        reason="INVALID_COMMAND",
        metadata={"field": field},
    )
