"""A whole Kubernetes with one node, for charts and images. Needs root, and Linux with Debian's
packages; leaves nothing behind but what is cached.

`HOST_ADDRESS` is where this machine is to the pods: servers bound there are theirs to reach. Pods
reach nothing else outside, and this machine reaches pods, Services and the node by their addresses.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.kubernetes import audit, images, parts, pki
from tests.support.kubernetes.access import Kubernetes
from tests.support.kubernetes.apiserver import Apiserver
from tests.support.kubernetes.machine import HOST_ADDRESS, NODE_ADDRESS, Machine
from tests.support.kubernetes.node import Node


class KubernetesCluster(Kubernetes):
    """Reached by kubectl, Helm, and addresses; images come from `build_image` alone."""

    host_address = HOST_ADDRESS
    node_address = NODE_ADDRESS

    def __init__(self, folder: Path, machine: Machine) -> None:
        super().__init__(folder / "kubeconfig", folder, "cluster")
        authority = pki.Authority(folder / "pki")
        flags = _apiserver_flags(authority)
        self.api = Apiserver(folder, authority, NODE_ADDRESS, machine.within, flags)
        self._node = Node(folder, self.api, machine.within, self.environment())

    async def start(self) -> None:
        """Start all of it; returns when pods can run, find names and reach Services."""
        await self.api.start()
        await self._node.start()

    def reap(self) -> None:
        """Forget its processes, once the machine has ended."""
        self._node.reap()
        self.api.end()

    async def build_image(self, context: Path, tag: str) -> None:
        """Build a folder's Containerfile, with `BASE` of ours, and give it to the node as `tag`.

        Pods name it so, with `imagePullPolicy` `IfNotPresent` or `Never`.
        """
        await images.build(context, tag, self.environment())
        await images.load(tag, self._folder, self._node.ctr, self.environment())

    def audit(self, start: int = 0) -> list[audit.Request]:
        """What was asked of its apiserver, from a mark of `audit_mark` on."""
        return self.api.audit(start)

    def audit_mark(self) -> int:
        """The end of the audit log by now."""
        return self.api.audit_mark()


@asynccontextmanager
async def kubernetes_cluster() -> AsyncIterator[KubernetesCluster]:
    """A cluster that is ready for pods, and gone after the block, or when this process is."""
    parts.folders("cluster")
    # A short path: sockets lie in it.
    folder = Path(tempfile.mkdtemp(prefix="fased-node-", dir="/tmp"))
    machine = Machine(folder)
    cluster = None
    try:
        await machine.start()
        cluster = KubernetesCluster(folder, machine)
        await cluster.start()
        yield cluster
    finally:
        machine.end()
        if cluster is not None:
            cluster.reap()
        shutil.rmtree(folder, ignore_errors=True)


def _apiserver_flags(authority: pki.Authority) -> dict[str, str]:
    certificate, key = authority.client("kube-apiserver-kubelet-client", ["system:masters"])
    return {
        "advertise-address": NODE_ADDRESS,
        "endpoint-reconciler-type": "lease",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-client-certificate": str(certificate),
        "kubelet-client-key": str(key),
    }
