"""The version of the zone data that slots are computed with. Decides where to look for it."""

import importlib.metadata
import zoneinfo
from functools import cache
from pathlib import Path


@cache
def version() -> str:
    """The IANA release, such as `2025b`; `""` where the system does not say."""
    for folder in zoneinfo.TZPATH:
        database = Path(folder)
        for name, prefix in (("tzdata.zi", "# version "), ("+VERSION", "")):
            try:
                with (database / name).open(encoding="ascii", errors="replace") as lines:
                    first = lines.readline().strip()
            except OSError:
                continue
            if first.startswith(prefix):
                return first.removeprefix(prefix)
        if (database / "UTC").exists():
            # The system has the zones and does not say which: the package is not what is read.
            return ""
    try:
        return importlib.metadata.version("tzdata")
    except importlib.metadata.PackageNotFoundError:
        return ""
