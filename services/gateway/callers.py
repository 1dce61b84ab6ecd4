"""Who a request comes from. Decides where a token may be (a header or the console's cookie, never
an address); what it stands for is the policy service's word, asked anew for every request.
"""

from starlette.requests import Request
from starlette.responses import Response

from fased.api.policy.v1 import policy_service_pb2
from fased.core.access import Caller
from fased.core.errors import Unauthenticated
from fased.wire.agents import caller_from_pb
from services.gateway.services import Services

AUTHENTICATE_TIMEOUT_S = 5.0
_SCHEME = "bearer "


async def authenticate(services: Services, secret: str) -> Caller:
    """The caller that a token stands for; raises Unauthenticated."""
    if not secret:
        raise Unauthenticated("a token is needed", reason="TOKEN_MISSING")
    request = policy_service_pb2.AuthenticateRequest(secret=secret)
    answer = await services.tokens.Authenticate(request, timeout=AUTHENTICATE_TIMEOUT_S)
    return caller_from_pb(answer.caller)


def bearer(authorization: str) -> str:
    """The token of an Authorization header's value; `""` when it holds none."""
    if not authorization.lower().startswith(_SCHEME):
        return ""
    return authorization[len(_SCHEME) :].strip()


def secret_of(request: Request) -> str:
    """The token that a request carries, a header before the cookie; `""` when none."""
    header = request.headers.get("authorization")
    if header is not None:
        return bearer(header)
    return request.cookies.get(_cookie_name(request), "")


def remember(request: Request, response: Response, secret: str) -> None:
    """Let the browser carry the token from now on, out of reach of scripts and other sites."""
    response.set_cookie(
        _cookie_name(request),
        secret,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        max_age=30 * 24 * 3600,
    )


def forget(request: Request, response: Response) -> None:
    """Let the browser drop the token."""
    response.delete_cookie(_cookie_name(request), path="/", httponly=True, samesite="strict")


def _cookie_name(request: Request) -> str:
    # Cookies of one host are shared by its ports: two gateways of one machine must not collide.
    return f"fased-token-{request.url.port or request.url.scheme}"
