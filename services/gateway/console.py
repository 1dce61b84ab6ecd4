"""The chat page and its files, and the health answers. Decides nothing."""

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fased.core.conversations import MAX_TEXT_CHARS
from fased.core.errors import FasedError
from services.gateway.services import Services

READY_TIMEOUT_S = 2.0
_HERE = Path(__file__).parent


def routes() -> list[Route | Mount]:
    """The page, its static files, and health."""
    pages = Environment(
        loader=FileSystemLoader(_HERE / "pages"), autoescape=True, undefined=StrictUndefined
    )
    html = pages.get_template("chat.html").render(max_text_chars=MAX_TEXT_CHARS)

    async def chat(request: Request) -> Response:
        return HTMLResponse(html)

    return [
        Route("/", chat, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]


async def healthz(request: Request) -> Response:
    """This process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether every service behind answers; names those that do not."""
    services: Services = request.app.state.services
    waiting = [name for name, channel in services.by_name.items() if not await _is_serving(channel)]
    if waiting:
        return JSONResponse({"status": "waiting", "for": waiting}, 503)
    return JSONResponse({"status": "ok"})


async def _is_serving(channel: grpc.aio.Channel) -> bool:
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=READY_TIMEOUT_S
        )
    except FasedError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
