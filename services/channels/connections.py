"""The accounts that this process receives and sends for. Decides when a connection begins, ends
and begins again: with its account, with other settings, after a failure.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from fased.core import telegram
from fased.core.accounts import Account, AccountSettings, ReceiveMode
from fased.core.messages import Target
from fased.core.names import Namespace
from fased.process import Host, wait_or_stop
from fased.store import database, notify
from fased.store.channels import accounts
from fased.store.channels.accounts import Place
from services.channels.adapters.telegram import TelegramConnection
from services.channels.adapters.telegram_bot import Bot
from services.channels.sending import Sender
from services.channels.settings import ChannelsSettings

HINT = "channel-accounts"
RELIST_S = 5.0
RETRY_S = 1.0
# Signs of typing under way at once; what is beyond is not shown.
MAX_TYPING = 8

Connect = Callable[[Account], TelegramConnection]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    account: Account
    connection: TelegramConnection
    task: "asyncio.Task[None]"


class Connections:
    """The accounts of this process, and what runs for each."""

    def __init__(
        self, host: Host, owner: str, connect: Connect, settings: ChannelsSettings
    ) -> None:
        self._host = host
        self._owner = owner
        self._connect = connect
        self._settings = settings
        self._running: dict[Place, _Running] = {}
        self._typing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keep to the accounts as they are stored, until the process stops."""
        stirred = asyncio.Event()
        try:
            with self._host.hints.listen(stirred.set, HINT):
                while not self._host.stop.is_set():
                    try:
                        await self._follow_accounts()
                    except Exception as exc:
                        # The accounts that run go on; a later look finds the others.
                        logger.warning("channel_accounts_unread", **database.log_fields(exc))
                    wait_s = RELIST_S * random.uniform(0.75, 1.25)
                    await notify.wait_any(wait_s, stirred, self._host.stop)
                    stirred.clear()
        finally:
            tasks = [running.task for running in self._running.values()]
            if tasks:
                await asyncio.wait(tasks)
            for task in self._typing:
                task.cancel()

    def webhook_bot(self, place: Place) -> Bot | None:
        """The bot of an account that receives by webhook."""
        running = self._running.get(place)
        is_webhook = running and running.connection.mode is ReceiveMode.WEBHOOK
        return running.connection.bot if running and is_webhook else None

    def show_typing(self, namespace: Namespace, target: Target) -> None:
        """Show in a chat that an answer is on its way, in the background."""
        running = self._running.get((namespace, target.channel, target.account_id))
        if running is None or len(self._typing) >= MAX_TYPING:
            return
        task = asyncio.create_task(running.connection.show_typing(target), name="channels-typing")
        self._typing.add(task)
        task.add_done_callback(self._typing.discard)

    async def _follow_accounts(self) -> None:
        async with self._host.database.engine.connect() as conn:
            found = await accounts.list_enabled(conn, telegram.CHANNEL)
        wanted = {(each.namespace, each.channel, each.account_id): each for each in found}
        gone = [
            place
            for place, running in self._running.items()
            if place not in wanted or _identity(wanted[place]) != _identity(running.account)
        ]
        for place in gone:
            await _ended(self._running.pop(place).task)
        for place in wanted.keys() - self._running.keys():
            self._begin(place, wanted[place])

    def _begin(self, place: Place, account: Account) -> None:
        connection = self._connect(account)
        sender = Sender(self._host, self._owner, account, connection, self._settings)

        async def serve() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(place, connection.receive))
                group.create_task(self._keep(place, sender.run))

        task = asyncio.create_task(serve(), name=f"channels-{'/'.join(place)}")
        self._running[place] = _Running(account, connection, task)

    async def _keep(self, place: Place, work: Callable[[], Awaitable[None]]) -> None:
        while not self._host.stop.is_set():
            try:
                await work()
            except Exception as exc:
                # One account's failure must not end the others; most are a database that is away.
                logger.warning("channel_account_interrupted", account="/".join(place), exc_info=exc)
                await wait_or_stop(self._host.stop, RETRY_S * random.uniform(0.5, 1.5))


def _identity(account: Account) -> tuple[AccountSettings, datetime]:
    """What makes it another account: one that was removed may be made again, as it was."""
    return account.settings, account.created_at


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
