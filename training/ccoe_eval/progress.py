"""How far a run is and how long it will take: a line that renews itself on a terminal, a line now
and then elsewhere."""

import sys
import time
from typing import TextIO


class Progress:
    EVERY_S = 30.0

    def __init__(self, total: int, out: TextIO = sys.stderr):
        self._total, self._done, self._out = total, 0, out
        self._begin_s = self._shown_s = time.monotonic()
        self._terminal = out.isatty()

    def step(self, what: str) -> None:
        """One more is done."""
        self._done += 1
        now_s = time.monotonic()
        every_s = 0.2 if self._terminal else self.EVERY_S
        if self._done < self._total and now_s - self._shown_s < every_s:
            return
        self._shown_s = now_s
        used_s = now_s - self._begin_s
        left_s = used_s / self._done * (self._total - self._done)
        line = (
            f"{what}: {self._done} of {self._total}, {self._done / max(used_s, 1e-9):.1f}/s, "
            f"{clock(left_s)} left"
        )
        end = "\n" if self._done == self._total or not self._terminal else ""
        self._out.write(f"\r\x1b[K{line}{end}" if self._terminal else line + end)
        self._out.flush()


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
