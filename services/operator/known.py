"""The resources as they were last seen. Decides which of two bodies is the newer, and what of a
change asks for work; knows nothing of services.
"""

from collections.abc import Iterator
from enum import StrEnum

from fased.core.names import Namespace
from fased.core.resources import Key, Kind, Resource


class Change(StrEnum):
    """What became known of a resource."""

    NOTHING = "nothing"
    STATUS = "status"
    ASKS = "asks"


class Known:
    """All resources of the served namespaces, each once."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[Kind, Namespace], dict[str, Resource]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_kind.values()))

    def get(self, key: Key) -> Resource | None:
        """The resource, None when there is none with this uid."""
        return self._by_kind.get((key.kind, key.namespace), {}).get(key.uid)

    def put(self, resource: Resource, *, is_listed: bool = False) -> Change:
        """Keep a resource unless a newer body of it is known; a list is believed in any case."""
        key = resource.key
        room = self._by_kind.setdefault((key.kind, key.namespace), {})
        known = room.get(key.uid)
        if known is not None and not is_listed and resource.is_older_than(known):
            return Change.NOTHING
        room[key.uid] = resource
        if known is None or not resource.asks_the_same(known):
            return Change.ASKS
        return Change.NOTHING if resource.status == known.status else Change.STATUS

    def drop(self, key: Key) -> None:
        """Forget a resource that is gone."""
        room = self._by_kind.get((key.kind, key.namespace), {})
        room.pop(key.uid, None)
        if not room:
            self._by_kind.pop((key.kind, key.namespace), None)

    def of(self, kind: Kind, namespace: Namespace) -> list[Resource]:
        """The resources of a kind in a namespace."""
        return list(self._by_kind.get((kind, namespace), {}).values())

    def all(self, kind: Kind) -> Iterator[Resource]:
        """The resources of a kind, wherever they are."""
        for (of, _), room in list(self._by_kind.items()):
            if of is kind:
                yield from list(room.values())

    def namespaces(self) -> set[Namespace]:
        """The namespaces that have resources."""
        return {namespace for _, namespace in self._by_kind}
