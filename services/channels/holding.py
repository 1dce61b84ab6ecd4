"""Receives for an account while its lease is held, so that no two replicas do.

Decides when the lease is taken, renewed and given back; what receiving is, is the adapter's.
"""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from fased.core.errors import Aborted
from fased.process import Host, wait_or_stop
from fased.store import transient
from fased.store.channels import leases
from fased.store.channels.accounts import Place
from fased.store.channels.leases import Lease

logger = structlog.get_logger(__name__)

# Does a part of the work that takes less than the lease lasts; gives seconds to pause after it.
Receive = Callable[[Lease], Awaitable[float]]


async def receive_while_held(
    host: Host, place: Place, owner: str, ttl_s: float, receive: Receive
) -> None:
    """Call `receive` again and again while the lease is ours, until the process stops.

    The lease is renewed before each call.
    """
    held: Lease | None = None
    ttl = timedelta(seconds=ttl_s)
    try:
        while not host.stop.is_set():
            async with host.database.queue.acquire() as conn:
                lease = await leases.hold(conn, place, owner, ttl)
            if (lease is None) != (held is None):
                logger.info("channel_account_held", account="/".join(place), held=bool(lease))
            held = lease
            pause_s = ttl_s / 4 * random.uniform(0.5, 1.0)
            if held is not None:
                try:
                    pause_s = await receive(held)
                except Aborted as exc:
                    # Another took over while we were not looking: it has, or gets, the same.
                    logger.warning("channel_lease_lost", account="/".join(place), why=exc.reason)
            if pause_s:
                await wait_or_stop(host.stop, pause_s)
    finally:
        if held is not None:
            await _release(host, held)


async def _release(host: Host, lease: Lease) -> None:
    try:
        async with host.database.queue.acquire(timeout=2) as conn:
            await leases.release(conn, lease)
    except transient.DRIVER_ERRORS as exc:
        # It expires by itself.
        logger.warning("channel_lease_unreleased", error=type(exc).__name__)
