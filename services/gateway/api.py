"""The REST API beside conversations: the caller itself, Agents, sessions, tasks and runs.

Decides nothing: a request becomes one call to the service that owns the thing.
"""

import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fased.api.policy.v1 import policy_service_pb2
from fased.api.router.v1 import router_service_pb2
from fased.api.scheduler.v1 import scheduler_service_pb2
from fased.core.access import Caller
from fased.wire.plain import plain
from services.gateway import callers
from services.gateway.bodies import (
    Login,
    NewSession,
    OwnedPage,
    Page,
    RunPage,
    read_body,
    read_query,
)
from services.gateway.calls import asking

# An Idempotency-Key is free text; the services take UUIDs.
_REQUEST_IDS = uuid.UUID("0d6c2f0e-6f0b-5b62-8f0e-0a3b8a3a2c55")


async def login(request: Request) -> Response:
    """Let the browser carry a token, once it is known to be good."""
    body = await read_body(request, Login)
    caller = await callers.authenticate(request.app.state.services, body.token)
    response = JSONResponse(_caller(caller))
    callers.remember(request, response, body.token)
    return response


async def logout(request: Request) -> Response:
    """Let the browser drop its token."""
    response = JSONResponse({})
    callers.forget(request, response)
    return response


async def who_am_i(request: Request) -> Response:
    """The caller that the request's token stands for."""
    secret = callers.secret_of(request)
    return JSONResponse(_caller(await callers.authenticate(request.app.state.services, secret)))


async def list_agents(request: Request) -> Response:
    """A namespace's Agents."""
    ask, page = await asking(request), read_query(request, Page)
    message = policy_service_pb2.ListAgentsRequest(
        parent=ask.parent, page_size=page.page_size, page_token=page.page_token
    )
    return JSONResponse(plain(await ask.call(ask.services.agents.ListAgents, message)))


async def list_sessions(request: Request) -> Response:
    """A namespace's sessions, the last used first."""
    ask, page = await asking(request), read_query(request, OwnedPage)
    message = router_service_pb2.ListSessionsRequest(
        parent=ask.parent,
        agent_id=page.agent_id,
        page_size=page.page_size,
        page_token=page.page_token,
    )
    return JSONResponse(plain(await ask.call(ask.services.sessions.ListSessions, message)))


async def create_session(request: Request) -> Response:
    """A named session; a repeat with the same key answers with the first."""
    ask, body = await asking(request), await read_body(request, NewSession)
    message = router_service_pb2.CreateSessionRequest(
        parent=ask.parent,
        agent_id=body.agent_id,
        title=body.title,
        request_id=body.request_id or _request_id(request),
    )
    created = await ask.call(ask.services.sessions.CreateSession, message)
    return JSONResponse(plain(created), 201)


async def list_tasks(request: Request) -> Response:
    """A namespace's tasks."""
    ask, page = await asking(request), read_query(request, OwnedPage)
    message = scheduler_service_pb2.ListTasksRequest(
        parent=ask.parent,
        agent_id=page.agent_id,
        session_key=page.session_key,
        page_size=page.page_size,
        page_token=page.page_token,
    )
    return JSONResponse(plain(await ask.call(ask.services.tasks.ListTasks, message)))


async def list_runs(request: Request) -> Response:
    """A namespace's runs, live ones first."""
    ask, page = await asking(request), read_query(request, RunPage)
    message = scheduler_service_pb2.ListRunsRequest(
        parent=ask.parent,
        task_id=page.task_id,
        session_key=page.session_key,
        page_size=page.page_size,
        page_token=page.page_token,
    )
    return JSONResponse(plain(await ask.call(ask.services.runs.ListRuns, message)))


async def get_run(request: Request) -> Response:
    """One run, with checkpoints and deliveries."""
    ask = await asking(request)
    message = scheduler_service_pb2.GetRunRequest(name=ask.name("runs", "run"))
    return JSONResponse(plain(await ask.call(ask.services.runs.GetRun, message)))


_NAMESPACE = "/api/v1/namespaces/{namespace}"
ROUTES = (
    Route("/api/v1/login", login, methods=["POST"]),
    Route("/api/v1/logout", logout, methods=["POST"]),
    Route("/api/v1/me", who_am_i, methods=["GET"]),
    Route(f"{_NAMESPACE}/agents", list_agents, methods=["GET"]),
    Route(f"{_NAMESPACE}/sessions", list_sessions, methods=["GET"]),
    Route(f"{_NAMESPACE}/sessions", create_session, methods=["POST"]),
    Route(f"{_NAMESPACE}/tasks", list_tasks, methods=["GET"]),
    Route(f"{_NAMESPACE}/runs", list_runs, methods=["GET"]),
    Route(f"{_NAMESPACE}/runs/{{run}}", get_run, methods=["GET"]),
)


def _caller(caller: Caller) -> dict[str, object]:
    return {
        "subject": caller.subject,
        "role": caller.role.name.lower(),
        "namespaces": list(caller.namespaces),
    }


def _request_id(request: Request) -> str:
    key = request.headers.get("idempotency-key")
    return str(uuid.uuid5(_REQUEST_IDS, key) if key else uuid.uuid4())
