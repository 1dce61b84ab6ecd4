"""Calls as a person's, and conditions to wait for. Decides how long a test waits at most."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fased.core.access import Caller, Role
from fased.rpc.interceptors import actor_metadata

DEADLINE_S = 30.0


def acting(
    namespace: str = "default", role: Role = Role.OPERATOR, subject: str = "ada"
) -> dict[str, Any]:
    """Keyword arguments of a call that the gateway would make for a person."""
    return {"metadata": actor_metadata(Caller(subject, role, (namespace,)))}


async def eventually(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What `condition` gives once it is true; fails the test when it never is."""
    async with asyncio.timeout(DEADLINE_S):
        while not (value := await condition()):  # noqa: ASYNC110 (another process may do it)
            await asyncio.sleep(0.02)
    return value
