"""A real kube-apiserver on etcd, without controllers or nodes: for resources and operators.

`FASED_TEST_KUBECONFIG` (an admin's kubeconfig) points the tests at an apiserver that is there; then
those that kill it, or read its audit log, are skipped. Without controllers nothing is collected, a
deleted namespace stays, the roles `view`, `edit` and `admin` are empty, and a ServiceAccount is
there when a test makes it.
"""

import os
import secrets
import shutil
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support import ports
from tests.support.kubernetes import audit, parts, pki
from tests.support.kubernetes.access import Kubernetes
from tests.support.kubernetes.daemon import Daemon, flag_words
from tests.support.postgres import blocking

LOOPBACK = "127.0.0.1"
_SERVICE_ADDRESSES = "10.96.0.0/16"
_FIRST_SERVICE_ADDRESS = "10.96.0.1"
_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_ISSUER = "https://kubernetes.default.svc.cluster.local"
# Never rotated: one file holds all of a run.
_AUDIT_LIMIT_MIB = "10000"


class Apiserver(Kubernetes):
    """An apiserver of our own, to stop in hard ways; after a stop it keeps its port and objects."""

    def __init__(
        self,
        folder: Path,
        authority: pki.Authority,
        address: str = LOOPBACK,
        within: Sequence[str] = (),
        flags: Mapping[str, str] | None = None,
    ) -> None:
        """`within` is the command that runs another where the servers are to be."""
        super().__init__(folder / "kubeconfig", folder)
        self.authority = authority
        self.url = f"https://{address}:{ports.free_port()}"
        self.token = secrets.token_hex(24)
        self._address = address
        self._etcd_url = f"http://{LOOPBACK}:{ports.free_port()}"
        self._audit_log = folder / "audit.log"
        pki.kubeconfig(self.kubeconfig, self.url, authority.certificate, {"token": self.token})
        etcd = [*within, "etcd", "--unsafe-no-fsync", *flag_words(self._etcd_flags())]
        given = {**self._flags(), **(flags or {})}
        apiserver = [*within, "kube-apiserver", *flag_words(given)]
        self._etcd = Daemon("etcd", etcd, folder, self.environment())
        self._apiserver = Daemon("kube-apiserver", apiserver, folder, self.environment())

    async def start(self) -> None:
        """Start both servers; returns when the apiserver is ready."""
        self._etcd.start()
        await self.restart()

    async def restart(self) -> None:
        """Start the apiserver, after a kill; returns when it is ready."""
        self._apiserver.start()
        await self._apiserver.until("/readyz", self.is_ready)

    def kill(self) -> None:
        """Kill -9 the apiserver: connections and watches break, its objects are in etcd."""
        self._apiserver.kill()

    def end(self) -> None:
        """Kill -9 both servers."""
        self._apiserver.kill()
        self._etcd.kill()

    async def is_ready(self) -> bool:
        """Whether the apiserver says that it is ready."""
        try:
            async with self.http() as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    def http(self) -> httpx.AsyncClient:
        """A client of its REST API, as the admin."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            verify=ssl.create_default_context(cafile=str(self.authority.certificate)),
            timeout=30,
            trust_env=False,
        )

    def user(self, name: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig of a user, known to the apiserver at once, who may do what RBAC gives."""
        certificate, key = self.authority.client(name, groups)
        credentials = {
            "client-certificate-data": pki.encoded(certificate),
            "client-key-data": pki.encoded(key),
        }
        path = self._folder / f"kubeconfig-{name.replace(':', '-')}"
        return pki.kubeconfig(path, self.url, self.authority.certificate, credentials)

    def audit(self, start: int = 0) -> list[audit.Request]:
        """What was asked of it, from a mark of `audit_mark` on."""
        return audit.requests(self._audit_log, start)

    def audit_mark(self) -> int:
        """The end of the audit log by now."""
        return self._audit_log.stat().st_size

    def _etcd_flags(self) -> dict[str, str]:
        peer = f"http://{LOOPBACK}:{ports.free_port()}"
        return {
            "name": "testbed",
            "data-dir": str(self._folder / "etcd"),
            "listen-client-urls": self._etcd_url,
            "advertise-client-urls": self._etcd_url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"testbed={peer}",
            "log-level": "warn",
        }

    def _flags(self) -> dict[str, str]:
        addresses = [f"IP:{each}" for each in (LOOPBACK, self._address, _FIRST_SERVICE_ADDRESS)]
        names = [*addresses, *(f"DNS:{name}" for name in _NAMES)]
        certificate, key = self.authority.server("kube-apiserver", names)
        accounts = str(self.authority.key("service-accounts"))
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f"{self.token},admin,admin,system:masters\n")
        return {
            "etcd-servers": self._etcd_url,
            "bind-address": self._address,
            "secure-port": self.url.rpartition(":")[2],
            # Nobody is told this one: without nodes, no Service leads to the apiserver.
            "advertise-address": "192.0.2.1",
            "endpoint-reconciler-type": "none",
            "tls-cert-file": str(certificate),
            "tls-private-key-file": str(key),
            "client-ca-file": str(self.authority.certificate),
            "token-auth-file": str(tokens),
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": _SERVICE_ADDRESSES,
            "service-account-issuer": _ISSUER,
            "service-account-key-file": accounts,
            "service-account-signing-key-file": accounts,
            "audit-policy-file": str(parts.CONFIG / "audit-policy.yaml"),
            "audit-log-path": str(self._audit_log),
            "audit-log-maxsize": _AUDIT_LIMIT_MIB,
        }


@contextmanager
def temporary_apiserver() -> Iterator[Apiserver]:
    """A started apiserver with objects of its own; all of it is gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="fased-test-kubernetes-"))
    try:
        server = Apiserver(folder, pki.Authority(folder / "pki"))
        try:
            blocking(server.start())
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def own_apiserver() -> Iterator[Apiserver]:
    """The apiserver of this run, which a test may kill if it starts it again."""
    if os.environ.get("FASED_TEST_KUBECONFIG"):
        pytest.skip("FASED_TEST_KUBECONFIG names an apiserver that is not ours to kill")
    with temporary_apiserver() as server:
        yield server


@pytest.fixture(scope="session")
def kubernetes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Kubernetes:
    """The apiserver of this run, to make objects in; tests keep to namespaces of their own."""
    given = os.environ.get("FASED_TEST_KUBECONFIG")
    if given:
        return Kubernetes(Path(given), tmp_path_factory.mktemp("kubernetes"))
    server: Apiserver = request.getfixturevalue("own_apiserver")
    return server
