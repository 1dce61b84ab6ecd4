"""`fased agents`: Agents. Decides words and layout; what may be changed is decided by the service
that owns them. The bindings that send chats to them are in `bindings.py`.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import bindings, connection
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output, text_or_file
from cli.output import Table, show
from fased.api.policy.v1 import agent_pb2, policy_service_pb2, policy_service_pb2_grpc
from fased.api.router.v1 import binding_pb2
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.plain import Plain, id_of, plain

PAGE_SIZE = 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

AgentArgument = Annotated[str, typer.Argument(metavar="NAME", help="The Agent's id.")]
Listed = policy_service_pb2.ListAgentsResponse


@app.callback()
def group() -> None:
    """Agents."""


@app.command("list")
def list_agents(
    with_bindings: Annotated[
        bool, typer.Option("--bindings", help="Show their bindings too.")
    ] = False,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """List the Agents of a namespace.

    \b
    Examples:
      fased agents list --bindings
      fased agents list -o json
    """

    async def read(to: Connection) -> tuple[Listed, bindings.Listed]:
        return await _agents(to), await bindings.read(to)

    listed, routes = connection.run(namespace, read)
    bound = routes.bindings
    rows = [_with_bindings(agent, bound if with_bindings else None) for agent in listed.agents]
    show(
        output,
        {"agents": rows, "defaultModel": listed.default_model},
        _agents_table(listed, bound if with_bindings else None),
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
    show(output, plain(created), f"Agent {id_of(created.name)} was made.")


bindings.add_commands(app)


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


def _asked(question: str, given: str | None, is_asking: bool) -> str:
    if given is not None or not is_asking:
        return given or ""
    return str(typer.prompt(question, default="", show_default=False))


def _with_bindings(agent: agent_pb2.Agent, bound: Sequence[binding_pb2.Binding] | None) -> Plain:
    if bound is None:
        return plain(agent)
    own = [plain(each) for each in bound if each.agent_id == id_of(agent.name)]
    return {**plain(agent), "bindings": own}


def _agents_table(listed: Listed, bound: Sequence[binding_pb2.Binding] | None) -> Table:
    columns = ["AGENT", "NAME", "MODEL", "DEFAULT", "DEFINED IN"]
    rows = []
    for agent in listed.agents:
        model = agent.model or (f"{listed.default_model} (default)" if listed.default_model else "")
        row = [
            id_of(agent.name),
            agent.display_name or "-",
            model or "none set",
            "yes" if agent.is_default else "",
            bindings.owner(agent.managed_by),
        ]
        if bound is not None:
            own = [
                bindings.described(each.match)
                for each in bound
                if each.agent_id == id_of(agent.name)
            ]
            row.append("; ".join(own) or "-")
        rows.append(row)
    if bound is not None:
        columns.append("BINDINGS")
    return Table(tuple(columns), rows, empty="No Agents yet. Make one: fased agents add NAME")
