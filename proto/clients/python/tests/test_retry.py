"""When a call is made again, and after how long."""

import pickle
from pathlib import Path

import grpc
import pytest
from ccoe_client import CcoeError, NotFound, Overloaded, Unavailable
from ccoe_client._retry import FIRST_WAIT_S, LONGEST_WAIT_S, Attempts
from google.rpc import error_details_pb2, status_pb2

ERRORS = Path(__file__).resolve().parents[4] / "docs" / "errors.md"


class RpcError(grpc.RpcError):
    """As the server ends a call with a reason of docs/errors.md."""

    def __init__(self, code, reason, pushback_ms=None):
        self._code, status = code, status_pb2.Status()
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="ccoe"))
        self._trailers = [("grpc-status-details-bin", status.SerializeToString())]
        if pushback_ms is not None:
            self._trailers.append(("grpc-retry-pushback-ms", str(pushback_ms)))

    def code(self):
        return self._code

    def details(self):
        return "what went wrong"

    def trailing_metadata(self):
        return self._trailers


def documented():
    """(code, reason, retry) of every row of the table."""
    rows = [line.split("|") for line in ERRORS.read_text().splitlines() if line.startswith("| ")]
    return [(cells[1].strip(), cells[2].strip(), cells[3].strip()) for cells in rows[1:]]


@pytest.mark.parametrize("code, reason, retry", documented())
def test_what_the_document_calls_retryable_is_retried(code, reason, retry):
    # The server says so for every reason whose Retry is not yes.
    pushback_ms = None if retry == "yes" else -1
    error = CcoeError.of(RpcError(grpc.StatusCode[code], reason, pushback_ms))
    assert error.reason == reason
    # The one exception: what took too long would again.
    assert error.retryable == (retry == "yes" and code != "DEADLINE_EXCEEDED")


def unavailable(retry_after=None):
    return Unavailable(
        grpc.StatusCode.UNAVAILABLE, "gone", retry_after=retry_after, retryable=True
    )


def test_the_server_decides_the_wait():
    assert Attempts(retries=1, timeout_s=60).wait_s(unavailable(retry_after=1.5)) == 1.5


def test_the_wait_doubles_where_the_server_says_nothing():
    attempts = Attempts(retries=20, timeout_s=600)
    waits = [attempts.wait_s(unavailable()) for _ in range(20)]
    longest = [min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) for attempt in range(20)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len(set(waits)) == len(waits)


def test_attempts_end_by_count():
    attempts = Attempts(retries=2, timeout_s=60)
    assert [attempts.wait_s(unavailable(0.1)) for _ in range(3)] == [0.1, 0.1, None]
    assert Attempts(retries=0, timeout_s=60).wait_s(unavailable(0.1)) is None


def test_attempts_end_with_the_time():
    attempts = Attempts(retries=2, timeout_s=60)
    assert attempts.wait_s(unavailable(61)) is None
    assert Attempts(retries=2, timeout_s=0).wait_s(unavailable()) is None
    assert 59 < attempts.timeout_s() <= 60


def test_what_is_not_retryable_ends_at_once():
    error = NotFound(grpc.StatusCode.NOT_FOUND, "nobody", retry_after=1)
    assert Attempts(retries=2, timeout_s=60).wait_s(error) is None


def test_errors_can_be_handed_to_another_process():
    error = Overloaded(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", reason="QUEUE_FULL")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy)) == (Overloaded, error.code, "QUEUE_FULL: busy")
