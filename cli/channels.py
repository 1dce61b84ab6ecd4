"""`fased channels`: channel accounts. Decides words and layout; what an account may be is decided
by the service that owns them.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli import connection
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, show
from fased.api.channels.v1 import account_pb2, channels_service_pb2, channels_service_pb2_grpc
from fased.core.names import DEFAULT_ACCOUNT, DEFAULT_NAMESPACE
from fased.wire.plain import Plain, enum_word, id_of, plain

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[
    str, typer.Argument(metavar="CHANNEL:ACCOUNT", help="As fased channels list shows it.")
]


class Mode(StrEnum):
    """How messages come in."""

    POLL = "poll"
    WEBHOOK = "webhook"


class OnUnknown(StrEnum):
    """What follows a send whose outcome nobody knows."""

    HOLD = "hold"
    RESEND = "resend"


_MODES = {
    Mode.POLL: account_pb2.RECEIVE_MODE_POLL,
    Mode.WEBHOOK: account_pb2.RECEIVE_MODE_WEBHOOK,
}
_POLICIES = {
    OnUnknown.HOLD: account_pb2.UNKNOWN_POLICY_HOLD,
    OnUnknown.RESEND: account_pb2.UNKNOWN_POLICY_RESEND,
}


@app.callback()
def group() -> None:
    """Channel accounts."""


@app.command()
def add(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="telegram")],
    account: Annotated[str, typer.Option(help="The account's id.")] = DEFAULT_ACCOUNT,
    token_env: Annotated[
        str, typer.Option(metavar="NAME", help="The variable of the server that has the token.")
    ] = "",
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="The file on the server that has the token.")
    ] = "",
    mode: Annotated[Mode, typer.Option(help="Ask for messages, or be called.")] = Mode.POLL,
    webhook_url: Annotated[
        str, typer.Option(metavar="URL", help="The public address of FASED_WEBHOOK_LISTEN.")
    ] = "",
    api_base: Annotated[
        str, typer.Option(metavar="URL", help="Another API server than the platform's own.")
    ] = "",
    on_unknown: Annotated[
        OnUnknown, typer.Option(help="After a send that may have arrived: hold it, or resend.")
    ] = OnUnknown.HOLD,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Add an account. Its token stays where it is: only the name of the place is kept.

    \b
    Examples:
      fased channels add telegram --account alerts --token-env ALERTS_BOT_TOKEN
      fased channels add telegram --token-file /run/secrets/bot
      fased channels add telegram --token-env BOT --mode webhook --webhook-url https://bots.example
    """
    wanted = account_pb2.Account(
        channel=channel,
        account_id=account,
        credential=_reference(token_env, token_file),
        mode=_MODES[mode],
        webhook_url=webhook_url,
        api_base=api_base,
        unknown_policy=_POLICIES[on_unknown],
    )

    async def create(to: Connection) -> account_pb2.Account:
        response = await _stub(to).CreateAccount(
            channels_service_pb2.CreateAccountRequest(
                parent=to.parent, account=wanted, request_id=new_request_id()
            )
        )
        return response.account

    created = connection.run(namespace, create)
    show(
        output,
        plain(created),
        f"Account {id_of(created.name)} was added. See how it does: fased channels status --probe",
    )


@app.command("list")
def list_accounts(
    namespace: NamespaceOption = DEFAULT_NAMESPACE, output: Output = Format.TABLE
) -> None:
    """List accounts.

    \b
    Example:
      fased channels list
    """
    found = connection.run(namespace, _accounts)
    show(output, {"accounts": [plain(each) for each in found]}, _accounts_table(found))


@app.command()
def remove(
    name: NameArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Remove an account; what waits to be sent by it fails.

    \b
    Example:
      fased channels remove telegram:alerts
    """

    async def delete(to: Connection) -> None:
        await _stub(to).DeleteAccount(
            channels_service_pb2.DeleteAccountRequest(
                name=to.name("accounts", name), request_id=new_request_id()
            )
        )

    connection.run(namespace, delete)
    show(output, {"removed": name}, f"Account {name} was removed.")


@app.command()
def status(
    name: Annotated[
        str, typer.Argument(metavar="[CHANNEL:ACCOUNT]", help="Only this account.")
    ] = "",
    probe: Annotated[bool, typer.Option("--probe", help="Ask the platforms now.")] = False,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Show how accounts do: connected, last in and out, last error, who they are.

    \b
    Examples:
      fased channels status
      fased channels status telegram:alerts --probe
    """

    async def read(to: Connection) -> list[account_pb2.AccountStatus]:
        names = [to.name("accounts", name)] if name else [a.name for a in await _accounts(to)]
        found = []
        for each in names:
            request = channels_service_pb2.GetAccountStatusRequest(name=each, probe=probe)
            found.append((await _stub(to).GetAccountStatus(request)).status)
        return found

    found = connection.run(namespace, read)
    show(output, {"accounts": [plain(each) for each in found]}, _status_table(found))


def _stub(to: Connection) -> "channels_service_pb2_grpc.AccountServiceAsyncStub":
    return channels_service_pb2_grpc.AccountServiceStub(to.channel)


async def _accounts(to: Connection) -> list[account_pb2.Account]:
    request = channels_service_pb2.ListAccountsRequest(parent=to.parent)
    return list((await _stub(to).ListAccounts(request)).accounts)


def _reference(token_env: str, token_file: str) -> str:
    if bool(token_env) == bool(token_file):
        raise typer.BadParameter("name the token by --token-env or by --token-file")
    # The server has other ideas of where it is than this command.
    return f"env:{token_env}" if token_env else f"file:{Path(token_file).expanduser().absolute()}"


def _accounts_table(accounts: Sequence[account_pb2.Account]) -> Table:
    modes = account_pb2.ReceiveMode.DESCRIPTOR
    rows = [
        (
            id_of(each.name),
            enum_word(modes, each.mode) if each.credential else "-",
            each.credential or "-",
            "yes" if each.enabled else "no",
            each.managed_by.partition(":")[2] or "-",
        )
        for each in accounts
    ]
    columns = ("ACCOUNT", "MODE", "CREDENTIAL", "ENABLED", "DEFINED IN")
    return Table(columns, rows, empty="No accounts. Add one: fased channels add")


def _status_table(found: Sequence[account_pb2.AccountStatus]) -> Table:
    columns = ("ACCOUNT", "CONFIGURED", "CONNECTED", "BOT", "LAST IN", "LAST OUT", "PROBE", "ERROR")
    return Table(columns, [_status_row(each) for each in found], empty="No accounts.")


def _status_row(each: account_pb2.AccountStatus) -> tuple[str, ...]:
    said: Plain = plain(each)
    return (
        id_of(each.name),
        "yes" if each.configured else "no",
        "yes" if each.connected else "no",
        f"@{each.identity.username}" if each.identity.username else "-",
        said["lastInboundTime"] or "-",
        said["lastOutboundTime"] or "-",
        _probe_words(each),
        each.last_error or "-",
    )


def _probe_words(each: account_pb2.AccountStatus) -> str:
    if not each.HasField("probe"):
        return "-"
    words = "works" if each.probe.ok else each.probe.message
    return f"{words} ({each.probe.probe_time.ToJsonString()})"
