"""The binding commands of `fased agents`: which chats go to which Agent. Decides words and layout;
which binding wins is decided by the router.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from cli import connection
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, note, show
from fased.api.router.v1 import binding_pb2, router_service_pb2, router_service_pb2_grpc
from fased.api.types.v1 import message_pb2
from fased.core.bindings import ANY_ACCOUNT
from fased.core.names import DEFAULT_ACCOUNT, DEFAULT_NAMESPACE
from fased.wire.plain import id_of, plain

Listed = router_service_pb2.ListBindingsResponse


def add_commands(app: typer.Typer) -> None:
    """Add the binding commands to those of `fased agents`."""
    app.command("bind")(bind)
    app.command("unbind")(unbind)
    app.command("bindings")(list_bindings)


def bind(
    agent: Annotated[str, typer.Option(help="The Agent's id.")],
    chats: Annotated[
        list[str],
        typer.Option(
            "--bind", metavar="CHANNEL[:ACCOUNT]", help="Account default unless given; * for all."
        ),
    ],
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Send what comes in on channel accounts to an Agent.

    \b
    Examples:
      fased agents bind --agent coding --bind discord:coding
      fased agents bind --agent support --bind telegram --bind 'slack:*'
    """
    matches = [_match(text) for text in chats]

    async def create(to: Connection) -> list[binding_pb2.Binding]:
        routes = router_service_pb2_grpc.RouteServiceStub(to.channel)
        request = router_service_pb2.ListBindingsRequest(parent=to.parent)
        version = (await routes.ListBindings(request)).version
        made = []
        for match in matches:
            response = await routes.CreateBinding(
                router_service_pb2.CreateBindingRequest(
                    parent=to.parent,
                    binding=binding_pb2.Binding(agent_id=agent, match=match),
                    version=version,
                    request_id=new_request_id(),
                )
            )
            made.append(response.binding)
            version = response.version
        return made

    made = connection.run(namespace, create)
    listed = connection.run(namespace, read)
    show(output, {"bindings": [plain(each) for each in made]}, _bindings_table(made))
    _note_lint(listed)


def unbind(
    binding: Annotated[str, typer.Argument(help="Its id, as fased agents bindings shows it.")],
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Remove a binding.

    \b
    Example:
      fased agents unbind 3f2a9c1b7d4e
    """

    async def delete(to: Connection) -> None:
        await router_service_pb2_grpc.RouteServiceStub(to.channel).DeleteBinding(
            router_service_pb2.DeleteBindingRequest(
                name=to.name("bindings", binding), request_id=new_request_id()
            )
        )

    connection.run(namespace, delete)
    show(output, {"removed": binding}, f"Binding {binding} was removed.")


def list_bindings(
    agent: Annotated[str, typer.Option(help="Only those of this Agent.")] = "",
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """List bindings, in the order that decides.

    \b
    Examples:
      fased agents bindings
      fased agents bindings --agent coding
    """
    listed = connection.run(namespace, lambda to: read(to, agent))
    value = {
        "bindings": [plain(each) for each in listed.bindings],
        "lint": [plain(each) for each in listed.lint],
    }
    show(output, value, _bindings_table(listed.bindings))
    _note_lint(listed)


async def read(to: Connection, agent: str = "") -> Listed:
    """The bindings of an Agent, or all, in the order that decides."""
    return await router_service_pb2_grpc.RouteServiceStub(to.channel).ListBindings(
        router_service_pb2.ListBindingsRequest(parent=to.parent, agent_id=agent)
    )


def _note_lint(listed: Listed) -> None:
    """Say what is odd about the bindings, beside the answer."""
    for finding in listed.lint:
        note(f"{finding.reason}: {finding.message} ({finding.setup_target})")


def _match(text: str) -> binding_pb2.Match:
    channel, _, account = text.partition(":")
    if not channel.strip():
        raise typer.BadParameter(f"{text!r} names no channel: write CHANNEL or CHANNEL:ACCOUNT")
    return binding_pb2.Match(channel=channel, account_id=account)


def _bindings_table(bound: Sequence[binding_pb2.Binding]) -> Table:
    rows = [
        (id_of(each.name), each.agent_id, described(each.match), owner(each.managed_by))
        for each in bound
    ]
    return Table(("BINDING", "AGENT", "CHATS", "DEFINED IN"), rows, empty="No bindings.")


def described(match: binding_pb2.Match) -> str:
    """The chats that a binding is about, in a few words."""
    account = match.account_id or DEFAULT_ACCOUNT
    words = [f"{match.channel}:{'all accounts' if account == ANY_ACCOUNT else account}"]
    if match.HasField("peer"):
        kind = message_pb2.PeerKind.Name(match.peer.kind).removeprefix("PEER_KIND_").lower()
        words.append(f"{kind} {match.peer.id}")
    if match.guild_id:
        words.append(f"guild {match.guild_id}")
    if match.role_ids:
        words.append(f"roles {', '.join(match.role_ids)}")
    if match.team_id:
        words.append(f"team {match.team_id}")
    return " ".join(words)


def owner(managed_by: str) -> str:
    """Who defines it, as people know it; `-` for a command."""
    return managed_by.partition(":")[2] or "-"
