"""TLS 1.3 over TCP between two native peers (PROTOCOL.md, The connection; Several lanes).

Each side makes a certificate and hands it to the other; it is the other's only trust anchor, in
both directions (Python's `ssl` cannot pin a client by fingerprint). Nobody else gets through the
TLS handshake.

Two uses: *direct lanes* beside the connection, set up inside its control channel, fast and one way
(`direct.py`); and, where no UDP comes through, *the connection itself*, set up by signals as WebRTC
is (`connection.py`).
"""
