"""What a transfer goes on with when it is taken up again."""

from __future__ import annotations

import pytest

from p2p import Home
from p2p.transfer.options import Options


@pytest.mark.parametrize(
    ("begun", "now", "expect"),
    [
        ({}, {}, {}),
        ({"limit": 4e6, "compress": False}, {}, {"limit": 4e6, "compress": False}),
        ({"limit": 4e6}, {"limit": 9e6}, {"limit": 9e6}),
        ({"direct_ports": None}, {}, {"direct_ports": None}),
        ({"direct_ports": None}, {"direct_ports": (2000, 2001)}, {"direct_ports": (2000, 2001)}),
        ({"direct_ports": (2000, 2001)}, {}, {"direct_ports": (2000, 2001)}),
        ({"direct_ports": (2000, 2001)}, {"direct_ports": None}, {"direct_ports": None}),
        # Each is the other's opposite, and both at once would be no way at all.
        ({"relay_only": True}, {"no_relay": True}, {"no_relay": True}),
        ({"no_relay": True}, {"relay_only": True}, {"relay_only": True}),
        ({"relay_only": True, "label": "Ward"}, {}, {"relay_only": True, "label": "Ward"}),
    ],
)
def test_what_is_chosen_now_counts_for_more(tmp_path, begun, now, expect):
    home = Home(tmp_path / "home")
    noted = Options(home, **begun).begun_with()
    assert Options(home, **now).taken_up(noted) == Options(home, **expect)
