"""The protocol, pure: no I/O, no clock, no randomness of its own. PROTOCOL.md is its text.

Read in the order of a transfer: `link`, `signal`, `noise`, `handshake`, `manifest`, `tape`, `seal`,
`session`, `receipt`, `audit`; beneath all lie `codec`, `paths` and `errors`.
"""
