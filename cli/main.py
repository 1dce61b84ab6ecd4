"""The `fased` command, also installed as `kubectl-fased`: its parts and how it ends.

Decides which module serves which words and the exit code. Modules are imported when they are
called for, so that help and the offline helpers start without gRPC.
"""

import asyncio
import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from cli import failures, kubectl
from cli.options import Format, Invocation, NamespaceOption, Output, text_or_file
from fased.core.errors import FasedError
from fased.core.names import DEFAULT_NAMESPACE

GROUPS = {
    "agents": ("cli.agents", "Agents: who answers, and for which chats."),
    "providers": ("cli.providers", "Model providers: who serves the models."),
    "task": ("cli.tasks", "Saved work: make it, run it, see what became of it."),
    "channels": ("cli.channels", "Channel accounts: the bots that people write to."),
    "pairing": ("cli.pairing", "Who may write to a channel account."),
    "sessions": ("cli.sessions", "Conversations and what was said in them."),
    "token": ("cli.tokens", "Tokens that let people and programs call the gateway."),
    "gateway": ("cli.gateway", "The gateway that `fased up` runs on this machine."),
    "route": ("cli.route", "Try routing on files; needs no gateway."),
    "schedule": ("cli.schedule", "Try schedules; needs no gateway."),
}


class LazyGroup(TyperGroup):
    """Commands whose module is imported when one of them is called, not to list them."""

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, Any, list[str]]:  # the classes of typer's own parser are not public
        """The command that the words begin with, and the words after it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in GROUPS and command is not None:
            module, help_text = GROUPS[name]
            command = typer.main.get_group(import_module(module).app)
            command.help = help_text
        return name, command, rest


# Plain help and errors: each error is one line, and examples keep their line ends.
app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
for _name, (_module, _help) in GROUPS.items():
    app.add_typer(typer.Typer(), name=_name, help=_help)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A character that the terminal cannot show is no reason to stop.
            stream.reconfigure(errors="backslashreplace")
    invocation = Invocation()
    try:
        if kubectl.is_plugin(sys.argv[0]):
            kubectl.prepare(os.environ)
        app(obj=invocation)
    except FasedError as error:
        sys.exit(failures.report(error, invocation.format))
    except OSError as exc:
        refused = FasedError(
            f"{exc.filename or 'system'}: {exc.strerror or exc}", reason="IO_ERROR"
        )
        sys.exit(failures.report(refused, invocation.format))


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = metadata.version("fased")
    except metadata.PackageNotFoundError:
        version = "from source, not installed"
    typer.echo(f"fased {version}")
    raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    """Fased, an agent gateway for teams.

    \b
    Examples:
      fased up                                  start everything on this machine
      fased chat                                talk to the default Agent
      fased task add tick --every 1h --prompt "look around"

    \b
    The gateway is the one that `fased up` started (FASED_STATE_DIR, else ~/.fased),
    or the one that FASED_GATEWAY and FASED_TOKEN name. As kubectl fased, it is the one in
    the cluster of kubectl's current context, and that context's namespace is acted in.
    """


@app.command()
def up(
    state_dir: Annotated[
        Path | None,
        typer.Option(envvar="FASED_STATE_DIR", help="Where everything is kept.  [~/.fased]"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 18789,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Run every service in this process, until Ctrl-C.

    \b
    Examples:
      fased up
      fased up --state-dir /srv/fased --port 8080
    """
    from cli import up as one_process

    folder = state_dir or Path.home() / ".fased"
    one_process.up(one_process.Options(folder.expanduser(), host=host, port=port))


@app.command()
def migrate(
    database_url: Annotated[
        str, typer.Option(envvar="FASED_DATABASE_URL", help="postgresql://user@host:port/database")
    ],
    kafka_bootstrap: Annotated[
        str, typer.Option(envvar="FASED_KAFKA_BOOTSTRAP", help="Brokers as host:port, by commas.")
    ] = "",
    kafka_replicas: Annotated[
        int, typer.Option(envvar="FASED_KAFKA_REPLICAS", min=1, help="Copies of each partition.")
    ] = 1,
) -> None:
    """Make a database's schemas and a broker's topics what this version needs.

    Safe to repeat, and safe beside the version that runs. How the brokers are spoken to is read
    from FASED_KAFKA_TLS, FASED_KAFKA_USERNAME, FASED_KAFKA_PASSWORD and their like, as the
    services read it.

    \b
    Examples:
      fased migrate --database-url postgresql://fased@db/fased
      fased migrate --database-url postgresql://fased@db/fased --kafka-bootstrap kafka:9092
    """
    from cli import migrate as migration
    from fased.settings import KafkaSettings, read

    kafka = read(KafkaSettings).model_copy(update={"kafka_bootstrap": kafka_bootstrap})
    asyncio.run(migration.run(database_url, kafka, kafka_replicas))


@app.command()
def chat(
    message: Annotated[
        str | None,
        typer.Option(
            "--message",
            "-m",
            metavar="TEXT|@FILE",
            parser=text_or_file,
            help="Send this, print the answer and end.",
        ),
    ] = None,
    agent: Annotated[str, typer.Option(help="The Agent; the default one unless given.")] = "",
    session: Annotated[
        str, typer.Option(help="A session's key; the Agent's main one unless given.")
    ] = "",
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for an answer to -m.")
    ] = 60.0,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Talk to an Agent; Ctrl-D leaves. Commands such as /help work here too.

    \b
    Examples:
      fased chat
      fased chat --agent coding
      fased chat -m "What is on today?" --wait 120
    """
    from cli import chat as conversation

    conversation.chat(
        conversation.Place(namespace, agent, session), message, wait_s=wait_s, output=output
    )


if __name__ == "__main__":
    main()
