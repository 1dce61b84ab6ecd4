"""Forgets what the channels need no longer. Decides how often; how long is the settings' word."""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from fased.process import Host, wait_or_stop
from fased.store import transient
from fased.store.channels import retention
from fased.store.database import Connection
from services.channels.settings import ChannelsSettings

PERIOD_S = 600.0
# Longer than anybody repeats a request.
REQUESTS_KEPT = timedelta(days=8)

logger = structlog.get_logger(__name__)


async def run(host: Host, settings: ChannelsSettings) -> None:
    """Forget now and then, until the process stops."""
    while not await wait_or_stop(host.stop, PERIOD_S * random.uniform(0.5, 1.5)):
        try:
            await forget(host, settings)
        except transient.DRIVER_ERRORS as exc:
            logger.warning("channels_prune_failed", error=type(exc).__name__)


async def forget(host: Host, settings: ChannelsSettings) -> None:
    """Forget all that is old enough."""
    work: tuple[tuple[Callable[[Connection, timedelta], Awaitable[int]], timedelta], ...] = (
        (retention.prune_requests, REQUESTS_KEPT),
        (retention.prune_deliveries, timedelta(days=settings.delivery_days)),
        (retention.prune_conversations, timedelta(days=settings.conversation_days)),
    )
    for prune, kept in work:
        if not kept:
            continue
        async with host.database.queue.acquire() as conn:
            while await prune(conn, kept):
                pass
