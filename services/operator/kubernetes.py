"""The apiserver, as far as the operator writes to it and lists it. Decides deadlines and what its
answers mean as errors; watching is kopf's (`watching.py`).
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import kopf

from fased.core import errors
from fased.core.errors import FasedError
from fased.core.resources import GROUP, VERSION, Kind, Resource

TIMEOUT_S = 4.0
LIST_TIMEOUT_S = 20.0
LIST_SIZE = 500
# A projected token is renewed while it lives; so is what we read of it.
LOGIN_AGE_S = 300.0
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MERGE_PATCH = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_ERRORS: Mapping[int, type[FasedError]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    409: errors.Aborted,
    422: errors.InvalidArgument,
    429: errors.ResourceExhausted,
}

Body = dict[str, Any]


def login() -> kopf.ConnectionInfo:
    """Where the apiserver is and who we are: a pod's ServiceAccount, else a kubeconfig.

    Raises FasedError when there is neither.
    """
    settings, log = kopf.OperatorSettings(), logging.getLogger(__name__)
    found = kopf.login_with_service_account(settings=settings, logger=log)
    found = found or kopf.login_with_kubeconfig(settings=settings, logger=log)
    if found is None:
        raise FasedError(
            "no apiserver: run in a pod with a ServiceAccount, or name a kubeconfig by KUBECONFIG",
            reason="NO_CLUSTER",
            metadata={"field": "KUBECONFIG"},
        )
    return found


def own_namespace() -> str:
    """The namespace of our pod, else the kubeconfig's, else `default`."""
    if _NAMESPACE_FILE.exists():
        return _NAMESPACE_FILE.read_text().strip()
    return login().default_namespace or "default"


class Kubernetes:
    """A client of the apiserver; every call has a deadline and raises our errors."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._proof: Mapping[str, str] = {}
        self._login_until = 0.0
        self._lock = asyncio.Lock()

    async def get(self, path: str) -> Body:
        """The object at a path."""
        return await self._call("GET", path)

    async def create(self, path: str, body: Body) -> Body:
        """Make an object in a collection; raises Aborted when it is there."""
        return await self._call("POST", path, body)

    async def replace(self, path: str, body: Body) -> Body:
        """Write an object; raises Aborted unless it is still the version that `body` names."""
        return await self._call("PUT", path, body)

    async def patch_status(self, resource: Resource, status: Body) -> Body:
        """Merge into a resource's status; raises Aborted when the resource is another by now."""
        metadata = {"resourceVersion": resource.version, "uid": resource.key.uid}
        path = f"{path_of(resource)}/status"
        body = {"metadata": metadata, "status": status}
        return await self._call("PATCH", path, body, content_type=_MERGE_PATCH)

    async def find(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """A resource as it is stored now, None when it is not there.

        A list of one: the operator lists and watches resources, and needs no other right.
        """
        query = {"fieldSelector": f"metadata.name={name}"}
        page = await self._call("GET", collection_path(kind, namespace), query=query)
        return next(iter(page["items"] or ()), None)

    async def list_metadata(self, kind: Kind, namespace: str = "") -> AsyncIterator[Body]:
        """The metadata of all resources of a kind, as they are stored now."""
        path, token = collection_path(kind, namespace), ""
        while True:
            query = {"limit": str(LIST_SIZE), **({"continue": token} if token else {})}
            page = await self._call(
                "GET", path, query=query, accept=_METADATA_ONLY, timeout_s=LIST_TIMEOUT_S
            )
            for item in page["items"] or ():
                yield item["metadata"]
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> Body:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            async with asyncio.timeout(timeout_s):
                session = await self._logged_in()
                headers.update(self._proof)
                async with session.request(
                    method, self._server + path, data=data, params=query, headers=headers
                ) as response:
                    content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise errors.Unavailable(
                f"the apiserver does not answer ({type(exc).__name__})",
                reason="APISERVER_UNAVAILABLE",
            ) from exc
        if response.status >= 400:
            if response.status == 401:
                self._login_until = 0.0
            raise _error(response.status, content)
        decoded: Body = json.loads(content)
        return decoded

    async def _logged_in(self) -> aiohttp.ClientSession:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._session is None or now > self._login_until:
                info = await asyncio.to_thread(login)
                self._session = self._session or _session(info)
                self._server, self._proof = info.server.rstrip("/"), info.as_http_headers()
                self._login_until = now + LOGIN_AGE_S
            return self._session


@asynccontextmanager
async def open_kubernetes() -> AsyncIterator[Kubernetes]:
    """A client, closed after the block; raises FasedError when there is no cluster to speak to."""
    await asyncio.to_thread(login)
    kubernetes = Kubernetes()
    try:
        yield kubernetes
    finally:
        await kubernetes.close()


def collection_path(kind: Kind, namespace: str = "") -> str:
    """The path of a kind's resources, in a namespace or in all."""
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{within}/{kind.plural}"


def path_of(resource: Resource) -> str:
    """The path of one resource."""
    key = resource.key
    return f"{collection_path(key.kind, key.namespace)}/{key.name}"


def _session(info: kopf.ConnectionInfo) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64, ssl=info.as_ssl_context()),
        headers={"User-Agent": "fased-operator"},
        timeout=aiohttp.ClientTimeout(),
    )


def _error(status: int, content: bytes) -> FasedError:
    cls = _ERRORS.get(status, errors.Unavailable)
    try:
        answer = json.loads(content)
    except ValueError:
        answer = {}
    message = answer.get("message") if isinstance(answer, dict) else None
    return cls(message or f"the apiserver answered {status}", reason=f"APISERVER_{status}")
