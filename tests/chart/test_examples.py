"""The manifests of `examples/`: an apiserver takes them as they are, and as the cluster's tests
change them. That they work is the cluster's suite.
"""

from pathlib import Path

import pytest

from tests.support import crds
from tests.support.kubernetes.access import Kubernetes

_ROOT = Path(__file__).parents[2]
_KINDS = {"agent", "channel", "modelprovider", "route", "task"}


@pytest.mark.parametrize("folder", ["examples", "tests/e2e/examples"])
async def test_the_examples_are_valid(kubernetes: Kubernetes, folder: str) -> None:
    for definition in crds.texts():
        await kubernetes.kubectl("apply", "--server-side", "--filename=-", stdin=definition)
    names = [f"crd/{each['metadata']['name']}" for each in crds.definitions().values()]
    await kubernetes.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s")
    said = await kubernetes.kubectl(
        "apply",
        f"--kustomize={_ROOT / folder}",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
    )
    kinds = {
        line.partition(".fased.dev/")[0] for line in said.splitlines() if ".fased.dev/" in line
    }
    assert kinds == _KINDS
