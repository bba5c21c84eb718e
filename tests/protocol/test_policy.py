"""What a signaling server says that its operator asks."""

from __future__ import annotations

import pytest

from p2p.protocol.errors import PeerError
from p2p.protocol.policy import Policy, read_policy

from .vectors import cases


@cases("policy")
def test_policies_follow_the_vectors(case):
    if isinstance(case["expect"], dict):
        with pytest.raises(PeerError):
            read_policy(case["policy"])
    else:
        read = read_policy(case["policy"])
        asked = case["policy"] or {}
        assert read == Policy(**asked)
