"""Secrets by reference: `env:NAME`, `file:PATH`, and `secret:NAME/KEY` of a Kubernetes namespace.

Decides how a reference becomes a value, and for how long a Secret that was read is used. A value
goes to the one call that needs it, never to a row, a log or an error. All that this process knows
of Kubernetes is here: its own service account reads the Secrets of the namespaces it may.
"""

import asyncio
import base64
import binascii
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from fased.core.credentials import CredentialKind, CredentialReference, parse_reference
from fased.core.errors import FailedPrecondition, Unavailable

MAX_SECRET_BYTES = 64 * 1024
# A Secret that changed is taken up this soon; no message waits for the API server meanwhile.
KEPT_S = 5.0
MAX_KEPT = 10_000
DEADLINE_S = 5.0
MAX_CONNECTIONS = 20
# Where Kubernetes puts a pod's own credentials, unless the environment says otherwise.
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
ACCOUNT_FOLDER_SETTING = "FASED_SERVICE_ACCOUNT_FOLDER"

_Place = tuple[str, CredentialReference]


@dataclass(slots=True)
class _Kept:
    value: str
    read_at_s: float


class Secrets:
    """What references name, read where it is used. Make one by `open_secrets`."""

    def __init__(self, environment: Mapping[str, str], kept_s: float = KEPT_S) -> None:
        self._environment = environment
        self._kept_s = kept_s
        self._cluster = _Cluster(environment)
        self._kept: dict[_Place, _Kept] = {}

    async def resolve(self, reference: str, namespace: str) -> str:
        """The secret that a reference of a namespace names, without white space around it.

        Raises InvalidArgument for another kind of reference, FailedPrecondition (SECRET_MISSING,
        SECRET_FORBIDDEN, SECRET_STORE_MISSING) with the setup target when it cannot be had, and
        Unavailable when the API server does not answer and has not before.
        """
        named = parse_reference(reference)
        if named.kind is not CredentialKind.SECRET:
            return self._local(named)
        place, now_s = (namespace, named), time.monotonic()
        kept = self._kept.get(place)
        if kept is not None and now_s - kept.read_at_s < self._kept_s:
            return kept.value
        if kept is not None:
            # Others go on with what is known while this one asks.
            kept.read_at_s = now_s
        try:
            value = await self._cluster.read(namespace, named)
        except Unavailable:
            if kept is None:
                raise
            return kept.value
        except FailedPrecondition:
            self._kept.pop(place, None)
            raise
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[place] = _Kept(value, now_s)
        return value

    async def check(self, reference: str, namespace: str) -> None:
        """Look a secret up where it is now, and forget it; raises as `resolve`."""
        named = parse_reference(reference)
        if named.kind is CredentialKind.SECRET:
            await self._cluster.read(namespace, named)
        else:
            self._local(named)

    async def close(self) -> None:
        """Give connections back."""
        await self._cluster.close()

    def _local(self, named: CredentialReference) -> str:
        if named.kind is CredentialKind.FILE:
            value = _file_text(Path(named.where))
        else:
            value = self._environment.get(named.where, "").strip()
        if not value:
            is_file = named.kind is CredentialKind.FILE
            raise _missing(named.where, "is empty" if is_file else "is not set")
        return value


@asynccontextmanager
async def open_secrets(
    environment: Mapping[str, str], *, kept_s: float = KEPT_S
) -> AsyncIterator[Secrets]:
    """A reader of secrets, whose connections are closed on the way out.

    A Secret of the cluster is used for `kept_s` before it is asked for again.
    """
    secrets = Secrets(environment, kept_s)
    try:
        yield secrets
    finally:
        await secrets.close()


class _Cluster:
    """The API server of the cluster that this process runs in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        host, port = (
            environment.get(name, "").strip()
            for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
        )
        self._url = f"https://{f'[{host}]' if ':' in host else host}:{port or 443}" if host else ""
        self._folder = Path(environment.get(ACCOUNT_FOLDER_SETTING) or ACCOUNT_FOLDER)
        self._clients: dict[str, httpx2.AsyncClient] = {}

    async def read(self, namespace: str, named: CredentialReference) -> str:
        """One key of one Secret; raises as `Secrets.resolve`."""
        where = f"{named.where}, key {named.key}, in namespace {namespace}"
        if not self._url:
            raise FailedPrecondition(
                f"the secret {where} cannot be read: this process runs in no Kubernetes cluster; "
                "name the credential by env:NAME or file:PATH",
                reason="SECRET_STORE_MISSING",
                metadata={"setup_target": f"secret {where}"},
            )
        path = f"/api/v1/namespaces/{namespace}/secrets/{named.where}"
        try:
            async with asyncio.timeout(DEADLINE_S):
                # Both files are Kubernetes' to change while we run.
                token = (self._folder / "token").read_text().strip()
                response = await self._client().get(
                    f"{self._url}{path}", headers={"authorization": f"Bearer {token}"}
                )
        except (OSError, TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as exc:
            # Not chained: a transport's error may hold the request, and with it our token.
            raise _unavailable(where, type(exc).__name__) from None
        return _value(response, named.key, where)

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self) -> httpx2.AsyncClient:
        """The client that trusts the cluster's authority as it is now."""
        authority = (self._folder / "ca.crt").read_text()
        if authority not in self._clients:
            self._clients[authority] = httpx2.AsyncClient(
                verify=ssl.create_default_context(cadata=authority),
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS),
                timeout=DEADLINE_S,
                # No proxy of the environment stands between a pod and its API server.
                trust_env=False,
                follow_redirects=False,
            )
        return self._clients[authority]


def _value(response: httpx2.Response, key: str, where: str) -> str:
    target = f"secret {where}"
    if response.status_code == 404:
        raise _missing(where, "is not there", target)
    if response.status_code == 403:
        raise FailedPrecondition(
            f"the secret {where} may not be read by this process's service account",
            reason="SECRET_FORBIDDEN",
            metadata={"setup_target": target},
        )
    if response.status_code != 200:
        raise _unavailable(where, f"HTTP {response.status_code}")
    try:
        encoded = (json.loads(response.content).get("data") or {}).get(key)
        if encoded is None:
            raise _missing(where, "is not there: the Secret has no such key", target)
        content = base64.b64decode(encoded, validate=True)
        text = content.decode().strip()
    except (UnicodeDecodeError, binascii.Error):
        # Not chained: the decoder's error carries the content.
        raise _missing(where, "is not UTF-8 text", target) from None
    except (ValueError, AttributeError, TypeError):
        raise _unavailable(where, "what answers is no API server") from None
    if not text:
        raise _missing(where, "is empty", target)
    if len(content) > MAX_SECRET_BYTES:
        raise _missing(where, "is too large for a secret", target)
    return text


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        if len(content) > MAX_SECRET_BYTES:
            raise _missing(str(path), "is too large for a secret")
        return content.decode().strip()
    except OSError as exc:
        raise _missing(str(path), f"cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError:
        # Not chained: the decoder's error carries the file's content.
        raise _missing(str(path), "is not UTF-8 text") from None


def _missing(where: str, how: str, target: str = "") -> FailedPrecondition:
    return FailedPrecondition(
        f"the secret {where} {how}",
        reason="SECRET_MISSING",
        metadata={"setup_target": target or where},
    )


def _unavailable(where: str, why: str) -> Unavailable:
    return Unavailable(
        f"the secret {where} cannot be read at this time: {why}",
        reason="SECRET_STORE_UNAVAILABLE",
        metadata={"setup_target": f"secret {where}"},
    )
