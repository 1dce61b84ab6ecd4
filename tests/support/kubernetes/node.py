"""What makes an apiserver a cluster: the controllers, and one node with its network and names.
Decides how each program is told of the others.
"""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2 as httpx

from tests.support.kubernetes import parts
from tests.support.kubernetes.access import CommandFailed, command
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.kubernetes.daemon import Daemon, flag_words
from tests.support.kubernetes.machine import NODE_ADDRESS, POD_ADDRESSES

NAME = "testbed"
_NAMES_READY = f"http://{NODE_ADDRESS}:8181/ready"


class Node:
    """The programs of one node, all of them in the machine that `within` enters."""

    def __init__(
        self,
        folder: Path,
        api: Apiserver,
        within: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._api = api
        self._within = within
        self._environment = environment
        self._daemons: dict[str, Daemon] = {}
        self.ctr = [*within, "ctr", f"--address={folder / 'containerd.sock'}", "--namespace=k8s.io"]

    async def start(self) -> None:
        """Start all of it; returns when pods can run, find names and reach Services."""
        self._render()
        self._start("containerd", {"config": str(self._folder / "containerd.toml")})
        await self._daemons["containerd"].until("its socket", self._has_containerd)
        pause = parts.folders("cluster")["pause"] / "pause.tar"
        await command(*self.ctr, "images", "import", str(pause), env=self._environment)
        self._start_controllers()
        self._start_network()
        self._start_kubelet()
        await self._start_names()
        await self._until_ready()

    def reap(self) -> None:
        """Forget its processes, once the machine has ended."""
        for daemon in self._daemons.values():
            daemon.kill()

    def _render(self) -> None:
        places = {
            "folder": str(self._folder),
            "authority": str(self._api.authority.certificate),
            "node_address": NODE_ADDRESS,
            "pod_addresses": POD_ADDRESSES,
        }
        (self._folder / "cni").mkdir()
        for source, name in {
            "containerd.toml": "containerd.toml",
            "cni.conflist": "cni/10-testbed.conflist",
            "kubelet.yaml": "kubelet.yaml",
            "Corefile": "Corefile",
        }.items():
            template = string.Template((parts.CONFIG / source).read_text())
            (self._folder / name).write_text(template.substitute(places))

    def _start_controllers(self) -> None:
        controllers = self._credentials("system:kube-controller-manager")
        self._start(
            "kube-controller-manager",
            {
                **controllers,
                "authentication-kubeconfig": controllers["kubeconfig"],
                "authorization-kubeconfig": controllers["kubeconfig"],
                "bind-address": "127.0.0.1",
                "leader-elect": "false",
                "use-service-account-credentials": "true",
                "root-ca-file": str(self._api.authority.certificate),
                "flex-volume-plugin-dir": str(self._folder / "volume-plugins"),
            },
        )
        scheduler = self._credentials("system:kube-scheduler")
        self._start(
            "kube-scheduler",
            {
                **scheduler,
                "authentication-kubeconfig": scheduler["kubeconfig"],
                "authorization-kubeconfig": scheduler["kubeconfig"],
                "bind-address": "127.0.0.1",
                "leader-elect": "false",
            },
        )

    def _start_network(self) -> None:
        flags = {
            **self._credentials("system:kube-proxy"),
            "proxy-mode": "iptables",
            "hostname-override": NAME,
            "cluster-cidr": POD_ADDRESSES,
            "nodeport-addresses": f"{NODE_ADDRESS}/32",
            "iptables-localhost-nodeports": "false",
            "oom-score-adj": "0",
            # The kernel's limits are not this machine's to set.
            "conntrack-max-per-core": "0",
            "conntrack-min": "0",
            "conntrack-tcp-timeout-established": "0",
            "conntrack-tcp-timeout-close-wait": "0",
        }
        self._start("kube-proxy", flags)

    def _start_kubelet(self) -> None:
        flags = {
            **self._credentials(f"system:node:{NAME}", "system:nodes"),
            "config": str(self._folder / "kubelet.yaml"),
            "hostname-override": NAME,
            "node-ip": NODE_ADDRESS,
            "root-dir": str(self._folder / "kubelet"),
            "cert-dir": str(self._folder / "kubelet-pki"),
        }
        self._start("kubelet", flags)

    async def _start_names(self) -> None:
        self._credentials("coredns")
        await self._api.kubectl("apply", f"--filename={parts.CONFIG / 'coredns.yaml'}")
        self._start("coredns", {"conf": str(self._folder / "Corefile")})

    async def _until_ready(self) -> None:
        ready = ("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=5s")
        account = ("get", "serviceaccount/default", "--namespace=default")
        await self._daemons["kubelet"].until("the node", lambda: self._succeeds(*ready))
        await self._daemons["kube-proxy"].until("the first Service", self._routes_services)
        await self._daemons["coredns"].until("names", self._resolves_names)
        controllers = self._daemons["kube-controller-manager"]
        await controllers.until("ServiceAccounts", lambda: self._succeeds(*account))

    async def _succeeds(self, *words: str) -> bool:
        try:
            await self._api.kubectl(*words)
        except CommandFailed:
            return False
        return True

    async def _has_containerd(self) -> bool:
        try:
            await command(*self.ctr, "version", env=self._environment)
        except CommandFailed:
            return False
        return True

    async def _routes_services(self) -> bool:
        rules = ("iptables-save", "--table", "nat")
        return "-d 10.96.0.1/32" in await command(*self._within, *rules, env=self._environment)

    async def _resolves_names(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(_NAMES_READY)).status_code == 200
        except httpx.TransportError:
            return False

    def _credentials(self, user: str, *groups: str) -> dict[str, str]:
        return {"kubeconfig": str(self._api.user(user, groups))}

    def _start(self, name: str, flags: Mapping[str, str]) -> None:
        words = [*self._within, name, *flag_words(flags)]
        daemon = Daemon(name, words, self._folder, self._environment)
        self._daemons[name] = daemon
        daemon.start()
