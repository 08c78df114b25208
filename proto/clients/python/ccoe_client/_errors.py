"""What a call that fails raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass(eq=False)
class CcoeError(Exception):
    """A call that failed. Branch on code and reason: docs/errors.md lists them. Messages change."""

    code: grpc.StatusCode
    message: str
    reason: str | None = None
    """None where the server did not say it itself: nobody answers at its address, for example."""
    metadata: dict[str, str] = field(default_factory=dict)
    """The reason's counts and names."""
    retry_after: float | None = None
    """Seconds after which the server wants to be asked again."""
    request_id: str | None = None
    retryable: bool = False
    """Whether the same call may succeed later."""

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"

    @classmethod
    def of(cls, error: Any) -> CcoeError:
        """The parts of a grpc.RpcError, their details decoded, in the subclass that fits."""
        code: grpc.StatusCode = error.code()
        trailers = {key: value for key, value in error.trailing_metadata() or ()}
        reason, metadata, retry_after = None, {}, None
        details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        for detail in details.details:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == "ccoe":
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        told_not_to = trailers.get("grpc-retry-pushback-ms", "").startswith("-")
        retryable = _retryable(code, reason) and not told_not_to
        kind = _KINDS.get(code, CcoeError)
        if code is RESOURCE_EXHAUSTED and retryable:
            kind = Overloaded
        return kind(
            code,
            error.details() or "",
            reason=reason,
            metadata=metadata,
            retry_after=retry_after,
            request_id=trailers.get("x-request-id"),
            retryable=retryable,
        )


class InvalidRequest(CcoeError):
    """INVALID_ARGUMENT: the request has to be corrected."""


class NotFound(CcoeError):
    """NOT_FOUND: nobody serves the domain, or has the expert's name."""


class Overloaded(CcoeError):
    """RESOURCE_EXHAUSTED for the moment: the server is busy."""


class Unavailable(CcoeError):
    """UNAVAILABLE: nobody can answer now."""


class DeadlineExceeded(CcoeError):
    """DEADLINE_EXCEEDED: the call took longer than its timeout, or than the server allows."""


_KINDS: dict[grpc.StatusCode, type[CcoeError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def _retryable(code: grpc.StatusCode, reason: str | None) -> bool:
    """A call that took too long once will again, whatever docs/errors.md allows. RESOURCE_EXHAUSTED
    without a reason is gRPC's own and says that a message is too large."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return True
    return reason is not None and code in (RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
