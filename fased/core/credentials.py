"""How a credential is named: `env:NAME`, `file:PATH` or `secret:NAME/KEY`. Decides the spelling of
references; their values are read elsewhere (`fased/secrets.py`), and never stored.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from fased.core.errors import InvalidArgument

_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}\Z")
_FILE = re.compile(r"[^\0\n]{1,1000}\Z")
# A Secret is named by a DNS subdomain; its keys are what a file may be called.
_SECRET_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
)
_SECRET_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}\Z")


class CredentialKind(StrEnum):
    """Where a credential's value is."""

    ENV = "env"
    FILE = "file"
    SECRET = "secret"


@dataclass(frozen=True, slots=True)
class CredentialReference:
    """A credential by name: a variable, a path, or a Secret's name with the `key` in it."""

    kind: CredentialKind
    where: str
    key: str = ""


def parse_reference(text: str) -> CredentialReference:
    """What a reference names; raises InvalidArgument for anything else.

    What was written is not repeated: it may be the credential itself.
    """
    kind, _, where = text.partition(":")
    if kind == CredentialKind.ENV and _ENV.match(where):
        return CredentialReference(CredentialKind.ENV, where)
    if kind == CredentialKind.FILE and _FILE.match(where):
        return CredentialReference(CredentialKind.FILE, where)
    name, _, key = where.partition("/")
    if kind == CredentialKind.SECRET and _SECRET_NAME.match(name) and _SECRET_KEY.match(key):
        return CredentialReference(CredentialKind.SECRET, name, key)
    raise InvalidArgument(
        "a credential is named by env:NAME, file:PATH or secret:NAME/KEY, never written out",
        reason="INVALID_CREDENTIAL",
        metadata={"field": "credential"},
    )
