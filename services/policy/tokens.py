"""TokenService: keeps the tokens of people and programs. What may be granted: `core/tokens.py`."""

import secrets
from typing import Any

from fased.api.policy.v1 import policy_service_pb2 as pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.core.errors import AlreadyExists, InvalidArgument, NotFound, Unauthenticated
from fased.core.names import parse_parent, parse_resource_name
from fased.core.tokens import Token, checked_token
from fased.rpc.interceptors import current_caller
from fased.store.database import Database
from fased.store.policy import tokens
from fased.wire.agents import TOKENS, caller_to_pb, role_from_pb, token_to_pb
from fased.wire.times import from_timestamp
from services.policy.settings import MIN_SECRET_CHARS

SECRET_PREFIX = "fased_"


class TokenServicer(policy_service_pb2_grpc.TokenServiceServicer):
    """Tokens over gRPC."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._pool = database.queue

    async def CreateToken(
        self, request: pb.CreateTokenRequest, context: Any
    ) -> pb.CreateTokenResponse:
        """A new token, with its secret this once."""
        new = checked_token(_asked(request), current_caller())
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        async with self._engine.begin() as conn:
            created = await tokens.create(conn, new, secret)
        if created is None:
            raise AlreadyExists(
                f"there is a token {new.id} already; revoke it or choose another id",
                reason="TOKEN_EXISTS",
                metadata={"field": "token_id"},
            )
        return pb.CreateTokenResponse(token=token_to_pb(created), secret=secret)

    async def ListTokens(
        self, request: pb.ListTokensRequest, context: Any
    ) -> pb.ListTokensResponse:
        """A namespace's tokens, without secrets."""
        async with self._engine.connect() as conn:
            found = await tokens.list_all(conn, parse_parent(request.parent))
        return pb.ListTokensResponse(tokens=[token_to_pb(each) for each in found])

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, context: Any
    ) -> pb.RevokeTokenResponse:
        """End a token at once."""
        namespace, token_id = parse_resource_name(request.name, TOKENS)
        async with self._engine.begin() as conn:
            if not await tokens.revoke(conn, namespace, token_id):
                raise NotFound(f"there is no token {token_id[:80]}", reason="TOKEN_MISSING")
        return pb.RevokeTokenResponse()

    async def Authenticate(
        self, request: pb.AuthenticateRequest, context: Any
    ) -> pb.AuthenticateResponse:
        """Who a secret stands for."""
        async with self._pool.acquire() as conn:
            caller = await tokens.caller_of(conn, request.secret)
        if caller is None:
            raise Unauthenticated(
                "this token is not known, has ended or was revoked", reason="TOKEN_INVALID"
            )
        return pb.AuthenticateResponse(caller=caller_to_pb(caller))

    async def EnsureToken(
        self, request: pb.EnsureTokenRequest, context: Any
    ) -> pb.EnsureTokenResponse:
        """Let the start's own token stand."""
        if len(request.secret) < MIN_SECRET_CHARS:
            raise InvalidArgument(
                f"a secret has at least {MIN_SECRET_CHARS} characters",
                reason="SECRET_TOO_SHORT",
                metadata={"field": "secret"},
            )
        async with self._engine.begin() as conn:
            await tokens.ensure(conn, _asked(request), request.secret)
        return pb.EnsureTokenResponse()


def _asked(request: pb.CreateTokenRequest | pb.EnsureTokenRequest) -> Token:
    namespace = parse_parent(request.parent)
    return Token(
        namespace=namespace,
        id=request.token_id,
        role=role_from_pb(request.role),
        namespaces=tuple(request.namespaces) or (namespace,),
        expires_at=from_timestamp(request, "expire_time")
        if isinstance(request, pb.CreateTokenRequest)
        else None,
    )
