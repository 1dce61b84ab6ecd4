"""Log lines that a library repeats many times a second while something is down.

Decides which are dropped: of lines of one kind, one is kept each period.
"""

import logging


class Repeats(logging.Filter):
    """Keeps one line each `period_s` of those with the same logger and text before its values.

    Only top-level loggers of `names`, and those below them, are held back.
    """

    def __init__(self, names: tuple[str, ...], *, period_s: float) -> None:
        super().__init__()
        self._names = names
        self._period_s = period_s
        self._kept_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is kept."""
        if record.name.partition(".")[0] not in self._names:
            return True
        kind = (record.name, str(record.msg))
        if record.created - self._kept_at.get(kind, 0.0) < self._period_s:
            return False
        self._kept_at[kind] = record.created
        return True
