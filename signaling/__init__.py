"""The signaling server: it introduces two peers and sees only hashes and sealed envelopes."""
