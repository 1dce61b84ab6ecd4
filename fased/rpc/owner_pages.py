"""Pages of owners, alike in every service that has some. Decides their size and order."""

from typing import Protocol

from fased.api.types.v1 import owner_pb2
from fased.rpc import paging
from fased.store import owners
from fased.store.database import Connection
from fased.store.owners import Owned


class OwnersRequest(Protocol):
    """What every request for owners asks."""

    prefix: str
    page_size: int
    page_token: str


async def read(
    conn: Connection, owned: Owned, request: OwnersRequest
) -> tuple[list[owner_pb2.Owner], str]:
    """A page of owners, and the token of the next one; `""` at the end.

    Raises InvalidArgument for a page size or a token that cannot be meant.
    """
    size = paging.page_size(request.page_size, default=paging.MAX_PAGE_SIZE)
    query = {"owners": owned, "prefix": request.prefix}
    position = paging.decode(request.page_token, query) or ["", ""]
    if len(position) != 2:
        raise paging.foreign()
    after = str(position[0]), str(position[1])
    found = await owners.list_after(conn, owned, request.prefix, after, size + 1)
    token = ""
    if len(found) > size:
        token = paging.encode([found[size - 1].namespace, found[size - 1].managed_by], query)
    return [
        owner_pb2.Owner(
            namespace=each.namespace, managed_by=each.managed_by, generation=each.generation
        )
        for each in found[:size]
    ], token
