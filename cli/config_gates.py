"""The gates of `fased.json`: who may write to the accounts it names. Decides nothing; what the file
may say of them is `core/gate_configuration.py`.
"""

import grpc

from fased.api.router.v1 import router_service_pb2, router_service_pb2_grpc
from fased.core.configuration import Configuration
from fased.core.gate_configuration import parse_gates
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.gates import gate_to_pb


async def apply(channel: grpc.aio.Channel, owner: str, configuration: Configuration) -> None:
    """Make the file's gates stand, and those it dropped go.

    Raises FailedPrecondition when another owner has one of them.
    """
    await router_service_pb2_grpc.GateServiceStub(channel).ApplyGates(
        router_service_pb2.ApplyGatesRequest(
            parent=f"namespaces/{DEFAULT_NAMESPACE}",
            managed_by=owner,
            gates=[
                gate_to_pb(DEFAULT_NAMESPACE, each.channel, each.account_id, each.policy)
                for each in parse_gates(configuration.channels)
            ],
        )
    )
