"""`kubectl fased` on a real apiserver: how the gateway is looked for, and what is said where there
is none. That it is reached is the cluster's suite.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.kubernetes.access import Kubernetes
from tests.support.kubernetes.apiserver import Apiserver, temporary_apiserver

_GATEWAY = """\
apiVersion: v1
kind: Service
metadata:
  name: gateway
  namespace: {namespace}
  labels: {{app.kubernetes.io/name: fased, app.kubernetes.io/component: gateway}}
  annotations: {annotations}
spec:
  selector: {{app: none}}
  ports: [{{name: grpc, port: 18790}}]
"""


@pytest.fixture(scope="module")
def empty_apiserver() -> Iterator[Apiserver]:
    """An apiserver without a gateway, for this module."""
    with temporary_apiserver() as server:
        yield server


@pytest_asyncio.fixture
async def apiserver(empty_apiserver: Apiserver) -> AsyncIterator[Apiserver]:
    """The same; its Services are gone after the test."""
    yield empty_apiserver
    await empty_apiserver.kubectl("delete", "services", "--all", "--namespace=default")


async def test_without_a_gateway_the_next_step_is_told(apiserver: Apiserver) -> None:
    done = await _fased(apiserver, "agents", "list")
    assert done.returncode == 3
    assert "this cluster has no gateway of Fased (GATEWAY_UNREACHABLE)" in done.stderr
    assert "next: install the chart" in done.stderr


async def test_one_of_several_gateways_is_chosen_by_name(apiserver: Apiserver) -> None:
    await _make_gateway(apiserver)
    second = _GATEWAY.format(namespace="default", annotations="{}").replace(
        "name: gateway\n", "name: second\n", 1
    )
    await apiserver.kubectl("apply", "--filename=-", stdin=second)
    done = await _fased(apiserver, "agents", "list")
    assert done.returncode == 3
    assert "several gateways: default/gateway, default/second" in done.stderr
    assert "set FASED_GATEWAY_SERVICE to one" in done.stderr

    chosen = await _fased(apiserver, "agents", "list", FASED_GATEWAY_SERVICE="default/second")
    assert "the Service default/second names no Secret with a token" in chosen.stderr


async def test_a_gateway_is_named_with_its_namespace(apiserver: Apiserver) -> None:
    done = await _fased(apiserver, "agents", "list", FASED_GATEWAY_SERVICE="gateway")
    assert done.returncode == 3
    assert "write it as NAMESPACE/NAME" in done.stderr


async def test_without_a_token_the_variable_is_named(apiserver: Apiserver) -> None:
    await _make_gateway(apiserver, "{fased.dev/token-secret: tokens}")
    done = await _fased(apiserver, "agents", "list")
    assert done.returncode == 1
    assert '"tokens" not found (TOKEN_MISSING); field: FASED_TOKEN' in done.stderr


async def test_a_gateway_without_a_pod_is_told_with_where_to_look(apiserver: Apiserver) -> None:
    await _make_gateway(apiserver)
    done = await _fased(apiserver, "agents", "list", FASED_TOKEN="a-token")
    assert done.returncode == 3
    assert "no way to default/gateway: " in done.stderr
    assert "kubectl --namespace default get pods" in done.stderr


async def test_words_that_need_no_gateway_look_for_none(apiserver: Apiserver) -> None:
    done = await _fased(apiserver, "schedule", "preview", "--kind", "every", "--expr", "1h")
    assert done.returncode == 0, done.stderr


async def _make_gateway(apiserver: Kubernetes, annotations: str = "{}") -> None:
    manifest = _GATEWAY.format(namespace="default", annotations=annotations)
    await apiserver.kubectl("apply", "--filename=-", stdin=manifest)


async def _fased(
    apiserver: Kubernetes, *words: str, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run kubectl with the plugin, as it is installed beside this Python."""
    environment = apiserver.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for name in ("FASED_TOKEN", "FASED_GATEWAY", "FASED_NAMESPACE"):
        environment.pop(name, None)
    return await asyncio.to_thread(
        subprocess.run,
        ["kubectl", "fased", *words],
        env={**environment, **more},
        capture_output=True,
        text=True,
        check=False,
    )
