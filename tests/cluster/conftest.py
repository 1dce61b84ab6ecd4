"""The cluster that the tests of charts and images share, and what they measured. Decides none of
its behaviour, but that nothing of it is left on this machine.
"""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.installation import FIGURES
from tests.support.kubernetes.cluster import KubernetesCluster, kubernetes_cluster
from tests.support.kubernetes.traces import nothing_left


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[KubernetesCluster]:
    """A cluster of one node, for this run."""
    with nothing_left():
        async with kubernetes_cluster() as started:
            yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell durations and sizes after the run."""
    figures = terminalreporter.config.stash.get(FIGURES, {})
    if figures:
        terminalreporter.write_line(f"figures: {json.dumps(figures)}")
