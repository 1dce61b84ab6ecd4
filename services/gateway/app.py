"""The HTTP application, put together. Decides what is in it."""

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from fased.core.errors import FasedError
from services.gateway import api, console, conversations, errors
from services.gateway.guard import Guard
from services.gateway.services import Services
from services.gateway.settings import Settings
from services.gateway.traced import Traced


def new_app(services: Services, settings: Settings, stop: asyncio.Event) -> Starlette:
    """The application; `stop` ends its event streams."""
    app = Starlette(
        routes=[*console.routes(), *api.ROUTES, *conversations.ROUTES],
        middleware=[Middleware(Guard, names=settings.allowed_hosts()), Middleware(Traced)],
        exception_handlers={
            FasedError: errors.on_fased_error,
            HTTPException: errors.on_http_exception,
        },
    )
    app.state.services = services
    app.state.stop = stop
    app.state.heartbeat_s = settings.stream_heartbeat_s
    return app
