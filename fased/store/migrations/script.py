"""Runs the SQL file beside a revision. Decides nothing: the file is the revision."""

from pathlib import Path

from alembic import op
from sqlalchemy import text
from sqlalchemy.util import await_only


def run_sql_beside(revision_file: str) -> None:
    """Run `<revision>.sql`, many statements at once, inside the revision's transaction."""
    bind = op.get_bind()
    bind.execute(text("SELECT 1"))  # the driver's transaction begins with the first statement
    script = Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8")
    await_only(bind.connection.driver_connection.execute(script))  # type: ignore[union-attr]
