"""Certificates of a test's own authority, and kubeconfig files that carry them. Decides who may
say who they are, not what they may do.
"""

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

_DAYS = 2
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# OpenSSL's own defaults would make an authority of every certificate.
_CONFIG = "[req]\ndistinguished_name = subject\n[subject]\n"


class Authority:
    """Signs certificates; its files are in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        (folder / "openssl.cnf").write_text(_CONFIG)
        self._request(
            "ca",
            "/CN=fased-testbed",
            "basicConstraints=critical,CA:true",
            "keyUsage=critical,keyCertSign,cRLSign",
        )

    def server(self, name: str, addresses: Sequence[str]) -> tuple[Path, Path]:
        """A server's certificate and key; `addresses` as "IP:…" or "DNS:…"."""
        names = f"subjectAltName={','.join(addresses)}"
        return self._signed(name, f"/CN={name}", names, "extendedKeyUsage=serverAuth")

    def client(self, name: str, groups: Sequence[str] = ()) -> tuple[Path, Path]:
        """The certificate and key by which an apiserver knows a user and the user's groups."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={name}"
        return self._signed(name.replace(":", "-"), subject, "extendedKeyUsage=clientAuth")

    def key(self, name: str) -> Path:
        """A key alone, to sign and to prove tokens."""
        made = self._folder / f"{name}.key"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(made))
        return made

    def _signed(self, name: str, subject: str, *extensions: str) -> tuple[Path, Path]:
        authority = ("-CA", str(self.certificate), "-CAkey", str(self._key))
        return self._request(name, subject, *extensions, authority=authority)

    def _request(
        self, name: str, subject: str, *extensions: str, authority: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        words = [*_KEY, "-config", str(self._folder / "openssl.cnf"), "-days", str(_DAYS)]
        for extension in extensions:
            words += ["-addext", extension]
        words += ["-subj", subject, "-out", str(certificate), "-keyout", str(key)]
        _openssl("req", "-x509", *words, *authority)
        return certificate, key


def kubeconfig(
    path: Path, url: str, authority: Path, user: dict[str, str], namespace: str = "default"
) -> Path:
    """Write a kubeconfig file of one cluster and one user (in a kubeconfig's own words)."""
    cluster = {"server": url, "certificate-authority-data": encoded(authority)}
    context = {"cluster": "testbed", "user": "user", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "testbed", "context": context}],
    }
    # JSON is YAML too.
    path.write_text(json.dumps(content, indent=1))
    path.chmod(0o600)
    return path


def encoded(path: Path) -> str:
    """A file's content as a kubeconfig carries it."""
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
