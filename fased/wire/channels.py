"""Channel accounts and deliveries between core and protobuf; nothing else."""

from fased.api.channels.v1 import account_pb2, delivery_pb2
from fased.core.accounts import Account, AccountSettings, ReceiveMode
from fased.core.delivery import Chunk, Delivery, DeliveryState, UnknownPolicy
from fased.core.names import AccountId, ChannelId, resource_name
from fased.wire.messages import target_to_pb
from fased.wire.times import to_timestamp

_STATES = {
    DeliveryState.PENDING: delivery_pb2.DELIVERY_STATE_PENDING,
    DeliveryState.SENDING: delivery_pb2.DELIVERY_STATE_SENDING,
    DeliveryState.SENT: delivery_pb2.DELIVERY_STATE_SENT,
    DeliveryState.UNKNOWN: delivery_pb2.DELIVERY_STATE_UNKNOWN,
    DeliveryState.FAILED: delivery_pb2.DELIVERY_STATE_FAILED,
}
_STATES_BACK = {number: state for state, number in _STATES.items()}
_MODES = {
    ReceiveMode.POLL: account_pb2.RECEIVE_MODE_POLL,
    ReceiveMode.WEBHOOK: account_pb2.RECEIVE_MODE_WEBHOOK,
}
_MODES_BACK = {number: mode for mode, number in _MODES.items()}
_POLICIES = {
    UnknownPolicy.HOLD: account_pb2.UNKNOWN_POLICY_HOLD,
    UnknownPolicy.RESEND: account_pb2.UNKNOWN_POLICY_RESEND,
}
_POLICIES_BACK = {number: policy for policy, number in _POLICIES.items()}


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
    settings, status = account.settings, account.status
    return account_pb2.Account(
        name=_account_name(account),
        channel=account.channel,
        account_id=account.account_id,
        credential=settings.credential,
        enabled=settings.is_enabled,
        managed_by=account.managed_by,
        create_time=to_timestamp(account.created_at),
        last_inbound_time=to_timestamp(status.last_inbound_at),
        last_outbound_time=to_timestamp(status.last_outbound_at),
        last_error=status.last_error,
        mode=_MODES[settings.mode],
        api_base=settings.api_base,
        webhook_url=settings.webhook_url,
        unknown_policy=_POLICIES[settings.unknown_policy],
    )


def settings_from_pb(account: account_pb2.Account) -> AccountSettings:
    """What the owner of an account chooses; what is not said is the default."""
    return AccountSettings(
        credential=account.credential.strip(),
        mode=_MODES_BACK.get(account.mode, ReceiveMode.POLL),
        api_base=account.api_base.strip().rstrip("/"),
        webhook_url=account.webhook_url.strip().rstrip("/"),
        unknown_policy=_POLICIES_BACK.get(account.unknown_policy, UnknownPolicy.HOLD),
        is_enabled=account.enabled,
    )


def settings_to_pb(
    channel: ChannelId, account_id: AccountId, settings: AccountSettings
) -> account_pb2.Account:
    """The same the other way, for whoever asks for an account."""
    return account_pb2.Account(
        channel=channel,
        account_id=account_id,
        credential=settings.credential,
        enabled=settings.is_enabled,
        mode=_MODES[settings.mode],
        api_base=settings.api_base,
        webhook_url=settings.webhook_url,
        unknown_policy=_POLICIES[settings.unknown_policy],
    )


def status_to_pb(account: Account, *, is_configured: bool) -> account_pb2.AccountStatus:
    """How an account does."""
    status, identity, probe = account.status, account.status.identity, account.status.probe
    return account_pb2.AccountStatus(
        name=_account_name(account),
        configured=is_configured,
        connected=status.is_connected,
        last_inbound_time=to_timestamp(status.last_inbound_at),
        last_outbound_time=to_timestamp(status.last_outbound_at),
        last_error_reason=status.last_error_reason,
        last_error=status.last_error,
        last_error_time=to_timestamp(status.last_error_at),
        identity=account_pb2.Identity(
            id=identity.id, username=identity.username, display_name=identity.name
        )
        if identity.id
        else None,
        probe=account_pb2.Probe(
            probe_time=to_timestamp(probe.at),
            ok=not probe.reason,
            reason=probe.reason,
            message=probe.message,
        )
        if probe
        else None,
    )


def _account_name(account: Account) -> str:
    return resource_name(account.namespace, "accounts", f"{account.channel}:{account.account_id}")


def _chunk_to_pb(chunk: Chunk) -> delivery_pb2.DeliveryChunk:
    return delivery_pb2.DeliveryChunk(
        ordinal=chunk.ordinal,
        state=_STATES[chunk.state],
        receipt=chunk.receipt,
        attempts=chunk.attempts,
        unknown_sends=chunk.unknowns,
    )
