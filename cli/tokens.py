"""`fased token`: tokens of people and programs. Decides words and layout; who may grant what is
the service's decision.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cli import connection
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output, checked_namespace, duration
from cli.output import Table, show
from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc, token_pb2
from fased.api.types.v1 import access_pb2
from fased.core import task_text
from fased.core.access import ALL_NAMESPACES
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.plain import enum_word, id_of, plain
from fased.wire.times import from_timestamp, to_timestamp

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

TokenArgument = Annotated[str, typer.Argument(metavar="ID", help="The token's id.")]


class GrantedRole(StrEnum):
    """What a token may do; each includes the ones before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.callback()
def group() -> None:
    """Tokens."""


def _namespace_or_all(text: str) -> str:
    return text if text == ALL_NAMESPACES else checked_namespace(text)


@app.command()
def create(
    token_id: TokenArgument,
    role: Annotated[GrantedRole, typer.Option(help="What it may do.")],
    namespaces: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAMESPACE",
            envvar="FASED_NAMESPACE",
            parser=_namespace_or_all,
            help="Where it may act; repeat for several, '*' for all. It is kept in the first.",
        ),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option(metavar="DURATION", parser=duration, help="As in 30d; never unless given."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a token and print its secret, this once.

    \b
    Examples:
      fased token create dashboard --role viewer
      fased token create ci --role operator --namespace team-a --expires 30d
    """
    granted = namespaces or [DEFAULT_NAMESPACE]
    home = next((each for each in granted if each != ALL_NAMESPACES), DEFAULT_NAMESPACE)
    expires_at = None if expires is None else datetime.now(UTC) + expires

    async def ask(to: Connection) -> pb.CreateTokenResponse:
        return await policy_service_pb2_grpc.TokenServiceStub(to.channel).CreateToken(
            pb.CreateTokenRequest(
                parent=to.parent,
                token_id=token_id,
                role=access_pb2.Role.Value(f"ROLE_{role.upper()}"),
                namespaces=granted,
                expire_time=to_timestamp(expires_at),
                request_id=new_request_id(),
            )
        )

    made = connection.run(home, ask)
    show(
        output,
        plain(made),
        f"Token {token_id} was made. Its secret, shown only now:",
        made.secret,
    )


@app.command("list")
def list_tokens(
    namespace: NamespaceOption = DEFAULT_NAMESPACE, output: Output = Format.TABLE
) -> None:
    """List the tokens kept in a namespace, without their secrets.

    \b
    Example:
      fased token list
    """

    async def ask(to: Connection) -> list[token_pb2.Token]:
        request = pb.ListTokensRequest(parent=to.parent)
        response = await policy_service_pb2_grpc.TokenServiceStub(to.channel).ListTokens(request)
        return list(response.tokens)

    tokens = connection.run(namespace, ask)
    rows = [_row(token) for token in tokens]
    table = Table(("TOKEN", "ROLE", "NAMESPACES", "MADE", "ENDS"), rows, empty="No tokens.")
    show(output, {"tokens": [plain(token) for token in tokens]}, table)


@app.command()
def revoke(
    token_id: TokenArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """End a token at once.

    \b
    Example:
      fased token revoke ci --namespace team-a
    """

    async def ask(to: Connection) -> None:
        await policy_service_pb2_grpc.TokenServiceStub(to.channel).RevokeToken(
            pb.RevokeTokenRequest(name=to.name("tokens", token_id), request_id=new_request_id())
        )

    connection.run(namespace, ask)
    show(output, {"revoked": token_id}, f"Token {token_id} was revoked.")


def _row(token: token_pb2.Token) -> tuple[str, ...]:
    revoked = from_timestamp(token, "revoke_time")
    ends = task_text.instant(from_timestamp(token, "expire_time"))
    return (
        id_of(token.name),
        enum_word(access_pb2.Role.DESCRIPTOR, token.role),
        ", ".join(token.namespaces),
        task_text.instant(from_timestamp(token, "create_time")),
        f"revoked {task_text.instant(revoked)}" if revoked else ends,
    )
