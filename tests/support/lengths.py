"""How long a test of endurance is. Decides by `FASED_TEST_LENGTH`: `full`, as `make soak` sets it,
or short, as in `make test`.
"""

import os

IS_FULL = os.environ.get("FASED_TEST_LENGTH") == "full"


def length(short: int, full: int) -> int:
    """The one of the two that counts in this run."""
    return full if IS_FULL else short
