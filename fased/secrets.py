"""Secrets by reference: `env:NAME` and `file:PATH`. Decides how a reference becomes a value; the
value goes to the one call that needs it, never to a row, a log or an error.
"""

from collections.abc import Mapping
from pathlib import Path

from fased.core.errors import FailedPrecondition, InvalidArgument

MAX_SECRET_BYTES = 64 * 1024


def resolve(reference: str, environment: Mapping[str, str]) -> str:
    """The secret that a reference names, without white space around it.

    Raises InvalidArgument for another kind of reference, FailedPrecondition (SECRET_MISSING) with
    the setup target when nothing is there.
    """
    kind, _, where = reference.partition(":")
    if kind == "env" and where:
        value = environment.get(where, "").strip()
    elif kind == "file" and where:
        value = _file_text(Path(where))
    else:
        raise InvalidArgument(
            "a secret is named by env:NAME or file:PATH",
            reason="INVALID_SECRET_REFERENCE",
            metadata={"field": "secret"},
        )
    if not value:
        raise _missing(where, "is not set" if kind == "env" else "is empty")
    return value


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        if len(content) > MAX_SECRET_BYTES:
            raise _missing(str(path), "is too large for a secret")
        return content.decode().strip()
    except OSError as exc:
        raise _missing(str(path), f"cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError:
        # Not chained: the decoder's error carries the file's content.
        raise _missing(str(path), "is not UTF-8 text") from None


def _missing(where: str, how: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the secret {where} {how}", reason="SECRET_MISSING", metadata={"setup_target": where}
    )
