"""What this node has counted since it started. No name, address, room or token is in it, so whoever
reads it learns how much is going on, and nothing about whom."""

from __future__ import annotations

from bisect import bisect_left

# Bounds of buckets, in seconds, for the time from a guest's joining to its leaving connected.
CONNECT_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class Tally:
    """Counters, by name and one label, whose values come from lists of this program's own."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.connects = [0] * (len(CONNECT_SECONDS) + 1)  # by bucket, the last without a bound
        self.connect_seconds = 0.0  # in all

    def count(self, name: str, label: str = "") -> None:
        """One more."""
        key = name, label
        self.counts[key] = self.counts.get(key, 0) + 1

    def connected(self, seconds: float) -> None:
        """A guest has met its host, after so long."""
        self.connects[bisect_left(CONNECT_SECONDS, seconds)] += 1
        self.connect_seconds += seconds
