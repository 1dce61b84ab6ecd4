"""Telegram: messages out through the Bot API, and the connection of each account.

Decides which call carries a chunk, and what its answer is to a delivery; what Telegram's words
mean is `core/telegram_answers.py`, how messages come in `telegram_poll.py`, `telegram_webhook.py`.
"""

import math
import time
from collections.abc import Mapping

import httpx2

from fased.core import delivery, telegram
from fased.core.accounts import Account, Identity, ReceiveMode
from fased.core.chunking import resolve_chunking
from fased.core.delivery import CallEnd, CallResult, Chunk, Outcome
from fased.core.messages import OutboundMessage, Target
from fased.core.names import ChannelId
from fased.core.telegram_answers import Answer, AnswerKind
from fased.core.telegram_html import render_markdown
from fased.process import Host
from fased.secrets import Secrets
from fased.store.channels import accounts
from fased.store.channels.accounts import Place
from fased.store.channels.leases import Lease
from fased.store.database import Connection
from services.channels import sending
from services.channels.adapters.telegram_bot import Bot, CallFailed
from services.channels.adapters.telegram_poll import Poller
from services.channels.adapters.telegram_webhook import Registrar
from services.channels.holding import receive_while_held
from services.channels.settings import ChannelsSettings
from services.channels.statuses import Statuses

TYPING_TIMEOUT_S = 5.0

_ENDS = {
    AnswerKind.RETRY_AFTER: CallEnd.LATER,
    AnswerKind.TRANSIENT: CallEnd.LATER,
    AnswerKind.CONFLICT: CallEnd.LATER,
    # Its owner mends the token; what waits is sent then.
    AnswerKind.TOKEN_REFUSED: CallEnd.LATER,
    AnswerKind.UNKNOWN: CallEnd.UNKNOWN,
    AnswerKind.FORMATTING: CallEnd.UNFORMATTED,
    AnswerKind.MIGRATED: CallEnd.MOVED,
    AnswerKind.PERMANENT: CallEnd.REFUSED,
}


class Telegram:
    """See `port.Adapter`."""

    @property
    def channel(self) -> ChannelId:
        """`telegram`."""
        return telegram.CHANNEL

    async def accept(self, conn: Connection, message: OutboundMessage) -> Outcome:
        """Chunks to send, where the account is there."""
        chunking = resolve_chunking(telegram.CHANNEL)
        rendered = render_markdown(message.text, chunking.limit_units, chunking.mode)
        if not await accounts.is_there(conn, _place(message)):
            return delivery.unknown_account(message, tuple(each.plain for each in rendered))
        if not rendered:
            return delivery.refused("MESSAGE_EMPTY", "The message shows nothing.", (message.text,))
        return delivery.to_send((each.html, each.plain) for each in rendered)

    def hint(self, message: OutboundMessage) -> str:
        """Wakes who sends for the account."""
        return sending.hint_name(_place(message))


class TelegramConnection:
    """One account: a line to write on, and what receives for it."""

    def __init__(
        self,
        host: Host,
        owner: str,
        account: Account,
        bot: Bot,
        statuses: Statuses,
        settings: ChannelsSettings,
    ) -> None:
        self.bot = bot
        self.mode = account.settings.mode
        self._received_at = -math.inf
        self._place: Place = (account.namespace, account.channel, account.account_id)
        self._host = host
        self._owner = owner
        self._webhook_url = account.settings.webhook_url
        self._statuses = statuses
        self._settings = settings

    async def receive(self) -> None:
        """Receive for the account while its lease is ours, until the process stops."""
        self._statuses.begin(self._place)
        lease_s = self._settings.connection_lease_s
        receive = (
            Poller(self._host, self.bot, self._statuses, self._settings.poll_s).poll
            if self.mode is ReceiveMode.POLL
            else Registrar(self.bot, self._statuses, self._webhook_url, lease_s / 3).register
        )

        async def noted(lease: Lease) -> float:
            self._received_at = time.monotonic()
            return await receive(lease)

        await receive_while_held(self._host, self._place, self._owner, lease_s, noted)

    async def send(self, target: Target, chunk: Chunk, not_after: float) -> CallResult:
        """Send one chunk with sendMessage."""
        text = chunk.plain if chunk.is_plain else chunk.text
        answer = await self.bot.call(
            "sendMessage",
            telegram.send_parameters(target, text, is_html=not chunk.is_plain),
            self._settings.send_timeout_s,
            not_after,
        )
        if answer.kind is AnswerKind.TOKEN_REFUSED:
            self._statuses.failed(self._place, answer.reason, answer.message, receives=False)
        return _call_result(answer)

    async def show_typing(self, target: Target) -> None:
        """Show that an answer is on its way; what comes of it does not matter.

        Every replica hears of the run: the one that receives shows it.
        """
        if time.monotonic() - self._received_at > self._settings.connection_lease_s:
            return
        await self.bot.call(
            "sendChatAction",
            telegram.place_parameters(target) | {"action": "typing"},
            TYPING_TIMEOUT_S,
        )


async def probe(
    http: httpx2.AsyncClient, secrets: Secrets, account: Account
) -> tuple[Identity | None, str, str]:
    """Ask Telegram whether an account works: who it is, or a reason and a sentence."""
    try:
        identity = await Bot(http, secrets, account.namespace, account.settings).identity()
    except CallFailed as failed:
        return None, failed.answer.reason, failed.answer.message
    return Identity(identity.id, identity.username, identity.name), "", ""


def _call_result(answer: Answer) -> CallResult:
    if answer.kind is AnswerKind.OK:
        result = answer.result
        receipt = result.get("message_id") if isinstance(result, Mapping) else None
        if isinstance(receipt, int):
            return CallResult(CallEnd.SENT, str(receipt))
        return CallResult(
            CallEnd.UNKNOWN, reason="NO_RECEIPT", message="Telegram did not say what it sent."
        )
    # A base URL that is mended is no reason to lose what waits.
    is_elsewhere = answer.reason == "NOT_A_BOT_API"
    return CallResult(
        CallEnd.LATER if is_elsewhere else _ENDS[answer.kind],
        reason=answer.reason,
        message=answer.message,
        wait=answer.retry_after,
        moved_to=answer.migrated_to,
    )


def _place(message: OutboundMessage) -> Place:
    target = message.target
    return message.namespace, target.channel, target.account_id
