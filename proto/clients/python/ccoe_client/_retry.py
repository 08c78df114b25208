"""When a call is made again, and after how long."""

from __future__ import annotations

import random
import time

from ._errors import CcoeError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0


class Attempts:
    """The attempts of one call: at most `retries` after the first one, all within `timeout_s`."""

    def __init__(self, retries: int, timeout_s: float):
        self._left = retries
        self._ends = time.monotonic() + timeout_s
        self._wait_s = FIRST_WAIT_S

    def timeout_s(self) -> float:
        """What an attempt that begins now may take."""
        return max(0.0, self._ends - time.monotonic())

    def wait_s(self, error: CcoeError) -> float | None:
        """How long to wait before the next attempt: as the server asks, else a doubling time with
        jitter. None when there is none, because of the error, the count or the time."""
        if not error.retryable or self._left == 0:
            return None
        self._left -= 1
        wait_s = error.retry_after
        if wait_s is None:
            wait_s = self._wait_s * random.uniform(0.5, 1.0)
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        return wait_s if wait_s < self.timeout_s() else None
