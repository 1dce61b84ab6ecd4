"""CredentialService: says whether credentials can be read here. Keeps nothing of what it reads."""

import asyncio
from typing import Any

from fased.api.executor.v1 import credential_service_pb2 as pb
from fased.api.executor.v1 import credential_service_pb2_grpc
from fased.core.errors import FasedError
from fased.core.findings import Finding
from fased.core.names import Namespace, parse_parent
from fased.rpc.batches import check_count
from fased.secrets import Secrets
from fased.wire.findings import finding_to_pb

MAX_CREDENTIALS = 100


class CredentialServicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """Checks of credentials over gRPC."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def CheckCredentials(
        self, request: pb.CheckCredentialsRequest, context: Any
    ) -> pb.CheckCredentialsResponse:
        """Look each reference up and forget what was read."""
        namespace = parse_parent(request.parent)
        check_count("credentials", len(request.credentials), MAX_CREDENTIALS)
        checks = (self._check(each, namespace) for each in request.credentials)
        return pb.CheckCredentialsResponse(checks=await asyncio.gather(*checks))

    async def _check(self, reference: str, namespace: Namespace) -> pb.CredentialCheck:
        try:
            await self._secrets.check(reference, namespace)
        except FasedError as exc:
            sentence = f"{exc.message[:1].upper()}{exc.message[1:]}."
            target = exc.metadata.get("setup_target", "")
            found = finding_to_pb(Finding(exc.reason, sentence, target))
            return pb.CredentialCheck(ok=False, finding=found)
        return pb.CredentialCheck(ok=True)
