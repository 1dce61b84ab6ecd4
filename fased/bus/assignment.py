"""Which member of a group reads which partition. Decides that alone, from who is there."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from fased.store.buslog import Member, Partition


def share(
    members: Iterable[Member], member: UUID, partitions: Mapping[str, int]
) -> frozenset[Partition]:
    """What `member` should own: of each topic an equal share among those who read it.

    Every member comes to the same division from the same members. A member that is not among them
    has no share.
    """
    wanted: set[Partition] = set()
    by_id = sorted((each for each in members if not each.is_expired), key=lambda each: each.id)
    for topic, count in partitions.items():
        readers: Sequence[UUID] = [each.id for each in by_id if topic in each.topics]
        if member in readers:
            turn = readers.index(member)
            wanted.update(Partition(topic, p) for p in range(turn, count, len(readers)))
    return frozenset(wanted)
