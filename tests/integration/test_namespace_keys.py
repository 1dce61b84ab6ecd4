"""What makes a row the only one of its kind, in every table that has namespaces."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, LargeBinary, Table, UniqueConstraint, Uuid

from fased.store.tables import channels, executor, policy, router, scheduler
from fased.store.tables.metadata import metadata

# Naming the modules makes their tables known.
TABLES = [
    table
    for module in (channels, executor, policy, router, scheduler)
    for table in metadata.sorted_tables
    if table.schema == module.__name__.rpartition(".")[2] and "namespace" in table.c
]


def unique_keys(table: Table) -> Iterator[set[str]]:
    """The sets of columns that make a row of a table the only one."""
    yield {column.name for column in table.primary_key}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            yield {column.name for column in index.columns}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fullname)
def test_an_id_that_people_choose_is_taken_in_its_namespace_only(table: Table) -> None:
    """Ids of runs, UUIDs and hashes of secrets are given out once for all namespaces."""
    for names in filter(None, unique_keys(table)):
        assert "namespace" in names or any(is_given_out(table.c[name]) for name in names), names


def is_given_out(column: Column[Any]) -> bool:
    if isinstance(column.type, BigInteger):
        return column.name in ("id", "run_id")
    return isinstance(column.type, Uuid | LargeBinary)
