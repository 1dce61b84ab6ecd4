"""Ways into an apiserver: kubectl and Helm as a user, and ServiceAccounts. Starts no server."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.support.kubernetes import parts

_TOKEN_LIFE = "24h"


class CommandFailed(AssertionError):
    """kubectl or Helm ended with an error; the message is what it printed."""


class Kubernetes:
    """An apiserver, reached by the kubeconfig of an admin."""

    def __init__(self, kubeconfig: Path, folder: Path, level: parts.Level = "api") -> None:
        self.kubeconfig = kubeconfig
        self._folder = folder
        self._search_path = parts.search_path(level)

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        """What kubectl, its plugins and Helm need, to act as the admin or as another user."""
        return {
            **os.environ,
            "PATH": self._search_path,
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
            "NO_PROXY": "*",
            "KUBECACHEDIR": str(self._folder / "kubectl-cache"),
            "HELM_CACHE_HOME": str(self._folder / "helm-cache"),
            "HELM_CONFIG_HOME": str(self._folder / "helm-config"),
            "HELM_DATA_HOME": str(self._folder / "helm-data"),
        }

    async def kubectl(
        self, *words: str, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> str:
        """Run kubectl as the admin or as another user; gives its output, raises `CommandFailed`."""
        return await command("kubectl", *words, env=self.environment(kubeconfig), stdin=stdin)

    async def helm(self, *words: str) -> str:
        """Run Helm as the admin; gives its output, raises `CommandFailed`."""
        return await command("helm", *words, env=self.environment())

    async def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig of a ServiceAccount that is there, by a token that lasts for the test."""
        words = ("--namespace", namespace, f"--duration={_TOKEN_LIFE}")
        token = (await self.kubectl("create", "token", name, *words)).strip()
        content = yaml.safe_load(self.kubeconfig.read_text())
        content["users"] = [{"name": "user", "user": {"token": token}}]
        for context in content["contexts"]:
            context["context"].update(user="user", namespace=namespace)
        made = self._folder / f"kubeconfig-{namespace}-{name}"
        made.write_text(yaml.safe_dump(content))
        made.chmod(0o600)
        return made


async def command(
    program: str, *words: str, env: Mapping[str, str], stdin: str | None = None
) -> str:
    """Run a program to its end; gives its output, raises `CommandFailed`."""
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        env=env,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(None if stdin is None else stdin.encode())
    if process.returncode != 0:
        said = (err + out).decode(errors="replace").strip()
        raise CommandFailed(f"{program} {' '.join(words)}: {said}")
    return out.decode()
