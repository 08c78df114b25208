"""Repeats a call that the server may take later, after the wait that the server names."""

import random
import time
from typing import Any, Callable, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

RETRIED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

Result = TypeVar("Result")


def _trailers(error: grpc.RpcError) -> dict[str, Any]:
    pairs: Any = error.trailing_metadata() or ()
    return dict(pairs)


def details(error: grpc.RpcError) -> tuple[str, float | None]:
    """The reason of ErrorInfo ("" without one) and the delay of RetryInfo in seconds."""
    reason, delay_s = "", None
    packed = _trailers(error).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(packed)
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            delay_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return reason, delay_s


def wait_s(error: grpc.RpcError, attempt: int) -> float | None:
    """How long to wait before the call is repeated, None when it must not be. The server's pushback
    comes first (negative: do not retry), then RetryInfo, then a doubling wait with jitter."""
    if error.code() not in RETRIED:
        return None
    pushback = _trailers(error).get("grpc-retry-pushback-ms")
    if pushback is not None:
        delay_ms = float(pushback)
        return None if delay_ms < 0 else delay_ms / 1e3
    delay_s = details(error)[1]
    if delay_s is not None:
        return delay_s
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt) * random.uniform(0.5, 1.0)


def retrying(
    call: Callable[[], Result], patience_s: float, sleep: Callable[[float], Any] = time.sleep
) -> Result:
    """The result of `call`, which is repeated for at most `patience_s` seconds of waiting."""
    waited_s = 0.0
    for attempt in range(1_000_000):
        try:
            return call()
        except grpc.RpcError as error:
            delay_s = wait_s(error, attempt)
            if delay_s is None or waited_s + delay_s > patience_s:
                raise
        delay_s = max(delay_s, 0.01)
        sleep(delay_s)
        waited_s += delay_s
    raise AssertionError("unreachable")
