"""What requests may say, and how they are read. Decides shapes and sizes; the services decide
whether it can be.
"""

import json
import re
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import ClientDisconnect, Request

from fased.core.errors import InvalidArgument, Unavailable
from fased.wire.plain import camel
from services.gateway.errors import BodyTooLarge

MAX_BODY_BYTES = 1024 * 1024
# JSON can spell one half of a pair, which is no character.
_SURROGATE = re.compile("[\ud800-\udfff]")

M = TypeVar("M", bound=BaseModel)


class Words(BaseModel):
    """What a caller says: no unknown fields, no text that the database cannot hold."""

    model_config = ConfigDict(extra="forbid", alias_generator=camel)

    @field_validator("*")
    @classmethod
    def _can_be_stored(cls, value: object) -> object:
        if isinstance(value, str) and ("\0" in value or _SURROGATE.search(value)):
            raise ValueError("text holds no NUL and no half of a surrogate pair")
        return value


class Body(Words):
    """A JSON object; values are not bent into other types."""

    model_config = ConfigDict(strict=True)


class Query(Words):
    """Parameters of an address."""


class Login(Body):
    """A token that the browser is to remember."""

    token: str = Field(min_length=1, max_length=1000)


class NewSession(Body):
    """A named session beside an Agent's main one."""

    title: str
    agent_id: str = ""
    request_id: str = ""


class NewConversation(Body):
    """What to attach to; empty means the default Agent, and its main session."""

    agent_id: str = ""
    session_key: str = ""


class NewMessage(Body):
    """A person's message; its id may also be the Idempotency-Key header."""

    text: str
    message_id: str = ""
    reply_to_id: str = ""
    sender_name: str = Field(default="", max_length=100)


class Page(Query):
    """Where a list goes on."""

    page_size: int = 0
    page_token: str = ""


class OwnedPage(Page):
    """A list, of one Agent or session where given."""

    agent_id: str = ""
    session_key: str = ""


class RunPage(Page):
    """A list of runs, of one task or session where given."""

    task_id: str = ""
    session_key: str = ""


class StreamQuery(Query):
    """The sequence after which a stream begins."""

    after: int = Field(default=0, ge=0)


async def read_body(request: Request, model: type[M]) -> M:
    """The JSON body as `model`; raises InvalidArgument naming the field, BodyTooLarge."""
    try:
        parsed = json.loads(await _read(request))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise InvalidArgument(
            "the body is not valid JSON", reason="INVALID_JSON", metadata={"field": "body"}
        ) from None
    return _validated(model, parsed, "INVALID_BODY")


def read_query(request: Request, model: type[M]) -> M:
    """The address's parameters as `model`; raises InvalidArgument naming the parameter."""
    return _validated(model, dict(request.query_params), "INVALID_PARAMETER")


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLarge(
                    f"the body is larger than {MAX_BODY_BYTES} bytes",
                    reason="BODY_TOO_LARGE",
                    metadata={"field": "body"},
                )
    except ClientDisconnect as exc:
        raise Unavailable("the client went away", reason="CLIENT_GONE") from exc
    return bytes(body)


def _validated(model: type[M], values: object, reason: str) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidArgument(
            f"{field[:100]}: {first['msg'].lower()}", reason=reason, metadata={"field": field[:100]}
        ) from None
