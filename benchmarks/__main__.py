"""Runs every benchmark in a short form, one after the other: `make bench`, one JSON line a figure.

Decides how short; each program says by `--help` or its docstring what it takes in full. Each is a
process of its own; one that fails is told on standard error and the others still run.
"""

import subprocess
import sys

from tests.support.postgres import statement, with_database
from tests.support.postgres15 import temporary_cluster_postgres

# Stands for the DSN of an empty database.
EMPTY_DATABASE = "DSN"
SHORT = (
    ("routing", "--messages", "20000", "--rounds", "3"),
    ("queue", "drain", "20000", EMPTY_DATABASE),
    ("queue", "fifo", "5000", EMPTY_DATABASE),
    ("queue", "pickup", "100", EMPTY_DATABASE),
    ("queue", "periodic", "2000", EMPTY_DATABASE),
    ("firing", "--tasks", "2000", "--rounds", "1"),
    ("ingress", "--rounds", "1"),
    ("message_path", "one", "--door", "outbox", "--messages", "500"),
    ("message_path", "one", "--door", "webchat", "--messages", "500"),
    ("message_path", "one", "--door", "telegram", "--messages", "500"),
    ("message_path", "many", "--door", "telegram", "--messages", "500"),
    ("reconciles", "--tasks", "200"),
)


def main() -> None:
    """Prints the figures; leaves with 1 when a benchmark failed."""
    failed = [words for words in SHORT if not _run(words)]
    sys.exit(1 if failed else 0)


def _run(words: tuple[str, ...]) -> bool:
    """Whether the benchmark came to its end."""
    if EMPTY_DATABASE not in words:
        return _called(words)
    with temporary_cluster_postgres() as server:
        statement(server.dsn, "CREATE DATABASE benchmark")
        dsn = with_database(server.dsn, "benchmark")
        return _called(tuple(dsn if word == EMPTY_DATABASE else word for word in words))


def _called(words: tuple[str, ...]) -> bool:
    name, *arguments = words
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False)
    if done.returncode:
        print(f"benchmarks.{name} ended with {done.returncode}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    main()
