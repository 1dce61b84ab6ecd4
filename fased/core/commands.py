"""What a chat command asks for, as values. Decides their shape; not how they are written in a chat
(`command_words.py`), nor what comes of them.

Every command has a `key`, its name in the catalogue (`command_catalogue.py`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fased.core.names import RunId
from fased.core.task_words import TaskDraft

DEFAULT_RUNS_SHOWN = 10


class ModelAction(StrEnum):
    """What /model does."""

    SET = "set"
    LIST = "list"
    STATUS = "status"


class Decision(StrEnum):
    """The answer to a request for approval."""

    ALLOW = "allow"
    DENY = "deny"


class AgentAction(StrEnum):
    """What /agent does."""

    CURRENT = "current"
    LIST = "list"
    SWITCH = "switch"


class SessionAction(StrEnum):
    """What /session does."""

    CURRENT = "current"
    LIST = "list"
    NEW = "new"
    SWITCH = "switch"
    CLOSE = "close"


class TaskVerb(StrEnum):
    """What is done with one task, and needs nothing but the task."""

    SHOW = "show"
    RUN = "run"
    FORCE = "force"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    LAST = "last"
    APPROVE = "approve"
    REPAIR = "repair"


class RunVerb(StrEnum):
    """What is done with one run."""

    SHOW = "run-show"
    CANCEL = "cancel-run"
    RETRY = "retry-run"
    CLEAR_STALE = "clear-stale"


@dataclass(frozen=True, slots=True)
class Help:
    """Show the commands."""

    key: ClassVar[str] = "help"


@dataclass(frozen=True, slots=True)
class Status:
    """Show the chat's Agent, session and runs."""

    key: ClassVar[str] = "status"


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Show who the sender is."""

    key: ClassVar[str] = "whoami"


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop what runs in the session."""

    key: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class New:
    """Start the session afresh, with `model` for it, empty for the Agent's own."""

    key: ClassVar[str] = "new"
    model: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """Start the session afresh."""

    key: ClassVar[str] = "reset"


@dataclass(frozen=True, slots=True)
class Model:
    """Show or set the session's model; `ref` is empty but for `set`."""

    key: ClassVar[str] = "model"
    action: ModelAction = ModelAction.STATUS
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Show tokens and cost."""

    key: ClassVar[str] = "usage"


@dataclass(frozen=True, slots=True)
class Approve:
    """Answer the request for approval `id`."""

    key: ClassVar[str] = "approve"
    id: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """Show or choose the chat's Agent; `target`, an id or a name, is empty but for `switch`."""

    key: ClassVar[str] = "agent"
    action: AgentAction = AgentAction.CURRENT
    target: str = ""


@dataclass(frozen=True, slots=True)
class SessionCommand:
    """Show or choose the chat's session; `name` is given for `switch`, and may be for `new`."""

    key: ClassVar[str] = "session"
    action: SessionAction = SessionAction.CURRENT
    name: str = ""


@dataclass(frozen=True, slots=True)
class TaskNew:
    """Make tasks, at least one."""

    key: ClassVar[str] = "task new"
    drafts: tuple[TaskDraft, ...]


@dataclass(frozen=True, slots=True)
class TaskList:
    """List the session's tasks, or with `all` those of the whole Agent."""

    key: ClassVar[str] = "task list"
    all: bool = False


@dataclass(frozen=True, slots=True)
class TaskAction:
    """Do `verb` with the task `ref`: the prefix of an id, or an exact name."""

    verb: TaskVerb
    ref: str

    @property
    def key(self) -> str:
        """The command's key in the catalogue."""
        return f"task {self.verb}"


@dataclass(frozen=True, slots=True)
class TaskRuns:
    """List the last `count` runs of the task `ref`."""

    key: ClassVar[str] = "task runs"
    ref: str
    count: int = DEFAULT_RUNS_SHOWN


@dataclass(frozen=True, slots=True)
class TaskEdit:
    """Change the task `ref` as `words` say."""

    key: ClassVar[str] = "task edit"
    ref: str
    words: str


@dataclass(frozen=True, slots=True)
class TaskAsk:
    """Ask the helper Agents of the task `ref`; an empty `question` asks what the task asks."""

    key: ClassVar[str] = "task ask"
    ref: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class RunAction:
    """Do `verb` with a run."""

    verb: RunVerb
    run: RunId

    @property
    def key(self) -> str:
        """The command's key in the catalogue."""
        return f"task {self.verb}"


Command = (
    Help
    | Status
    | WhoAmI
    | Stop
    | New
    | Reset
    | Model
    | Usage
    | Approve
    | AgentCommand
    | SessionCommand
    | TaskNew
    | TaskList
    | TaskAction
    | TaskRuns
    | TaskEdit
    | TaskAsk
    | RunAction
)
