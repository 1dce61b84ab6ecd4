"""DeliveryService: shows what became of results. Decides nothing."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fased.api.channels.v1 import channels_service_pb2 as pb
from fased.api.channels.v1 import channels_service_pb2_grpc
from fased.core.errors import NotFound
from fased.core.names import parse_parent, parse_resource_name
from fased.rpc import paging
from fased.store.channels import deliveries
from fased.store.database import Database
from fased.wire.channels import delivery_state_from_pb, delivery_to_pb

COLLECTION = "deliveries"
DEFAULT_PAGE = 50


class DeliveryServicer(channels_service_pb2_grpc.DeliveryServiceServicer):
    """Deliveries over gRPC."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    async def GetDelivery(
        self, request: pb.GetDeliveryRequest, context: Any
    ) -> pb.GetDeliveryResponse:
        """One delivery with its chunks."""
        namespace, text = parse_resource_name(request.name, COLLECTION)
        try:
            delivery_id = UUID(text)
        except ValueError:
            raise _no_delivery(text) from None
        async with self._engine.connect() as conn:
            found = await deliveries.get(conn, namespace, delivery_id)
        if found is None:
            raise _no_delivery(text)
        return pb.GetDeliveryResponse(delivery=delivery_to_pb(found))

    async def ListDeliveries(
        self, request: pb.ListDeliveriesRequest, context: Any
    ) -> pb.ListDeliveriesResponse:
        """Deliveries, the latest first."""
        namespace = parse_parent(request.parent)
        size = paging.page_size(request.page_size, DEFAULT_PAGE)
        query = {"deliveries": namespace, "state": request.state}
        position = paging.decode(request.page_token, query)
        before = (datetime.fromisoformat(position[0]), UUID(position[1])) if position else None
        async with self._engine.connect() as conn:
            found = await deliveries.list_before(
                conn, namespace, delivery_state_from_pb(request.state), before, size + 1
            )
        page, token = found[:size], ""
        if len(found) > size:
            token = paging.encode([page[-1].created_at.isoformat(), str(page[-1].id)], query)
        return pb.ListDeliveriesResponse(
            deliveries=[delivery_to_pb(each) for each in page], next_page_token=token
        )


def _no_delivery(delivery_id: str) -> NotFound:
    return NotFound(f"there is no delivery {delivery_id[:80]}", reason="DELIVERY_MISSING")
