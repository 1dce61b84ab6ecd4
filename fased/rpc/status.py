"""Errors on the wire: the one table between our errors and gRPC's status codes (AIP-193).

Decides codes and details; `interceptors.py` applies it on the server, `client.py` reverses it.
"""

from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from fased.core import errors
from fased.core.errors import FasedError

DOMAIN = "fased.dev"
STATUS_METADATA = "grpc-status-details-bin"

_CODES: dict[type[FasedError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}
_CLASSES = {code: cls for cls, code in _CODES.items()}


def code_of(error: FasedError) -> grpc.StatusCode:
    """The gRPC status code of one of our errors."""
    return next(
        (code for cls, code in _CODES.items() if isinstance(error, cls)), grpc.StatusCode.UNKNOWN
    )


def details_of(error: FasedError) -> bytes:
    """The serialised google.rpc.Status with its ErrorInfo, for the trailing metadata."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    number = code_pb2.Code.Value(code_of(error).name)
    return bytes(
        status_pb2.Status(code=number, message=error.message, details=[packed]).SerializeToString()
    )


def error_from(call_error: grpc.aio.AioRpcError) -> FasedError:
    """Our error for what a call ended with; a code without a class of ours becomes Unavailable."""
    reason, metadata = _error_info(call_error)
    code = call_error.code()
    if code is grpc.StatusCode.CANCELLED:
        code = grpc.StatusCode.UNAVAILABLE
    cls = _CLASSES.get(code, FasedError)
    return cls(call_error.details() or code.name, reason=reason or code.name, metadata=metadata)


def _error_info(call_error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    trailing: Any = call_error.trailing_metadata() or ()
    for key, value in trailing:
        if key == STATUS_METADATA:
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason, dict(info.metadata)
    return "", {}
