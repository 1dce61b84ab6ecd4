"""`python -m fased.store.migrations URL [REVISION]`: runs Alembic up to a revision (head)."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config


def configuration(url: str) -> Config:
    """Alembic's settings for the database at `url`, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    return config


if __name__ == "__main__":
    command.upgrade(configuration(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "head")
