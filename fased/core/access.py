"""Who may call what. Decides on caller, role and namespace; not how a caller proves itself."""

from dataclasses import dataclass
from enum import IntEnum

from fased.core.errors import PermissionDenied
from fased.core.names import Namespace

ALL_NAMESPACES = "*"


class Role(IntEnum):
    """What a caller may do; each includes the ones before it, but SERVICE (design §4.17)."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3
    SERVICE = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `namespaces` holds `*` for all of them."""

    subject: str
    role: Role
    namespaces: tuple[str, ...]

    def may_enter(self, namespace: Namespace) -> bool:
        """Whether the caller may act in this namespace at all."""
        return ALL_NAMESPACES in self.namespaces or namespace in self.namespaces


def check_call(caller: Caller, needed: Role, namespace: Namespace | None, method: str) -> None:
    """Raise PermissionDenied unless `caller` may use `method` there.

    `namespace` None is a call that names none, which only services make.
    """
    if caller.role is Role.SERVICE:
        return
    if needed is Role.SERVICE or caller.role < needed or namespace is None:
        raise PermissionDenied(
            f"{method} needs role {needed.name.lower()}, this token has {caller.role.name.lower()}",
            reason="ROLE_TOO_LOW",
            metadata={"method": method, "needs": needed.name.lower()},
        )
    if not caller.may_enter(namespace):
        raise PermissionDenied(
            f"this token does not act in namespace {namespace}",
            reason="NAMESPACE_DENIED",
            metadata={"namespace": namespace},
        )
