"""Custom resources as values: their kinds, what identifies one and which mark its rows carry.

Decides how the head of a resource is read (`metadata`, our annotations); what its spec means is
decided in `resource_definitions.py`, what is said of it in `resource_status.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fased.core import durations, owners
from fased.core.names import Namespace

GROUP = "fased.dev"
VERSION = "v1alpha1"
RUN_NOW = f"{GROUP}/run-now"
PAUSED = f"{GROUP}/paused"
MAX_RUN_NOW_CHARS = 256

_TRUE = "true"


class Kind(StrEnum):
    """The kinds of custom resources, in the order in which they are needed."""

    MODEL_PROVIDER = "ModelProvider"
    AGENT = "Agent"
    CHANNEL = "Channel"
    ROUTE = "Route"
    TASK = "Task"

    @property
    def plural(self) -> str:
        """The word in the apiserver's paths."""
        return f"{self.value.lower()}s"


@dataclass(frozen=True, slots=True)
class Key:
    """Which resource: a name that is used again has another uid, and is another resource.

    `name` is `""` where only the rows of a resource are left.
    """

    kind: Kind
    namespace: Namespace
    name: str = field(compare=False)
    uid: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as the apiserver gave it. `run_now` and `paused` are what its annotations say."""

    key: Key
    generation: int
    version: str
    created_at: datetime
    spec: Mapping[str, object] = field(hash=False)
    status: Mapping[str, object] = field(hash=False)
    run_now: str = ""
    paused: bool = False

    @property
    def owner(self) -> str:
        """What marks the rows that follow from it."""
        return owner_of(self.key.uid)

    def asks_the_same(self, other: "Resource") -> bool:
        """Whether both want the same of Fased: only status and marks of others differ."""
        mine = (self.generation, self.run_now, self.paused)
        return mine == (other.generation, other.run_now, other.paused)

    def is_older_than(self, other: "Resource") -> bool:
        """Whether it was stored before the other; versions that are no numbers are never older."""
        if not (self.version.isdigit() and other.version.isdigit()):
            return False
        return int(self.version) < int(other.version)


def owner_of(uid: str) -> str:
    """The mark of a resource's rows, `resource:UID`."""
    return owners.RESOURCE + uid


def uid_of(managed_by: str) -> str:
    """The uid in a mark, `""` where the owner is no resource."""
    return managed_by.removeprefix(owners.RESOURCE) if owners.is_resource(managed_by) else ""


def read_resource(kind: Kind, body: Mapping[str, object]) -> Resource:
    """The resource in an apiserver's object; raises KeyError or TypeError for what is none."""
    metadata = _mapping(body["metadata"])
    annotations = _mapping(metadata.get("annotations"))
    return Resource(
        key=Key(
            kind,
            Namespace(str(metadata["namespace"])),
            str(metadata["name"]),
            str(metadata["uid"]),
        ),
        generation=int(str(metadata.get("generation", 0))),
        version=str(metadata.get("resourceVersion", "")),
        created_at=durations.parse_instant(str(metadata["creationTimestamp"])),
        spec=_mapping(body.get("spec")),
        status=_mapping(body.get("status")),
        run_now=str(annotations.get(RUN_NOW, ""))[:MAX_RUN_NOW_CHARS],
        paused=str(annotations.get(PAUSED, "")).strip().lower() == _TRUE,
    )


def named(sentence: str, uid: str, kind: Kind, name: str) -> str:
    """A sentence that names an owner by its uid, with the resource's name instead."""
    return re.sub(rf"(?:the custom resource )?{re.escape(uid)}", f"the {kind} {name}", sentence)


def _mapping(value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"an object was expected, not {type(value).__name__}")
    return value
