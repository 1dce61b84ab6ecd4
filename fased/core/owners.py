"""Who owns a definition: a command, a file or a custom resource. Decides how owners are spelled,
what each may touch, and which of two applies of one owner is the newer.
"""

from fased.core import credentials
from fased.core.credentials import CredentialKind
from fased.core.errors import Aborted, FailedPrecondition, InvalidArgument

FILE = "file:"
RESOURCE = "resource:"
MAX_OWNER_CHARS = 300


def checked_owner(managed_by: str) -> str:
    """An owner that may apply; raises InvalidArgument unless it is file:NAME or resource:UID."""
    kind, colon, name = managed_by.partition(":")
    if kind + colon not in (FILE, RESOURCE) or not name or "\0" in name:
        raise _invalid("managed_by names the owner, as file:NAME or resource:UID")
    if len(managed_by) > MAX_OWNER_CHARS:
        raise _invalid(f"managed_by has at most {MAX_OWNER_CHARS} characters")
    return managed_by


def is_resource(managed_by: str) -> bool:
    """Whether the owner is a custom resource."""
    return managed_by.startswith(RESOURCE)


def check_owner(kind: str, name: str, managed_by: str, editor: str) -> None:
    """Raise FailedPrecondition when `editor` (`""`: a command) may not edit what another owns."""
    if managed_by and managed_by != editor:
        owner = managed_by.partition(":")[2]
        where = f"the custom resource {owner}" if is_resource(managed_by) else owner
        raise FailedPrecondition(
            f"{kind} {name} is defined in {where}; edit it there",
            reason="MANAGED_ELSEWHERE",
            metadata={"managed_by": managed_by, "name": name},
        )


def check_generation(asked: int, applied: int) -> None:
    """Raise Aborted (STALE_GENERATION) for an older definition than the one that stands.

    0 does not compare.
    """
    if 0 < asked < applied:
        raise Aborted(
            f"generation {asked} is older than {applied}, which was applied before",
            reason="STALE_GENERATION",
            metadata={"field": "generation", "applied": str(applied)},
        )


def check_credential(managed_by: str, reference: str) -> None:
    """Raise InvalidArgument where a resource's owner names what is not its namespace's to name.

    Environment and files are the shared processes' own; a Secret is the namespace's.
    """
    if not reference or not is_resource(managed_by):
        return
    if credentials.parse_reference(reference).kind is not CredentialKind.SECRET:
        raise InvalidArgument(
            "credential: a custom resource names a Secret of its own namespace",
            reason="INVALID_CREDENTIAL",
            metadata={"field": "credential"},
        )


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument(why, reason="INVALID_OWNER", metadata={"field": "managed_by"})
