"""Findings between core and protobuf; nothing else."""

from fased.api.types.v1 import finding_pb2
from fased.core.findings import Finding


def finding_to_pb(finding: Finding | None) -> finding_pb2.Finding | None:
    """A finding; None leaves the field unset."""
    if finding is None:
        return None
    return finding_pb2.Finding(
        reason=finding.reason, message=finding.message, setup_target=finding.setup_target
    )


def finding_from_pb(finding: finding_pb2.Finding) -> Finding:
    """A finding."""
    return Finding(finding.reason, finding.message, finding.setup_target)
