"""What one owner of routing rules says, made to stand beside what others own.

Decides which rows that touches: a binding that was made by command gives way to the owner's for
the same messages, one of another owner does not. Stores nothing while nothing changes.
"""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from fased.core.errors import InvalidArgument
from fased.core.names import Namespace
from fased.core.owners import check_owner, checked_owner, is_resource
from fased.rpc.batches import check_count
from fased.store import codec, database, owners
from fased.store.owners import Owned
from fased.store.router import bindings
from fased.store.router.bindings import Routing, Settings, StoredBinding


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that an owner says: its bindings in order, and settings if it names them."""

    owner: str
    bindings: tuple[StoredBinding, ...]
    settings: Settings | None
    generation: int = 0


async def apply(conn: AsyncConnection, namespace: Namespace, wanted: Wanted) -> int:
    """Make it stand; gives the version, a new one when anything changed.

    Raises InvalidArgument without an owner or for an id named twice, FailedPrecondition for what
    another owner has, Aborted for an older generation.
    """
    _check(wanted)
    driver = await database.driver(conn)
    claimed = Owned.ROUTING, namespace, wanted.owner
    await owners.claim(driver, *claimed, wanted.generation)
    if not wanted.bindings and wanted.settings is None:
        await owners.forget(driver, *claimed)
    version = await bindings.lock(conn, namespace)
    routes = await bindings.read(conn, namespace)
    gone = _gone(routes, wanted)
    known = {stored.binding.id: stored for stored in routes.bindings}
    changed = [stored for stored in wanted.bindings if not _stands(known, stored)]
    settings = _settings(routes.settings, wanted, namespace)
    if not gone and not changed and settings is None:
        return version
    await bindings.remove(conn, namespace, gone)
    for stored in changed:
        await bindings.put(conn, namespace, stored)
    if settings is not None:
        await bindings.set_settings(conn, namespace, settings)
    return await bindings.next_version(conn, namespace)


def _check(wanted: Wanted) -> None:
    checked_owner(wanted.owner)
    check_count("bindings", len(wanted.bindings))
    uses = Counter(stored.binding.id for stored in wanted.bindings)
    if twice := [one for one, count in uses.items() if count > 1]:
        raise InvalidArgument(
            f"two bindings are named {twice[0][:80]}",
            reason="DUPLICATE_BINDING",
            metadata={"field": "bindings"},
        )


def _gone(routes: Routing, wanted: Wanted) -> list[str]:
    """The ids of what the owner no longer names, and of what gives way to it."""
    ids = {stored.binding.id for stored in wanted.bindings}
    selectors = {stored.binding.selectors for stored in wanted.bindings}
    gone = []
    for stored in routes.bindings:
        binding = stored.binding
        if stored.managed_by == wanted.owner:
            if binding.id not in ids:
                gone.append(binding.id)
        elif binding.id in ids or (
            binding.selectors in selectors and not _may_compete(stored.managed_by, wanted.owner)
        ):
            check_owner("binding", binding.id, stored.managed_by, wanted.owner)
            gone.append(binding.id)
    return gone


def _may_compete(one: str, other: str) -> bool:
    """Whether two owners may ask for the same messages.

    Resources may, since nothing keeps them from being written: their order and age decide.
    """
    return is_resource(one) and is_resource(other)


def _stands(known: dict[str, StoredBinding], stored: StoredBinding) -> bool:
    found = known.get(stored.binding.id)
    return found is not None and (found.binding, found.managed_by) == (
        stored.binding,
        stored.managed_by,
    )


def _settings(known: Settings, wanted: Wanted, namespace: Namespace) -> Settings | None:
    """The settings to store, None when they stay."""
    if wanted.settings is None:
        return Settings() if known.managed_by == wanted.owner else None
    check_owner("session policy of", namespace, known.managed_by, wanted.owner)
    return None if _same(known, wanted.settings) else wanted.settings


def _same(one: Settings, other: Settings) -> bool:
    # As text, since the order of identity links counts and dictionaries compare without it.
    return codec.dump(one) == codec.dump(other)
