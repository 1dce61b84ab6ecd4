"""The HTTP application, put together. Decides what is in it."""

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from fased.core.errors import FasedError
from services.gateway import api, console, conversations, errors
from services.gateway.guard import Guard
from services.gateway.services import Services


def new_app(services: Services, names: frozenset[str], stop: asyncio.Event) -> Starlette:
    """The application; `names` are hosts beside loopback that it goes by, `stop` ends streams."""
    app = Starlette(
        routes=[*console.routes(), *api.ROUTES, *conversations.ROUTES],
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={
            FasedError: errors.on_fased_error,
            HTTPException: errors.on_http_exception,
        },
    )
    app.state.services = services
    app.state.stop = stop
    return app
