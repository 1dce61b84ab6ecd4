"""`fased pairing`: who may write to a channel account. Decides words and layout; who is let in is
the router's decision.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli import connection
from cli.connection import Connection, new_request_id
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, note, show
from fased.api.router.v1 import pairing_pb2, router_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core import task_text
from fased.core.gate import DmPolicy, GroupPolicy
from fased.core.names import DEFAULT_ACCOUNT, DEFAULT_NAMESPACE
from fased.wire.plain import id_of, plain
from fased.wire.times import from_timestamp

MAX_LISTED = 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

ChannelOption = Annotated[str, typer.Option(help="As in telegram.")]
AccountOption = Annotated[str, typer.Option(help="The channel's account.")]
CodeArgument = Annotated[str, typer.Argument(metavar="CODE", help="What the person was told.")]
SenderArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The person's id on that channel.")
]


@app.callback()
def group() -> None:
    """Pairing."""


@app.command("list")
def list_pairings(
    namespace: NamespaceOption = DEFAULT_NAMESPACE, output: Output = Format.TABLE
) -> None:
    """List who waits for approval, and who was let in.

    \b
    Example:
      fased pairing list
    """

    async def ask(to: Connection) -> tuple[pb.ListPairingsResponse, pb.ListAllowedSendersResponse]:
        service = router_service_pb2_grpc.PairingServiceStub(to.channel)
        return (
            await service.ListPairings(pb.ListPairingsRequest(parent=to.parent)),
            await service.ListAllowedSenders(
                pb.ListAllowedSendersRequest(parent=to.parent, page_size=MAX_LISTED)
            ),
        )

    waiting, allowed = connection.run(namespace, ask)
    show(
        output,
        {
            "pairings": [plain(each) for each in waiting.pairings],
            "senders": [plain(each) for each in allowed.senders],
        },
        Table(
            ("CODE", "ACCOUNT", "SENDER", "NAME", "ENDS"),
            [_request_row(each) for each in waiting.pairings],
            empty="Nobody waits for approval.",
        ),
        "",
        Table(
            ("ALLOWED", "SENDER", "NAME", "SINCE"),
            [_sender_row(each) for each in allowed.senders],
            empty="Nobody was let in by approval or by command.",
        ),
    )
    if allowed.next_page_token:
        note(f"There are more than {MAX_LISTED}; those after are not shown.")


@app.command()
def approve(
    code: CodeArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Let in who was told this code. It gives no right in groups.

    \b
    Example:
      fased pairing approve K7QM2XPA
    """

    async def ask(to: Connection) -> pairing_pb2.AllowedSender:
        request = pb.ApprovePairingRequest(
            name=to.name("pairings", code), request_id=new_request_id()
        )
        service = router_service_pb2_grpc.PairingServiceStub(to.channel)
        return (await service.ApprovePairing(request)).sender

    _show_allowed(output, connection.run(namespace, ask))


@app.command()
def deny(
    code: CodeArgument,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Forget who was told this code.

    \b
    Example:
      fased pairing deny K7QM2XPA
    """

    async def ask(to: Connection) -> None:
        await router_service_pb2_grpc.PairingServiceStub(to.channel).DenyPairing(
            pb.DenyPairingRequest(name=to.name("pairings", code), request_id=new_request_id())
        )

    connection.run(namespace, ask)
    show(output, {"denied": code}, f"{code} was denied.")


@app.command()
def allow(
    sender: SenderArgument,
    channel: ChannelOption,
    account: AccountOption = DEFAULT_ACCOUNT,
    name: Annotated[str, typer.Option(help="A name to show in lists.")] = "",
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Let somebody write to an account who did not have to ask. It gives no right in groups.

    \b
    Example:
      fased pairing allow 123456 --channel telegram --account work
    """
    allowed = pairing_pb2.AllowedSender(
        channel=channel,
        account_id=account,
        sender=message_pb2.Sender(id=sender, display_name=name),
    )

    async def ask(to: Connection) -> pairing_pb2.AllowedSender:
        request = pb.AllowSenderRequest(
            parent=to.parent, sender=allowed, request_id=new_request_id()
        )
        service = router_service_pb2_grpc.PairingServiceStub(to.channel)
        return (await service.AllowSender(request)).sender

    _show_allowed(output, connection.run(namespace, ask))


@app.command()
def revoke(
    sender: SenderArgument,
    channel: ChannelOption,
    account: AccountOption = DEFAULT_ACCOUNT,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Take back what approve or allow gave.

    \b
    Example:
      fased pairing revoke 123456 --channel telegram --account work
    """

    async def ask(to: Connection) -> None:
        await router_service_pb2_grpc.PairingServiceStub(to.channel).RevokeSender(
            pb.RevokeSenderRequest(
                name=to.name("senders", f"{channel}:{account}:{sender}"),
                request_id=new_request_id(),
            )
        )

    connection.run(namespace, ask)
    show(
        output,
        {"revoked": sender},
        f"{sender} may no longer write to {channel}:{account}, unless its gate lists them.",
    )


@app.command()
def policy(
    channel: ChannelOption,
    account: AccountOption = DEFAULT_ACCOUNT,
    dm: Annotated[
        DmPolicy | None, typer.Option(help="Direct messages; open needs --allow-from '*' too.")
    ] = None,
    allow_from: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Answered directly; repeat for several, '' for none."),
    ] = None,
    group_policy: Annotated[GroupPolicy | None, typer.Option(help="Groups and rooms.")] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="ID", help="A group that is listened to; '*' for all."),
    ] = None,
    group_allow_from: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Answered in groups; '*' for all, '' for --allow-from."),
    ] = None,
    require_mention: Annotated[
        bool | None, typer.Option("--require-mention/--no-require-mention", help="In groups.")
    ] = None,
    allow_bots: Annotated[
        bool | None, typer.Option("--allow-bots/--no-allow-bots", help="Hear listed bots.")
    ] = None,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    output: Output = Format.TABLE,
) -> None:
    """Show who may write to an account, or change what is given. A list replaces the one before.

    \b
    Examples:
      fased pairing policy --channel telegram
      fased pairing policy --channel telegram --account work --dm allowlist --allow-from 123456
      fased pairing policy --channel telegram --dm open --allow-from '*'
      fased pairing policy --channel telegram --group=-100200300 --group-allow-from '*'
    """
    given: dict[str, Any] = {
        "dm_policy": dm,
        "allow_from": allow_from,
        "group_policy": group_policy,
        "groups": groups,
        "group_allow_from": group_allow_from,
        "require_mention": require_mention,
        "allow_bots": allow_bots,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    gate = connection.run(namespace, lambda to: _gate(to, f"{channel}:{account}", changes))
    show(output, plain(gate), _facts(gate))


async def _gate(to: Connection, account: str, changes: dict[str, Any]) -> pairing_pb2.Gate:
    """The gate of an account, after the changes if there are any."""
    gates = router_service_pb2_grpc.GateServiceStub(to.channel)
    name = to.name("gates", account)
    if not changes:
        return (await gates.GetGate(pb.GetGateRequest(name=name))).gate
    request = pb.UpdateGateRequest(
        gate=pairing_pb2.Gate(name=name, **changes), request_id=new_request_id()
    )
    request.update_mask.paths.extend(changes)
    return (await gates.UpdateGate(request)).gate


def _show_allowed(output: Format, allowed: pairing_pb2.AllowedSender) -> None:
    account = f"{allowed.channel}:{allowed.account_id}"
    show(output, plain(allowed), f"{_described(allowed.sender)} may write to {account} now.")


def _described(sender: message_pb2.Sender) -> str:
    return f"{sender.display_name} ({sender.id})" if sender.display_name else sender.id


def _request_row(request: pairing_pb2.PairingRequest) -> tuple[str, ...]:
    return (
        request.code,
        f"{request.channel}:{request.account_id}",
        request.sender.id,
        request.sender.display_name or "-",
        task_text.instant(from_timestamp(request, "expire_time")),
    )


def _sender_row(allowed: pairing_pb2.AllowedSender) -> tuple[str, ...]:
    return (
        f"{allowed.channel}:{allowed.account_id}",
        allowed.sender.id,
        allowed.sender.display_name or "-",
        task_text.instant(from_timestamp(allowed, "create_time")),
    )


def _facts(gate: pairing_pb2.Gate) -> Table:
    return Table(
        (),
        [
            ("account", id_of(gate.name)),
            ("direct messages", gate.dm_policy),
            ("answered directly", _listed(gate.allow_from) or "those who were let in"),
            ("groups and rooms", gate.group_policy),
            ("listened to", _listed(gate.groups) or "none"),
            ("answered there", _listed(gate.group_allow_from) or "those answered directly by list"),
            ("mention needed", "yes" if gate.require_mention else "no"),
            ("other bots", "heard where listed" if gate.allow_bots else "dropped"),
            ("defined in", gate.managed_by.partition(":")[2] or "-"),
        ],
    )


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids)
