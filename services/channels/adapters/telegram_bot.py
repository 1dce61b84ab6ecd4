"""One bot's calls to Telegram's Bot API, and what their answers are. Decides how a call travels
and which token it carries; what an answer means is `core/telegram_answers.py`.

The token is read at each call, so that a changed one is taken up. It is part of the address: no
error, log line or answer of ours repeats an address.
"""

import hashlib
import hmac
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import httpx2

from fased.core import telegram_answers
from fased.core.accounts import AccountSettings
from fased.core.errors import FasedError, InvalidArgument
from fased.core.names import Namespace
from fased.core.telegram import BotIdentity, parse_identity
from fased.core.telegram_answers import Answer, AnswerKind
from fased.secrets import Secrets

API_BASE = "https://api.telegram.org"
CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 10.0
# What is no bot's token is some other secret, and goes nowhere.
_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{3,200}\Z")
# Telegram takes 1-256 of [A-Za-z0-9_-]; a hex digest is of them.
_SECRET_USE = b"fased telegram webhook"
_BEFORE_BODY = "http11.send_request_body.started"
_NOTHING_WRITTEN = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class CallFailed(Exception):
    """A call that did not end well; `answer` says how."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class _TooLate(Exception):
    """A call that was not to begin any more."""


class Bot:
    """The bot of one account."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        secrets: Secrets,
        namespace: Namespace,
        settings: AccountSettings,
    ) -> None:
        self._http = http
        self._secrets = secrets
        self._namespace = namespace
        self._settings = settings
        self._known: tuple[str, BotIdentity] | None = None

    async def identity(self) -> BotIdentity:
        """Who the bot is; asked once for each token. Raises CallFailed."""
        token = await self._token()
        if self._known is None or self._known[0] != token:
            answer = await self._post(token, "getMe", {}, CALL_TIMEOUT_S)
            if answer.kind is not AnswerKind.OK:
                raise CallFailed(answer)
            try:
                self._known = token, parse_identity(answer.result)
            except InvalidArgument as exc:
                raise CallFailed(_not_a_bot_api()) from exc
        return self._known[1]

    async def webhook_secret(self) -> str:
        """What a webhook call proves itself with: the token's, so that no other needs keeping.

        Raises CallFailed.
        """
        token = await self._token()
        return hmac.new(token.encode(), _SECRET_USE, hashlib.sha256).hexdigest()

    async def call(
        self,
        method: str,
        parameters: Mapping[str, object],
        timeout_s: float = CALL_TIMEOUT_S,
        not_after: float = math.inf,
    ) -> Answer:
        """Call a method of the Bot API, and say what came of it.

        After `not_after` (of `time.monotonic()`) nothing is written.
        """
        try:
            token = await self._token()
        except CallFailed as failed:
            return failed.answer
        return await self._post(token, method, parameters, timeout_s, not_after)

    async def _token(self) -> str:
        try:
            token = await self._secrets.resolve(self._settings.credential, self._namespace)
        except FasedError as exc:
            answer = Answer(AnswerKind.TOKEN_REFUSED, exc.reason, _sentence(exc.message))
            raise CallFailed(answer) from None
        if not _TOKEN.match(token):
            raise CallFailed(
                Answer(
                    AnswerKind.TOKEN_REFUSED,
                    "TOKEN_MALFORMED",
                    "The account's credential is no token of a Telegram bot.",
                )
            )
        return token

    async def _post(
        self,
        token: str,
        method: str,
        parameters: Mapping[str, object],
        timeout_s: float,
        not_after: float = math.inf,
    ) -> Answer:
        base = self._settings.api_base or API_BASE
        timeout = httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            response = await self._http.post(
                f"{base}/bot{token}/{method}",
                json=dict(parameters),
                timeout=timeout,
                extensions={"trace": _fence(not_after)} if not_after < math.inf else {},
            )
        except _TooLate:
            return telegram_answers.unbegun()
        except _NOTHING_WRITTEN as exc:
            return telegram_answers.unanswered(type(exc).__name__, was_written=False)
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            return telegram_answers.unanswered(type(exc).__name__, was_written=True)
        return _without(token, telegram_answers.classify(response.status_code, _body(response)))


def _fence(not_after: float) -> Callable[[str, object], Awaitable[None]]:
    """What the client asks at each step of a call; no call counts before its body is written."""

    async def check(step: str, _: object) -> None:
        if step == _BEFORE_BODY and time.monotonic() > not_after:
            raise _TooLate

    return check


def _body(response: httpx2.Response) -> object:
    try:
        body: object = json.loads(response.content)
    except ValueError:
        return None
    return body


def _without(token: str, answer: Answer) -> Answer:
    """The answer, whose words might quote the address that was asked."""
    return replace(answer, message=answer.message.replace(token, "[redacted]"))


def _not_a_bot_api() -> Answer:
    return Answer(
        AnswerKind.PERMANENT, "NOT_A_BOT_API", "What answers there is no Bot API. Check the base."
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
