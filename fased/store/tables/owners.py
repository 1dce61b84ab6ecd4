"""The table of owners that each schema with owned rows has. Decides no query."""

from sqlalchemy import BigInteger, Column, Table, Text

from fased.store.tables.metadata import metadata

_NAME = Text(collation="C")


def owner(schema: str) -> Table:
    """The owners of one schema's rows."""
    return Table(
        "owner",
        metadata,
        Column("kind", Text, primary_key=True),
        Column("namespace", _NAME, primary_key=True),
        Column("managed_by", _NAME, primary_key=True),
        Column("generation", BigInteger, nullable=False),
        schema=schema,
    )
