"""The cluster that other tests stand on. Decides nothing of ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.support.kubernetes.access import CommandFailed
from tests.support.kubernetes.cluster import KubernetesCluster

_POLL_PERIOD_S = 0.05
_HERE = Path(__file__).parent
_FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
_ASK = """
import http.client, pathlib, ssl
account = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
trusted = ssl.create_default_context(cafile=account / "ca.crt")
server = http.client.HTTPSConnection("kubernetes.default.svc", context=trusted, timeout=5)
token = {"Authorization": "Bearer " + (account / "token").read_text()}
server.request("GET", "/api/v1/namespaces/default/pods", headers=token)
print(server.getresponse().read().decode())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(cluster: KubernetesCluster) -> AsyncIterator[KubernetesCluster]:
    """The cluster with two pods behind the Service `web`."""
    await cluster.build_image(_HERE / "image", "localhost/answer:test")
    await cluster.kubectl("apply", f"--filename={_HERE / 'web.yaml'}")
    await cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    yield cluster
    await cluster.kubectl("delete", f"--filename={_HERE / 'web.yaml'}")


async def test_a_service_leads_to_each_of_its_pods(web: KubernetesCluster) -> None:
    pods = await web.kubectl("get", "pods", "--selector=app=web", "--output=name")
    address = await web.kubectl("get", "service/web", "--output=jsonpath={.spec.clusterIP}")
    answered: set[str] = set()
    async with asyncio.timeout(30):
        while len(answered) < 2:
            # kube-proxy knows a ready pod up to a second later.
            with suppress(httpx.ConnectError):
                answered.add(await _answer(f"http://{address}/"))
            await asyncio.sleep(_POLL_PERIOD_S)
    assert {f"pod/{name}" for name in answered} == set(pods.split())


async def test_a_pod_finds_a_service_by_its_name(web: KubernetesCluster) -> None:
    for name in ("web", "web.default.svc.cluster.local"):
        assert (await _fetch(web, f"http://{name}/")).startswith("web-")


async def test_a_pod_reaches_this_machine_by_its_address(web: KubernetesCluster) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhere")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, web.host_address) as server:
        port = server.sockets[0].getsockname()[1]
        assert await _fetch(web, f"http://{web.host_address}:{port}/") == "here\n"


async def test_a_pod_reaches_nothing_beyond_this_machine(web: KubernetesCluster) -> None:
    with pytest.raises(CommandFailed, match="unreachable"):
        await _fetch(web, "http://198.51.100.1/")
    with pytest.raises(CommandFailed, match="Name or service not known"):
        await _fetch(web, "http://names.invalid/")


async def test_a_pod_asks_the_apiserver_as_its_service_account(web: KubernetesCluster) -> None:
    refused = r"User \"system:serviceaccount:default:default\" cannot list resource"
    assert refused in await web.kubectl("exec", "deployment/web", "--", "python", "-c", _ASK)


async def test_what_a_pod_prints_is_in_its_log(web: KubernetesCluster) -> None:
    await _fetch(web, "http://localhost:8080/in-the-log")
    logs = await web.kubectl("logs", "--selector=app=web", "--tail=-1")
    assert "GET /in-the-log" in logs


async def test_the_audit_log_names_what_controllers_do(web: KubernetesCluster) -> None:
    created = {(each.user, each.resource) for each in web.audit() if each.verb == "create"}
    assert ("system:serviceaccount:kube-system:replicaset-controller", "pods") in created


async def _fetch(cluster: KubernetesCluster, url: str) -> str:
    return await cluster.kubectl("exec", "deployment/web", "--", "python", "-c", _FETCH, url)


async def _answer(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return (await client.get(url)).text
