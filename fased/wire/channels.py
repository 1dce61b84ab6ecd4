"""Channel accounts and deliveries between core and protobuf; nothing else."""

from fased.api.channels.v1 import account_pb2, delivery_pb2
from fased.core.accounts import Account
from fased.core.delivery import Chunk, Delivery, DeliveryState
from fased.core.names import resource_name
from fased.wire.messages import target_to_pb
from fased.wire.times import to_timestamp

_STATES = {
    DeliveryState.PENDING: delivery_pb2.DELIVERY_STATE_PENDING,
    DeliveryState.SENT: delivery_pb2.DELIVERY_STATE_SENT,
    DeliveryState.UNKNOWN: delivery_pb2.DELIVERY_STATE_UNKNOWN,
    DeliveryState.FAILED: delivery_pb2.DELIVERY_STATE_FAILED,
}
_STATES_BACK = {number: state for state, number in _STATES.items()}


def delivery_state_from_pb(number: delivery_pb2.DeliveryState.ValueType) -> DeliveryState | None:
    """A delivery state, None when unspecified."""
    return _STATES_BACK.get(number)


def delivery_to_pb(delivery: Delivery) -> delivery_pb2.Delivery:
    """A delivery with its chunks."""
    return delivery_pb2.Delivery(
        name=resource_name(delivery.namespace, "deliveries", str(delivery.id)),
        target=target_to_pb(delivery.target),
        state=_STATES[delivery.outcome.state],
        run_id=delivery.run_id or 0,
        reason=delivery.outcome.reason,
        message=delivery.outcome.message,
        chunks=[_chunk_to_pb(chunk) for chunk in delivery.outcome.chunks],
        create_time=to_timestamp(delivery.created_at),
        update_time=to_timestamp(delivery.updated_at),
    )


def account_to_pb(account: Account) -> account_pb2.Account:
    """A channel account."""
    return account_pb2.Account(
        name=resource_name(
            account.namespace, "accounts", f"{account.channel}:{account.account_id}"
        ),
        channel=account.channel,
        account_id=account.account_id,
        credential=account.credential,
        enabled=account.is_enabled,
        managed_by=account.managed_by,
        create_time=to_timestamp(account.created_at),
        last_inbound_time=to_timestamp(account.last_inbound_at),
        last_outbound_time=to_timestamp(account.last_outbound_at),
        last_error=account.last_error,
    )


def _chunk_to_pb(chunk: Chunk) -> delivery_pb2.DeliveryChunk:
    return delivery_pb2.DeliveryChunk(
        ordinal=chunk.ordinal, state=_STATES[chunk.state], receipt=chunk.receipt
    )
