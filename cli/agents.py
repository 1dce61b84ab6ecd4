"""`fased agents`: Agents and the bindings that send chats to them. Decides words and layout; what
may be changed is decided by the services that own them.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import connection
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output, text_or_file
from cli.output import Table, note, show
from cli.plain import Plain, plain
from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.router.v1 import binding_pb2, router_service_pb2, router_service_pb2_grpc
from fased.api.types.v1 import message_pb2
from fased.core.bindings import ANY_ACCOUNT
from fased.core.names import DEFAULT_ACCOUNT, DEFAULT_NAMESPACE

PAGE_SIZE = 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

AgentArgument = Annotated[str, typer.Argument(metavar="NAME", help="The Agent's id.")]
AgentOption = Annotated[str, typer.Option("--agent", help="The Agent's id.")]
Listed = policy_service_pb2.ListAgentsResponse
Bound = router_service_pb2.ListBindingsResponse


@app.callback()
def group() -> None:
    """Agents."""


@app.command("list")
def list_agents(
    bindings: Annotated[bool, typer.Option("--bindings", help="Show their bindings too.")] = False,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """List the Agents of a namespace.

    \b
    Examples:
      fased agents list --bindings
      fased agents list -o json
    """

    async def read(to: Connection) -> tuple[Listed, Bound]:
        return await _agents(to), await _bindings(to)

    listed, routes = connection.run(namespace, read)
    bound = routes.bindings
    rows = [_with_bindings(agent, bound if bindings else None) for agent in listed.agents]
    show(
        output,
        {"agents": rows, "defaultModel": listed.default_model},
        _agents_table(listed, bound if bindings else None),
    )


@app.command()
def add(
    name: AgentArgument,
    model: Annotated[
        str | None, typer.Option(help="PROVIDER/MODEL; the namespace's default unless given.")
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where its files are kept.")
    ] = None,
    system_prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|@FILE", parser=text_or_file, help="What the model is told first."
        ),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="It answers where no binding matches.")
    ] = False,
    non_interactive: Annotated[
        bool, typer.Option("--non-interactive", help="Ask nothing; what is not given is empty.")
    ] = False,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Make an Agent. Asks for what is not given when it runs in a terminal.

    \b
    Examples:
      fased agents add coding
      fased agents add coding --workspace ~/.fased/workspace-coding --non-interactive
      fased agents add social --model openai/gpt-5-mini --system-prompt @social.md
    """
    is_asking = not non_interactive and sys.stdin.isatty()
    agent = agent_pb2.Agent(
        model=_asked("Model, as PROVIDER/MODEL (empty: the default)", model, is_asking),
        workspace=_asked("Workspace folder (empty: the default)", workspace, is_asking),
        system_prompt=_asked("System prompt (empty: a plain one)", system_prompt, is_asking),
        is_default=default,
    )

    async def create(to: Connection) -> agent_pb2.Agent:
        response = await policy_service_pb2_grpc.AgentServiceStub(to.channel).CreateAgent(
            policy_service_pb2.CreateAgentRequest(
                parent=to.parent, agent_id=name, agent=agent, request_id=new_request_id()
            )
        )
        return response.agent

    created = connection.run(namespace, create)
    show(output, plain(created), f"Agent {_id(created.name)} was made.")


@app.command()
def bind(
    agent: AgentOption,
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
    listed = connection.run(namespace, _bindings)
    show(output, {"bindings": [plain(each) for each in made]}, _bindings_table(made))
    _note_lint(listed)


@app.command()
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


@app.command("bindings")
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
    listed = connection.run(namespace, lambda to: _bindings(to, agent))
    value = {
        "bindings": [plain(each) for each in listed.bindings],
        "lint": [plain(each) for each in listed.lint],
    }
    show(output, value, _bindings_table(listed.bindings))
    _note_lint(listed)


@app.command()
def remove(
    name: AgentArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Remove an Agent; its sessions and history stay.

    \b
    Example:
      fased agents remove coding
    """

    async def delete(to: Connection) -> None:
        await policy_service_pb2_grpc.AgentServiceStub(to.channel).DeleteAgent(
            policy_service_pb2.DeleteAgentRequest(
                name=to.name("agents", name), request_id=new_request_id()
            )
        )

    connection.run(namespace, delete)
    show(output, {"removed": name}, f"Agent {name} was removed.")


async def _agents(to: Connection) -> Listed:
    """All pages as one."""
    stub = policy_service_pb2_grpc.AgentServiceStub(to.channel)
    whole, token = Listed(), ""
    while True:
        page = await stub.ListAgents(
            policy_service_pb2.ListAgentsRequest(
                parent=to.parent, page_size=PAGE_SIZE, page_token=token
            )
        )
        whole.agents.extend(page.agents)
        whole.default_model = page.default_model
        if not (token := page.next_page_token):
            return whole


async def _bindings(to: Connection, agent: str = "") -> Bound:
    return await router_service_pb2_grpc.RouteServiceStub(to.channel).ListBindings(
        router_service_pb2.ListBindingsRequest(parent=to.parent, agent_id=agent)
    )


def _note_lint(listed: Bound) -> None:
    """Say what is odd about the bindings, beside the answer."""
    for finding in listed.lint:
        note(f"{finding.reason}: {finding.message} ({finding.setup_target})")


def _asked(question: str, given: str | None, is_asking: bool) -> str:
    if given is not None or not is_asking:
        return given or ""
    return str(typer.prompt(question, default="", show_default=False))


def _match(text: str) -> binding_pb2.Match:
    channel, _, account = text.partition(":")
    if not channel.strip():
        raise typer.BadParameter(f"{text!r} names no channel: write CHANNEL or CHANNEL:ACCOUNT")
    return binding_pb2.Match(channel=channel, account_id=account)


def _with_bindings(agent: agent_pb2.Agent, bound: Sequence[binding_pb2.Binding] | None) -> Plain:
    if bound is None:
        return plain(agent)
    own = [plain(each) for each in bound if each.agent_id == _id(agent.name)]
    return {**plain(agent), "bindings": own}


def _agents_table(listed: Listed, bound: Sequence[binding_pb2.Binding] | None) -> Table:
    columns = ["AGENT", "NAME", "MODEL", "DEFAULT", "DEFINED IN"]
    rows = []
    for agent in listed.agents:
        model = agent.model or (f"{listed.default_model} (default)" if listed.default_model else "")
        row = [
            _id(agent.name),
            agent.display_name or "-",
            model or "none set",
            "yes" if agent.is_default else "",
            _owner(agent.managed_by),
        ]
        if bound is not None:
            own = [_described(each.match) for each in bound if each.agent_id == _id(agent.name)]
            row.append("; ".join(own) or "-")
        rows.append(row)
    if bound is not None:
        columns.append("BINDINGS")
    return Table(tuple(columns), rows, empty="No Agents yet. Make one: fased agents add NAME")


def _bindings_table(bound: Sequence[binding_pb2.Binding]) -> Table:
    rows = [
        (_id(each.name), each.agent_id, _described(each.match), _owner(each.managed_by))
        for each in bound
    ]
    return Table(("BINDING", "AGENT", "CHATS", "DEFINED IN"), rows, empty="No bindings.")


def _described(match: binding_pb2.Match) -> str:
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


def _owner(managed_by: str) -> str:
    return managed_by.partition(":")[2] or "-"


def _id(name: str) -> str:
    return name.rpartition("/")[2]
