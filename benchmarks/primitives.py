"""The floor: what a transfer cannot do without, by the same libraries, with no line of Handover.

The sender reads a file, hashes it (SHA-256), seals it (XSalsa20-Poly1305) and encrypts that once
more, as TLS does (AES-256-GCM). The recipient undoes both, writes, syncs, reads back and hashes.
Plain TCP between them. So nothing that changes in Handover changes this, and a machine that is
twice as quick is so at both.

`python -m benchmarks.primitives receive HOST BYTES SECONDS` prints where it listens, and at the end
how much came in how many seconds, from the accept; `... send WHERE FILE BYTES` sends.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import tempfile
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import crypto_secretbox_easy, crypto_secretbox_open_easy

PIECE = 1 << 18
TAGS = 16 + 16  # bytes that both ciphers add
# It hides nothing, so one key and one nonce do.
KEY, NONCE, TLS = bytes(32), bytes(24), AESGCM(bytes(32))


def receive(host: str, size: int, seconds: float) -> None:
    """Until all is on the disk."""
    with socket.create_server((host, 0)) as server:
        print(f"{host}:{server.getsockname()[1]}", flush=True)
        connection, _ = server.accept()
    connection.settimeout(seconds)
    began = time.perf_counter()
    with connection, connection.makefile("rb") as stream, tempfile.TemporaryFile() as file:
        for at in range(0, size, PIECE):
            message = stream.read(min(PIECE, size - at) + TAGS)
            sealed = TLS.decrypt(NONCE[:12], message, None)
            file.write(crypto_secretbox_open_easy(sealed, NONCE, KEY))
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        hashlib.file_digest(file, "sha256")
    print(json.dumps({"bytes": size, "seconds": time.perf_counter() - began}), flush=True)


def send(where: str, path: str, size: int) -> None:
    """All of the file."""
    host, port = where.rsplit(":", 1)
    digest = hashlib.sha256()
    with socket.create_connection((host, int(port))) as connection, open(path, "rb") as file:
        for at in range(0, size, PIECE):
            piece = file.read(min(PIECE, size - at))
            digest.update(piece)
            sealed = crypto_secretbox_easy(piece, NONCE, KEY)
            connection.sendall(TLS.encrypt(NONCE[:12], sealed, None))


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "receive":
        receive(words[0], int(words[1]), float(words[2]))
    else:
        send(words[0], words[1], int(words[2]))
