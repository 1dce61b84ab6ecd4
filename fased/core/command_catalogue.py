"""The catalogue of chat commands: the words /help, the CLI and the console show for each.

Decides names and wording; not what a command does, nor which of them a landing serves.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One command as people see it; `key` is its name without the slash."""

    key: str
    usage: str
    summary: str


COMMANDS = (
    CatalogueEntry("help", "/help", "show the commands"),
    CatalogueEntry("status", "/status", "show this chat's Agent, session and what runs"),
    CatalogueEntry("whoami", "/whoami", "show who you are to Fased"),
    CatalogueEntry("stop", "/stop", "stop what runs in this session"),
    CatalogueEntry("new", "/new [model]", "start the session afresh"),
    CatalogueEntry("reset", "/reset", "start the session afresh"),
    CatalogueEntry("model", "/model [<ref>|list|status]", "show or set this session's model"),
    CatalogueEntry("usage", "/usage", "show tokens and cost"),
    CatalogueEntry("approve", "/approve <id> allow|deny", "answer a request for approval"),
    CatalogueEntry(
        "agent", "/agent [current|list|switch <id or name>]", "choose this chat's Agent"
    ),
    CatalogueEntry(
        "session",
        "/session [current|list|new [name]|switch <name|slug|main>|close]",
        "choose this chat's session",
    ),
    CatalogueEntry(
        "task new",
        "/task new every 1h|at <ISO time>|cron <expr> --|daily|manual [flags] [<name>:] <prompt>",
        "make a task that answers here",
    ),
    CatalogueEntry("task list", "/task list [all]", "list the tasks of this session, or all"),
    CatalogueEntry("task show", "/task show <id>", "show all of a task"),
    CatalogueEntry("task run", "/task run <id>", "run a task now and say how it ended"),
    CatalogueEntry("task force", "/task force <id>", "run a task now, even beside a live run"),
    CatalogueEntry("task pause", "/task pause <id>", "let a task rest"),
    CatalogueEntry(
        "task resume", "/task resume <id>", "check a task's setup and let it fire again"
    ),
    CatalogueEntry("task cancel", "/task cancel <id>", "end a task for good"),
    CatalogueEntry("task runs", "/task runs <id> [n]", "list a task's last runs"),
    CatalogueEntry("task last", "/task last <id>", "show a task's last result"),
    CatalogueEntry("task edit", "/task edit <id> <words>", "change a task, as in: every 30m"),
    CatalogueEntry("task approve", "/task approve <id>", "approve what a task waits for"),
    CatalogueEntry("task ask", "/task ask <id> [question]", "ask a task's helper Agents"),
    CatalogueEntry("task repair", "/task repair <id>", "repair a task's sources"),
    CatalogueEntry("task run-show", "/task run-show <run>", "show all of a run"),
    CatalogueEntry("task cancel-run", "/task cancel-run <run>", "cancel a run"),
    CatalogueEntry("task retry-run", "/task retry-run <run>", "try an ended run again"),
    CatalogueEntry(
        "task clear-stale", "/task clear-stale <run>", "free a run whose worker is gone"
    ),
)
_USAGES = {entry.key: entry.usage for entry in COMMANDS}


def help_text(available: Collection[str]) -> str:
    """The entries whose keys are in `available`, one a line, in the catalogue's order."""
    lines = [f"{entry.usage} - {entry.summary}" for entry in COMMANDS if entry.key in available]
    return "\n".join(["Commands:", *lines])


def usage_of(key: str) -> str:
    """How the command `key` is written; raises KeyError for a key the catalogue does not hold."""
    return _USAGES[key]
