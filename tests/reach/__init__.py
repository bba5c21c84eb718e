"""Two sites with whatever stands between them, and which way carries a transfer."""
