"""What an apiserver's audit log tells: who asked for what, and with which outcome."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a kind of object; the empty words are those that do not apply, and the user
    that nobody knows (any more).
    """

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int

    @property
    def permission(self) -> tuple[str, str, str, str, str, str]:
        """Who needs which right where, as RBAC counts it."""
        resource = (self.group, self.resource, self.subresource)
        return (self.user, self.verb, *resource, self.namespace)


def requests(log: Path, start: int = 0) -> list[Request]:
    """The requests in the log from byte `start` on, in its order; a watch counts when it begins.

    Requests for no object, such as `/readyz` or the discovery of kinds, are left out.
    """
    seen: set[str] = set()
    found = []
    for event in _events(log, start):
        if "objectRef" in event and event["auditID"] not in seen:
            seen.add(event["auditID"])
            found.append(_request(event))
    return found


def _events(log: Path, start: int) -> Iterator[dict[str, Any]]:
    if not log.exists():
        return
    with log.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            # The last line may be half written.
            if line.endswith(b"\n"):
                yield json.loads(line)


def _request(event: dict[str, Any]) -> Request:
    target = event["objectRef"]
    return Request(
        user=event["user"].get("username", ""),
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
    )
