"""The operator on a real apiserver: the services in the test's own process, operators as processes
of their own. Decides none of their behaviour.
"""

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import SecretStr

from fased.process import OpenService
from services.channels.service import open_service as open_channels
from services.channels.settings import Settings as ChannelsSettings
from services.executor.service import open_service as open_executor
from services.executor.settings import Settings as ExecutorSettings
from services.policy.service import open_service as open_policy
from services.router.service import open_service as open_router
from services.scheduler.service import open_service as open_scheduler
from services.scheduler.settings import SchedulerSettings
from tests.support import crds
from tests.support.kubernetes.access import Kubernetes
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.member import POLL_PERIOD_S, Member, bare_environment
from tests.support.services import Running, running

WAIT_S = 30.0
# Quick enough for a test, and slow enough for a busy machine.
QUICK = {
    "FASED_POLL_S": "2",
    "FASED_UNREADY_POLL_S": "0.5",
    "FASED_SWEEP_S": "5",
    "FASED_LEASE_S": "8",
}
CALLED = ("channels", "router", "policy", "scheduler", "executor")
# What an operator may do; the chart gives the same.
RULES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: fased-operator}
rules:
  - apiGroups: [fased.dev]
    resources: [agents, tasks, channels, routes, modelproviders]
    verbs: [list, watch]
  - apiGroups: [fased.dev]
    resources: [agents/status, tasks/status, channels/status, routes/status, modelproviders/status]
    verbs: [patch]
  - apiGroups: [events.k8s.io]
    resources: [events]
    verbs: [create]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [get, create, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: fased-operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: fased-operator}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: fased-operators}]
"""
OPERATORS = "fased-operators"

Manifest = Mapping[str, Any]
T = TypeVar("T")


def manifest(kind: str, name: str, namespace: str, **spec: object) -> dict[str, Any]:
    """A resource as it is applied; `annotations` in `spec` become its own."""
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "fased.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": spec,
    }


def task(name: str, namespace: str, agent: str = "main", **spec: object) -> dict[str, Any]:
    """A manual task in mode no-model, unless it is said otherwise."""
    given = {"prompt": "Hello", "trigger": {"manual": {}}, "mode": "no-model", **spec}
    return manifest("Task", name, namespace, agent=agent, **given)


@dataclass
class Operated:
    """Services, an apiserver and operators, which serve two fresh namespaces."""

    kubernetes: Kubernetes
    running: Running
    folder: Path
    environment: dict[str, str]
    here: str
    there: str
    operators: list[Member] = field(default_factory=list)

    async def start(self, **environment: str) -> Member:
        """One more operator; returns when it serves."""
        member = Member("operator", self.folder / f"operator-{len(self.operators)}.log")
        self.operators.append(member)
        await member.start({**self.environment, **environment})
        await member.until_serving()
        return member

    async def apply(self, *manifests: Manifest) -> None:
        """kubectl apply."""
        text = yaml.safe_dump_all([dict(each) for each in manifests])
        await self.kubernetes.kubectl("apply", "--filename=-", stdin=text)

    async def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """A resource as it is stored."""
        words = ("get", kind.lower(), name, f"--namespace={namespace}", "--output=json")
        found: dict[str, Any] = json.loads(await self.kubernetes.kubectl(*words))
        return found

    async def until(
        self,
        kind: str,
        name: str,
        namespace: str,
        is_so: Callable[[dict[str, Any]], bool],
        wait_s: float = WAIT_S,
    ) -> dict[str, Any]:
        """The resource as soon as its status is so; raises with the last one seen."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(wait_s):
                while not is_so(seen):
                    seen = (await self.get(kind, name, namespace)).get("status", {})
                    await asyncio.sleep(POLL_PERIOD_S)
        except TimeoutError:
            logs = "\n".join(each.output()[-3000:] for each in self.operators)
            raise AssertionError(f"{kind} {name} stays {json.dumps(seen)}\n{logs}") from None
        return await self.get(kind, name, namespace)

    async def until_condition(
        self, kind: str, name: str, namespace: str, type: str, reason: str
    ) -> dict[str, Any]:
        """The condition of a type as soon as it has this reason."""
        body = await self.until(
            kind, name, namespace, lambda status: condition(status, type).get("reason") == reason
        )
        return condition(body["status"], type)

    async def until_ready(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """The status of a resource as soon as it is Ready for its generation."""
        generation = (await self.get(kind, name, namespace))["metadata"]["generation"]
        body = await self.until(
            kind,
            name,
            namespace,
            lambda status: (
                condition(status, "Ready").get("status") == "True"
                and status["observedGeneration"] >= generation
            ),
        )
        status: dict[str, Any] = body["status"]
        return status

    async def end(self) -> None:
        """Kill every operator."""
        for member in self.operators:
            if member.process is not None and member.process.returncode is None:
                member.signal(signal.SIGKILL)
                await member.ended()


async def secret(kubernetes: Kubernetes, name: str, namespace: str, **values: str) -> None:
    """Make a Secret with these keys."""
    literals = [f"--from-literal={key}={value}" for key, value in values.items()]
    await kubernetes.kubectl(
        "create", "secret", "generic", name, f"--namespace={namespace}", *literals
    )


async def eventually(read: Callable[[], Awaitable[T]], is_so: Callable[[T], bool]) -> T:
    """What is read, as soon as it is so; raises with what it is instead."""
    value: T | None = None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                value = await read()
                if is_so(value):
                    return value
                await asyncio.sleep(POLL_PERIOD_S)
    except TimeoutError:
        raise AssertionError(f"it stays {value}") from None


def condition(status: Mapping[str, Any], type: str) -> dict[str, Any]:
    """A condition of a status, nothing where there is none."""
    found = [each for each in status.get("conditions", []) if each["type"] == type]
    return found[0] if found else {}


@asynccontextmanager
async def operated(
    kubernetes: Kubernetes, database_url: str, folder: Path
) -> AsyncIterator[Operated]:
    """Services and the definitions of the resources; no operator runs yet.

    On an apiserver of our own, operators are users who may do no more than `RULES`.
    """
    await define(kubernetes)
    here, there = (f"{word}-{secrets.token_hex(4)}" for word in ("here", "there"))
    for namespace in (here, there):
        await kubernetes.kubectl("create", "namespace", namespace)
    kubeconfig = kubernetes.kubeconfig
    if isinstance(kubernetes, Apiserver):
        await kubernetes.kubectl("apply", "--filename=-", stdin=RULES)
        kubeconfig = kubernetes.user(f"operator-{here}", [OPERATORS])
    async with AsyncExitStack() as stack:
        if isinstance(kubernetes, Apiserver):
            stack.enter_context(_in_a_pod(kubernetes, folder / "account"))
        services = await stack.enter_async_context(running(database_url, all_services))
        environment = {
            **bare_environment(),
            **QUICK,
            **{f"FASED_{name.upper()}_ADDRESS": services.listen for name in CALLED},
            "KUBECONFIG": str(kubeconfig),
            "FASED_SERVICE_TOKEN": services.service_token,
            "FASED_LEASE_NAME": f"operator-{here}",
            "FASED_NAMESPACES": f"{here},{there}",
        }
        one = Operated(kubernetes, services, folder, environment, here, there)
        stack.push_async_callback(one.end)
        yield one


@contextmanager
def _in_a_pod(apiserver: Apiserver, folder: Path) -> Iterator[None]:
    """Let services find the apiserver as in a pod whose account may read every Secret."""
    folder.mkdir()
    (folder / "token").write_text(apiserver.token)
    (folder / "ca.crt").write_bytes(apiserver.authority.certificate.read_bytes())
    url = urlsplit(apiserver.url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
        patch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
        patch.setenv("FASED_SERVICE_ACCOUNT_FOLDER", str(folder))
        yield


async def define(kubernetes: Kubernetes) -> None:
    """Make the kinds of our resources known."""
    text = "---\n".join(crds.texts())
    await kubernetes.kubectl("apply", "--server-side", "--filename=-", stdin=text)
    names = [f"customresourcedefinition/{kind.lower()}s.fased.dev" for kind in crds.definitions()]
    await kubernetes.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)


def all_services(listen: str, token: str) -> Sequence[OpenService]:
    """The five services that keep what resources define."""
    shared: dict[str, Any] = {
        "database_url": "",
        "service_token": SecretStr(token),
        "listen": listen,
        **{f"{name}_address": listen for name in CALLED},
    }
    return (
        open_policy,
        open_router,
        partial(open_scheduler, settings=SchedulerSettings()),
        partial(open_channels, settings=ChannelsSettings(**shared)),
        partial(open_executor, settings=ExecutorSettings(**shared)),
    )
