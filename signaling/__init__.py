"""The signaling server: it introduces two peers and sees nothing but hashes and sealed envelopes."""
