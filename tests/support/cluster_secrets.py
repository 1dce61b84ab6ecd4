"""A process's view of a cluster, for tests: the files and variables that Kubernetes gives a pod,
and Secrets to read. The apiserver and its RBAC are real.
"""

import base64
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.support.kubernetes.access import Kubernetes

_READER = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: secrets, namespace: {namespace}}}
rules: [{{apiGroups: [""], resources: [secrets], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: secrets, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: secrets}}
subjects: [{{kind: ServiceAccount, name: reader, namespace: {home}}}]
"""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's service account in namespaces of its own; `folder` is where its files are."""

    kubernetes: Kubernetes
    home: str
    folder: Path
    environment: dict[str, str]

    async def serve(self, *namespaces: str) -> None:
        """Let it read the Secrets of namespaces, which are made where they are not there."""
        for namespace in namespaces:
            await self.make_namespace(namespace)
            manifest = _READER.format(namespace=namespace, home=self.home)
            await self.kubernetes.kubectl("apply", "--filename=-", stdin=manifest)

    async def make_namespace(self, namespace: str) -> None:
        """A namespace, there already or not."""
        manifest = json.dumps(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )
        await self.kubernetes.kubectl("apply", "--filename=-", stdin=manifest)

    async def put(self, namespace: str, name: str, **values: str) -> None:
        """Let a Secret hold these values and no others."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": values,
        }
        await self.kubernetes.kubectl(
            "replace", "--force", "--filename=-", stdin=json.dumps(manifest)
        )

    async def remove(self, namespace: str, name: str) -> None:
        """Let a Secret be gone."""
        await self.kubernetes.kubectl("delete", "secret", name, f"--namespace={namespace}")


async def pod(kubernetes: Kubernetes, folder: Path) -> Pod:
    """A pod whose service account may do nothing yet."""
    home = f"home-{uuid.uuid4().hex[:8]}"
    await kubernetes.kubectl("create", "namespace", home)
    await kubernetes.kubectl("create", "serviceaccount", "reader", f"--namespace={home}")
    token = await kubernetes.kubectl("create", "token", "reader", f"--namespace={home}")
    content = yaml.safe_load(kubernetes.kubeconfig.read_text())
    cluster = content["clusters"][0]["cluster"]
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_text(_authority(cluster))
    address = urlsplit(cluster["server"])
    environment = {
        "KUBERNETES_SERVICE_HOST": str(address.hostname),
        "KUBERNETES_SERVICE_PORT": str(address.port),
        "FASED_SERVICE_ACCOUNT_FOLDER": str(folder),
    }
    return Pod(kubernetes, home, folder, environment)


def _authority(cluster: dict[str, str]) -> str:
    if path := cluster.get("certificate-authority"):
        return Path(path).read_text()
    return base64.b64decode(cluster["certificate-authority-data"]).decode()
