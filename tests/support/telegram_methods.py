"""The methods of the stub's Bot API: parameters in, results or refusals out. Decides what each
does to a bot; not how calls arrive (`telegram_api.py`).
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.telegram_rules import Refusal
from tests.support.telegram_state import Bot, Json, Webhook

MAX_POLL_S = 50
MAX_BATCH = 100
OTHER_POLL = (
    "terminated by other getUpdates request; make sure that only one bot instance is running"
)
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)
ACTIONS = frozenset(
    {
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    }
)

_SECRET_TOKEN = re.compile(r"[\w-]{0,256}", re.ASCII)


class Parameters:
    """A call's parameters: from JSON, a form or a query; nested ones may be JSON in text."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        """A parameter as text, `""` where it is missing."""
        value = self.values.get(name)
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    def whole(self, name: str, default: int) -> int:
        """A whole number; what is none counts as `default`, as it does for Telegram."""
        text = self.text(name)
        return int(text) if re.fullmatch(r"-?\d+", text) else default

    def an_id(self, name: str) -> int | None:
        """The id of a chat, a message or a topic, None where it is missing."""
        return self.whole(name, 0) or None

    def flag(self, name: str) -> bool:
        """A boolean."""
        return self.text(name).lower() in ("true", "1", "yes", "t")

    def nested(self, name: str) -> Any:
        """An object or a list, None where it is missing; raises Refusal where it is no JSON."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise Refusal(400, f"Bad Request: can't parse {name} JSON object") from None


async def get_updates(bot: Bot, parameters: Parameters) -> list[Json]:
    """The updates that wait; a call that finds none waits for `timeout` seconds at most."""
    if bot.webhook is not None:
        raise Refusal(409, WEBHOOK_ACTIVE)
    bot.end_poll(OTHER_POLL)
    bot.ask_for(parameters.nested("allowed_updates"))
    bot.confirm(parameters.whole("offset", 0))
    limit = min(max(parameters.whole("limit", MAX_BATCH), 1), MAX_BATCH)
    timeout_s = min(max(parameters.whole("timeout", 0), 0), MAX_POLL_S)
    if not bot.pending and timeout_s:
        poll = asyncio.get_running_loop().create_future()
        bot.poll = poll
        try:
            async with asyncio.timeout(timeout_s):
                await poll
        except TimeoutError:
            return []
        finally:
            if bot.poll is poll:
                bot.poll = None
    return [update.json() for update in bot.pending[:limit]]


def drop_webhook(bot: Bot) -> None:
    """Take no more updates to a bot's webhook."""
    if bot.webhook is not None:
        for task in bot.webhook.tasks.values():
            task.cancel()
        bot.webhook = None


def _get_me(bot: Bot, parameters: Parameters) -> Json:
    return bot.user_json() | {
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }


def _set_webhook(bot: Bot, parameters: Parameters) -> bool:
    url = parameters.text("url")
    if not url:
        return _delete_webhook(bot, parameters)
    if not re.match(r"https?://[^\s/]", url):
        raise Refusal(400, "Bad Request: bad webhook: invalid URL specified")
    secret_token = parameters.text("secret_token")
    if not _SECRET_TOKEN.fullmatch(secret_token):
        raise Refusal(400, "Bad Request: secret token contains unallowed characters")
    max_connections = min(max(parameters.whole("max_connections", 40), 1), 100)
    drop_webhook(bot)
    bot.end_poll("terminated by setWebhook request")
    bot.ask_for(parameters.nested("allowed_updates"))
    if parameters.flag("drop_pending_updates"):
        bot.pending.clear()
    bot.webhook = Webhook(url, secret_token, max_connections)
    return True


def _delete_webhook(bot: Bot, parameters: Parameters) -> bool:
    drop_webhook(bot)
    if parameters.flag("drop_pending_updates"):
        bot.pending.clear()
    return True


def _get_webhook_info(bot: Bot, parameters: Parameters) -> Json:
    known: Json = {"has_custom_certificate": False, "pending_update_count": len(bot.pending)}
    webhook = bot.webhook
    if webhook is None:
        return {"url": ""} | known
    told: Json = {"url": webhook.url, "max_connections": webhook.max_connections}
    if webhook.last_error:
        told["last_error_date"] = int(webhook.last_error_at)
        told["last_error_message"] = webhook.last_error
    return told | known | {"allowed_updates": sorted(bot.kinds)}


def _send_message(bot: Bot, parameters: Parameters) -> Json:
    reply = parameters.nested("reply_parameters") or {}
    if not isinstance(reply, dict) or (reply and not isinstance(reply.get("message_id"), int)):
        raise Refusal(400, "Bad Request: can't parse reply parameters JSON object")
    return bot.send(
        parameters.text("chat_id"),
        parameters.text("text"),
        parameters.text("parse_mode"),
        parameters.an_id("message_thread_id"),
        reply.get("message_id"),
        may_lose_reply=bool(reply.get("allow_sending_without_reply")),
    )


def _send_chat_action(bot: Bot, parameters: Parameters) -> bool:
    chat = bot.chat_to_write_to(parameters.text("chat_id"))
    thread_id = parameters.an_id("message_thread_id")
    if thread_id is not None and thread_id not in chat.topics:
        raise Refusal(400, "Bad Request: message thread not found")
    if parameters.text("action") not in ACTIONS:
        raise Refusal(400, "Bad Request: wrong parameter action in request")
    return True


def _edit_message_text(bot: Bot, parameters: Parameters) -> Json:
    return bot.edit(
        parameters.text("chat_id"),
        parameters.whole("message_id", 0),
        parameters.text("text"),
        parameters.text("parse_mode"),
    )


METHODS: Mapping[str, Callable[[Bot, Parameters], Any]] = {
    "getme": _get_me,
    "setwebhook": _set_webhook,
    "deletewebhook": _delete_webhook,
    "getwebhookinfo": _get_webhook_info,
    "sendmessage": _send_message,
    "sendchataction": _send_chat_action,
    "editmessagetext": _edit_message_text,
}
