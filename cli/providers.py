"""`fased providers`: the places that serve a namespace's models. Decides words and layout; they are
defined by ModelProvider resources, and what a worker was set up with is not among them.
"""

import typer

from cli import bindings, connection
from cli.connection import Connection
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, show
from fased.api.policy.v1 import policy_service_pb2, policy_service_pb2_grpc
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.plain import id_of, plain

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Listed = policy_service_pb2.ListModelProvidersResponse


@app.callback()
def group() -> None:
    """Model providers."""


@app.command("list")
def list_providers(
    namespace: NamespaceOption = DEFAULT_NAMESPACE, output: Output = Format.TABLE
) -> None:
    """List the model providers that a namespace defines.

    \b
    Examples:
      fased providers list
      fased providers list -o json
    """

    async def read(to: Connection) -> Listed:
        stub = policy_service_pb2_grpc.ModelProviderServiceStub(to.channel)
        return await stub.ListModelProviders(
            policy_service_pb2.ListModelProvidersRequest(parent=to.parent)
        )

    listed = connection.run(namespace, read)
    show(output, {"providers": [plain(each) for each in listed.providers]}, _table(listed))


def _table(listed: Listed) -> Table:
    rows = [
        [
            id_of(each.name),
            each.type,
            each.base_url or "OpenAI's own",
            each.credential or "none",
            each.default_model or "-",
            bindings.owner(each.managed_by),
        ]
        for each in listed.providers
    ]
    columns = ("PROVIDER", "TYPE", "ADDRESS", "CREDENTIAL", "DEFAULT MODEL", "DEFINED IN")
    return Table(columns, rows, empty="No model providers. Define one by a ModelProvider resource.")
