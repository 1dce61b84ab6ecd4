"""Fased installed by its chart on a cluster of the tests, with stubs of the outside world on this
machine. Decides what is installed, and how tests look at it; not what they expect.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.kafka import temporary_broker
from tests.support.kubernetes.cluster import KubernetesCluster
from tests.support.kubernetes.machine import NODE_ADDRESS, POD_ADDRESSES
from tests.support.postgres15 import temporary_postgres15
from tests.support.scripted_provider import ScriptedProvider, scripted_provider
from tests.support.telegram_api import telegram_api
from tests.support.telegram_state import Bot

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fased"
EXAMPLES = ROOT / "tests" / "e2e" / "examples"
SYSTEM = "fased-system"
TEAM = "team"
IMAGE = "localhost/fased:e2e"
# What tests/e2e/examples say.
TELEGRAM_PORT, MODEL_PORT = 18481, 18482
SENDER = 4001
POLL_PERIOD_S = 0.2
# What was measured in a run, for its last words.
FIGURES = pytest.StashKey[dict[str, Any]]()
_INSTALL_TIMEOUT = "180s"
# Pods of anything less than restricted are refused where these are; so are their ways around it.
_RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
# A lost worker's runs are another's soon, and so is a lost replica's account.
_VALUES: dict[str, Any] = {
    "image": {"repository": "localhost/fased", "tag": "e2e", "pullPolicy": "Never"},
    "database": {"existingSecret": "database"},
    "services": {
        "executor": {
            "env": [
                {"name": "FASED_LEASE_S", "value": "6"},
                {"name": "FASED_HEARTBEAT_S", "value": "1"},
            ]
        },
        "channels": {
            "env": [
                {"name": "FASED_POLL_S", "value": "2"},
                {"name": "FASED_CONNECTION_LEASE_S", "value": "6"},
            ]
        },
    },
}


@dataclass(slots=True)
class Installation:
    """The release, its cluster, and the world around it. `figures` are told at the end of a run."""

    cluster: KubernetesCluster
    folder: Path
    bot: Bot
    provider: ScriptedProvider
    values: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)

    async def upgrade(self, **values: Any) -> None:
        """`helm upgrade --install --wait`, with these values beside the usual."""
        path = self.folder / "values.json"
        path.write_text(json.dumps({**self.values, **values}))
        await self.cluster.helm(
            "upgrade",
            "fased",
            str(CHART),
            "--install",
            "--wait",
            f"--timeout={_INSTALL_TIMEOUT}",
            f"--namespace={SYSTEM}",
            f"--values={path}",
        )

    async def uninstall(self) -> None:
        """`helm uninstall --wait`."""
        await self.cluster.helm("uninstall", "fased", "--wait", f"--namespace={SYSTEM}")

    async def get(self, *words: str, namespace: str = TEAM) -> Any:
        """`kubectl get … --output=json`."""
        shown = await self.cluster.kubectl(
            "get", *words, f"--namespace={namespace}", "--output=json"
        )
        return json.loads(shown)

    async def condition(
        self, kind: str, name: str, type: str = "Ready", namespace: str = TEAM
    ) -> dict[str, Any]:
        """A condition of a resource; empty until it is written."""
        status = (await self.get(kind, name, namespace=namespace)).get("status", {})
        found = [each for each in status.get("conditions", []) if each["type"] == type]
        return dict(found[0]) if found else {}

    async def until_ready(self, *references: str, namespace: str = TEAM) -> None:
        """Wait until each `kind/name` is Ready."""
        for reference in references:
            kind, _, name = reference.partition("/")

            async def is_ready(kind: str = kind, name: str = name) -> bool:
                found = await self.condition(kind, name, namespace=namespace)
                return found.get("status") == "True"

            await self.until(is_ready, f"{reference} to be ready")

    async def until(
        self, is_so: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 90
    ) -> None:
        """Wait for something that others bring about; tells where it stands when it does not."""
        deadline = time.monotonic() + timeout_s
        while not await is_so():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {what}:\n{await self._story()}")
            await asyncio.sleep(POLL_PERIOD_S)

    def say(self, text: str) -> None:
        """The one who may write writes to the bot."""
        self.bot.user_says(SENDER, text, sender_name="Ada")

    def answers(self, text: str) -> int:
        """How often the bot sent this text."""
        return [sent.text for sent in self.bot.sent].count(text)

    async def until_answered(self, *texts: str, timeout_s: float = 90) -> None:
        """Wait until the bot has sent each of these texts."""

        async def is_answered() -> bool:
            return all(self.answers(text) for text in texts)

        await self.until(is_answered, f"the answers {texts}", timeout_s)

    async def plugin(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `kubectl fased …`, as it is installed beside this Python, in a context of `team`."""
        context = self.folder / "kubeconfig"
        if not context.exists():
            # Of its own: other tests run kubectl in that of the cluster.
            shutil.copyfile(self.cluster.kubeconfig, context)
            change = ("config", "set-context", "--current", f"--namespace={TEAM}")
            await self.cluster.kubectl(*change, kubeconfig=context)
        environment = self.cluster.environment(context)
        for name in ("FASED_TOKEN", "FASED_GATEWAY", "FASED_NAMESPACE"):
            environment.pop(name, None)
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        return await asyncio.to_thread(
            subprocess.run,
            ["kubectl", "fased", *words],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def processes(self, service: str) -> list[psutil.Process]:
        """The pods' processes of a service, as this machine sees them."""
        ours = os.readlink("/proc/self/ns/pid")
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if f"services.{service}" in words and (
                    os.readlink(f"/proc/{process.pid}/ns/pid") != ours
                ):
                    found.append(process)
            except (psutil.Error, OSError):
                # It ended meanwhile.
                continue
        return found

    def kill(self, service: str) -> None:
        """kill -9 the processes of a service's pods."""
        found = self.processes(service)
        assert found, f"no pod of {service} runs"
        for process in found:
            process.send_signal(signal.SIGKILL)

    async def _story(self) -> str:
        pods = ("get", "pods", f"--namespace={SYSTEM}", "--output=wide")
        resources = ("get", "fased", "--all-namespaces", "--output=wide")
        told = [await self.cluster.kubectl(*words) for words in (pods, resources)]
        for name in ("operator", "channels", "router", "scheduler", "executor", "policy"):
            label = f"--selector=app.kubernetes.io/component={name}"
            words = ("logs", label, f"--namespace={SYSTEM}", "--tail=15", "--prefix")
            told.append(await self.cluster.kubectl(*words))
        return "\n".join(told)


@asynccontextmanager
async def installation(cluster: KubernetesCluster, folder: Path) -> AsyncIterator[Installation]:
    """The chart installed in the namespace `fased-system`, nothing applied yet."""
    address = cluster.host_address
    networks = [POD_ADDRESSES, f"{NODE_ADDRESS}/32"]
    began = time.monotonic()
    await cluster.build_image(ROOT, IMAGE)
    figures = {"image_s": round(time.monotonic() - began, 1)}
    with (
        temporary_postgres15(address, networks) as postgres,
        temporary_broker(address=address) as broker,
        scripted_provider(address, MODEL_PORT) as provider,
    ):
        async with telegram_api(TELEGRAM_PORT, address=address) as telegram:
            values = {**_VALUES, "kafka": {"bootstrap": broker.bootstrap, "replicas": 1}}
            made = Installation(cluster, folder, telegram.add_bot(), provider, values, figures)
            await _prepare(cluster, postgres.dsn)
            began = time.monotonic()
            await made.upgrade()
            figures["install_s"] = round(time.monotonic() - began, 1)
            yield made


async def _prepare(cluster: KubernetesCluster, dsn: str) -> None:
    for namespace in (SYSTEM, TEAM):
        await cluster.kubectl("create", "namespace", namespace)
        await cluster.kubectl("label", "namespace", namespace, _RESTRICTED)
    await cluster.kubectl(
        "create", "secret", "generic", "database", f"--from-literal=url={dsn}",
        f"--namespace={SYSTEM}",
    )  # fmt: skip
