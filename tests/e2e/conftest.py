"""What every test that starts `fased up` shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import remove_database


@pytest.fixture
def up_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a `fased up` under test; its database goes with the test."""
    yield {"HOME": str(tmp_path)}
    remove_database(tmp_path / "state")
