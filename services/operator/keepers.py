"""What keeps the definitions of a kind of resource: the one shape that all kinds have here.

Decides nothing; `agents.py`, `providers.py`, `channels.py`, `routes.py` and `tasks.py` are the
five. Each call has a deadline, and raises FasedError.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Protocol

from fased.api.types.v1 import owner_pb2
from fased.core.conditions import ConditionType
from fased.core.resource_status import Observed
from fased.core.resources import Key, Kind, Resource

# Shorter than what is left of a Lease when its holder no longer begins anything.
CALL_TIMEOUT_S = 4.0
_PREFIX = "resource:"


class Keeper(Protocol):
    """A service, or two, that keep what a kind of resource defines."""

    @property
    def kind(self) -> Kind:
        """The kind."""
        ...

    @property
    def types(self) -> tuple[ConditionType, ...]:
        """The conditions of the kind before Ready, the first of them Accepted."""
        ...

    def apply(self, resource: Resource) -> Coroutine[None, None, None]:
        """Make what a resource defines stand.

        Raises InvalidArgument or FailedPrecondition for what cannot be meant, Aborted for a
        generation that is older than what stands, and others for what may succeed later.
        """
        ...

    def withdraw(self, key: Key) -> Coroutine[None, None, None]:
        """Remove what a resource that is gone has defined; nothing there is as well."""
        ...

    async def observe(self, resource: Resource) -> Observed:
        """What is to be said of an applied resource."""
        ...

    def owners(self) -> AsyncIterator[owner_pb2.Owner]:
        """The resources that define something, in all namespaces; one may come twice."""
        ...


class OwnersPage(Protocol):
    """An answer of every `List…Owners`."""

    next_page_token: str

    @property
    def owners(self) -> Iterable[owner_pb2.Owner]:
        """The owners of the page."""
        ...


async def pages(
    ask: Callable[[str, str], Awaitable[OwnersPage]],
) -> AsyncIterator[owner_pb2.Owner]:
    """The owners of all pages; `ask` is given the prefix and the page's token."""
    token = ""
    while True:
        page = await ask(_PREFIX, token)
        for owner in page.owners:
            yield owner
        if not (token := page.next_page_token):
            return
