"""The channel accounts of `fased.json`. Decides nothing; what the file may say of them is
`core/account_configuration.py`.
"""

import grpc

from fased.api.channels.v1 import channels_service_pb2, channels_service_pb2_grpc
from fased.core.account_configuration import parse_accounts
from fased.core.configuration import Configuration
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.channels import settings_to_pb


async def apply(channel: grpc.aio.Channel, owner: str, configuration: Configuration) -> None:
    """Make the file's accounts stand, and those it dropped go.

    Raises FailedPrecondition when another owner has one of them.
    """
    named, _ = parse_accounts(configuration.channels)
    await channels_service_pb2_grpc.AccountServiceStub(channel).ApplyAccounts(
        channels_service_pb2.ApplyAccountsRequest(
            parent=f"namespaces/{DEFAULT_NAMESPACE}",
            managed_by=owner,
            accounts=[
                settings_to_pb(each.channel, each.account_id, each.settings) for each in named
            ],
        )
    )
