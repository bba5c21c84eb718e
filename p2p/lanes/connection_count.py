"""How many WebRTC connections a transfer is worth: more, as long as that raises the rate.

One connection's rate falls with loss and distance (Mathis et al., 1997: MSS / (RTT x sqrt(loss)));
several together fill the path. Where the processor is the limit, more of them only cost. Nobody
knows which it is, so it is tried, and what does not help is undone. Where the processor has time to
spare it is the path that is slow: then it is tried in leaps, after shorter looks, and sooner again.
To a peer that is far away several are opened at once, for what opens more of them later would wait
behind the data; whether fewer do is tried where more do not help.
"""

from __future__ import annotations

STEPS = (1, 4, 8, 16, 24)
LEAP = 2  # steps at once, where the processor has time to spare
SETTLE_SECONDS = 1.0  # of slow start, which is no measure of what follows
MEASURE_SECONDS = 1.5
BRIEF_MEASURE_SECONDS = 0.75  # before a leap: too many for a while cost little
OPEN_SECONDS = 6.0  # for new connections, before it is measured without those that are missing
WORTH, WORTH_A_LEAP = 1.1, 1.05  # a step that raises the rate by less is undone
# Bytes a second: where each carries less, perhaps they share a slow link, and every range of 64 KiB
# is under way for more than a second. Losses would have each carry as much as before.
THIN, WORTH_IF_THIN = 64 * 1024, 1.4
# Before the next try after one that failed: at first, with time to spare, and in the end.
HOLD_SECONDS, BRIEF_HOLD_SECONDS, LONGEST_HOLD_SECONDS = 15.0, 5.0, 240.0


class ConnectionCount:
    """Looks at the rate now and then, and says how many connections to have, 1 to `most`. `far`:
    it begins with several."""

    def __init__(self, most: int, *, far: bool = False) -> None:
        self._steps = [count for count in STEPS if count <= most]
        self._at = len(self._steps) // 2 if far else 0  # index of what is wanted
        self._proven = 0  # index of what is known to carry more than fewer
        self._trial: tuple[int, float] | None = None  # index and rate before what is on trial
        self._asked = self._held = float("-inf")
        self._failed = 0  # tries of more
        self._given_up = 0.0  # the rate of the last of those, until what is left was measured
        self._count = 1
        self._from = (float("inf"), 0)  # when this measurement begins or began, bytes then
        self._began = False

    def look(
        self, now: float, carried: int, there: int, *, busy: bool = False, spare: bool = False
    ) -> int:
        """`carried` bytes have arrived so far, and `there` connections are open. `busy`: whoever
        would serve more of them has no time left, so that more is not tried. `spare`: the processor
        has little to do."""
        wanted = self._steps[self._at]
        if self._from[0] == float("inf"):
            self._asked = now
        if there != self._count or self._from[0] == float("inf"):
            self._count, self._from, self._began = there, (now + SETTLE_SECONDS, 0), False
        if there < wanted and now - self._asked < OPEN_SECONDS:
            return wanted
        if now < self._from[0]:
            return wanted
        if not self._began:
            self._from, self._began = (now, carried), True
        elif now - self._from[0] >= (
            BRIEF_MEASURE_SECONDS if spare and self._trial is None else MEASURE_SECONDS
        ):
            rate = (carried - self._from[1]) / (now - self._from[0])
            self._from = now, carried
            self._judge(rate, now, busy, spare)
        return self._steps[self._at]

    def _judge(self, rate: float, now: float, busy: bool, spare: bool) -> None:
        # Over a slow link to connect takes long, and so do more ranges under way.
        spare = spare and rate >= 2 * THIN and not self._is_thin(rate, self._at)
        worth = WORTH_A_LEAP if spare else WORTH
        if self._undo(rate, now, worth, spare):
            return
        if rate * worth < self._given_up:  # what they were held against was not to last
            self._held = now
        self._given_up = 0.0
        more = self._at + 1 < len(self._steps) and now >= self._held and not busy
        thin = self._is_thin(rate, self._at)
        # Once is perhaps bad luck, and to try fewer costs more than to try more.
        fewer = self._at > self._proven and (thin or busy or self._failed > 1)
        self._trial = (self._at, rate) if rate and (more or fewer) else None
        if self._trial and more and not (fewer and thin):
            self._at = min(self._at + (LEAP if spare else 1), len(self._steps) - 1)
            self._asked = now
        elif self._trial and fewer:
            self._at -= 1

    def _is_thin(self, rate: float, at: int) -> bool:
        return rate < THIN * self._steps[at]

    def _undo(self, rate: float, now: float, worth: float, spare: bool) -> bool:
        """Whether there was a trial that came to nothing: what was before is wanted again."""
        if self._trial is None:
            return False
        (before, rate_before), self._trial = self._trial, None
        grown = self._at > before
        many = (rate, self._at) if grown else (rate_before, before)
        if thin := self._is_thin(*many):
            worth = WORTH_IF_THIN
        helps = rate >= rate_before * worth if grown else rate_before > rate * worth
        if helps:
            self._proven = max(self._at, before)
        else:
            hold = (BRIEF_HOLD_SECONDS if spare else HOLD_SECONDS) * 2**self._failed
            self._held = now + min(hold, LONGEST_HOLD_SECONDS)
            self._failed += 1
            self._given_up = 0.0 if thin or not grown else rate
        if helps and not grown:
            self._asked = now
        if helps != grown:
            self._at = before
        return helps != grown
