"""When a call is repeated, and after how long."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from ccoe_eval.retry import details, retrying, wait_s


class Failure(grpc.RpcError):
    def __init__(self, code, pushback_ms=None, delay_s=None, reason=None):
        self._code, status = code, status_pb2.Status()
        if reason:
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason))
        if delay_s:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromMilliseconds(int(delay_s * 1000))
            status.details.add().Pack(info)
        self._trailers = [("grpc-status-details-bin", status.SerializeToString())]
        if pushback_ms is not None:
            self._trailers.append(("grpc-retry-pushback-ms", str(pushback_ms)))

    def code(self):
        return self._code

    def trailing_metadata(self):
        return self._trailers


EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_server_decides_the_wait():
    assert wait_s(Failure(EXHAUSTED, pushback_ms=250, delay_s=9), 0) == 0.25
    assert wait_s(Failure(EXHAUSTED, delay_s=1.5), 0) == 1.5
    assert wait_s(Failure(EXHAUSTED, pushback_ms=-1), 0) is None
    assert wait_s(Failure(grpc.StatusCode.INVALID_ARGUMENT, pushback_ms=10), 0) is None


def test_the_wait_doubles_where_the_server_says_nothing():
    waits = [wait_s(Failure(grpc.StatusCode.UNAVAILABLE), attempt) for attempt in range(12)]
    assert 0.25 <= waits[0] <= 0.5 and 1.0 <= waits[2] <= 2.0 and waits[-1] <= 20.0


def test_details():
    assert details(Failure(EXHAUSTED, delay_s=2, reason="QUEUE_FULL")) == ("QUEUE_FULL", 2.0)


def test_a_call_is_repeated_until_it_succeeds_or_patience_ends():
    slept, failures = [], [Failure(EXHAUSTED, pushback_ms=100)] * 3

    def call():
        if failures:
            raise failures.pop()
        return "done"

    assert retrying(call, patience_s=1.0, sleep=slept.append) == "done"
    assert slept == [0.1] * 3
    failures += [Failure(EXHAUSTED, pushback_ms=400)] * 5
    with pytest.raises(Failure):
        retrying(call, patience_s=1.0, sleep=slept.append)
