"""How many WebRTC connections a transfer is worth: more, as long as that raises the rate.

One connection's rate falls with loss and distance (Mathis et al., 1997: MSS / (RTT x sqrt(loss)));
several together fill the path. Where the processor is the limit, more of them only cost. Nobody
knows which it is, so it is tried, and what does not help is undone.
"""

from __future__ import annotations

STEPS = (1, 4, 8, 16)
SETTLE_SECONDS, MEASURE_SECONDS = 1.0, 1.5
OPEN_SECONDS = 4.0  # for new connections, before it is measured without those that are missing
WORTH = 1.1  # a step that raises the rate by less is undone
HOLD_SECONDS, LONGEST_HOLD_SECONDS = 15.0, 240.0  # before the next try after one that failed


class ConnectionCount:
    """Looks at the rate now and then, and says how many connections to have, 1 to `most`."""

    def __init__(self, most: int) -> None:
        self._steps = [count for count in STEPS if count <= most]
        self._at = 0  # index of what is wanted
        self._before: float | None = None  # the rate one step lower, while a step is on trial
        self._asked = self._held = float("-inf")
        self._hold = HOLD_SECONDS
        self._count = 1
        self._from = (float("inf"), 0)  # when this measurement begins or began, bytes then
        self._began = False

    def look(self, now: float, carried: int, there: int, *, busy: bool = False) -> int:
        """`carried` bytes have arrived so far, and `there` connections are open. `busy`: whoever
        would serve more of them has no time left, so that more is not tried."""
        wanted = self._steps[self._at]
        if there != self._count or self._from[0] == float("inf"):
            self._count, self._from, self._began = there, (now + SETTLE_SECONDS, 0), False
        if there < wanted and now - self._asked < OPEN_SECONDS:
            return wanted
        if now < self._from[0]:
            return wanted
        if not self._began:
            self._from, self._began = (now, carried), True
        elif now - self._from[0] >= MEASURE_SECONDS:
            rate = (carried - self._from[1]) / (now - self._from[0])
            self._from = now, carried
            self._judge(rate, now, busy)
        return self._steps[self._at]

    def _judge(self, rate: float, now: float, busy: bool) -> None:
        if self._before is not None and rate < self._before * WORTH:
            self._at -= 1
            self._held = now + self._hold
            self._hold = min(2 * self._hold, LONGEST_HOLD_SECONDS)
        elif self._at + 1 < len(self._steps) and rate and now >= self._held and not busy:
            self._at += 1
            self._before, self._asked = rate, now
            return
        self._before = None
