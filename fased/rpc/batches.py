"""What may be asked for together in one call. Decides the bound only."""

from fased.core.errors import InvalidArgument

MAX_TOGETHER = 1000


def check_count(field: str, count: int, most: int = MAX_TOGETHER) -> None:
    """Refuse a request that holds more items than one call may; `field` is theirs."""
    if count > most:
        raise InvalidArgument(
            f"at most {most} {field} at once",
            reason="TOO_MANY_AT_ONCE",
            metadata={"field": field},
        )
