"""A time stamp authority (RFC 3161): OpenSSL, behind a server of HTTP."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIGURATION = """
[ req ]
distinguished_name = dn
prompt = no
[ dn ]
CN = nobody
[ root ]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ stamps ]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[ tsa ]
default_tsa = one
[ one ]
serial = ./serial
signer_cert = ./stamps.pem
signer_key = ./stamps.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1.1
digests = sha256, sha512
ess_cert_id_alg = sha256
"""


class TimeStampAuthority:
    """Its root is `root`; `answers`: what it gives in the place of stamps, until that is used up."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.root, self.asked = folder, folder / "root.pem", 0
        self.answers: list[tuple[int, bytes]] = []
        (folder / "tsa.cnf").write_text(CONFIGURATION)
        (folder / "serial").write_text("01\n")
        self._issue("root", "-subj", "/CN=Root", "-extensions", "root")
        issuer = ("-CA", "root.pem", "-CAkey", "root.key")
        self._issue("stamps", "-subj", "/CN=Stamps of a test", "-extensions", "stamps", *issuer)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/stamp"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def _issue(self, name: str, *how: str) -> None:
        made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-config", "tsa.cnf")
        self.run(*made, *how, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "30")

    def stamp(self, query: bytes) -> bytes:
        """The answer to a query."""
        with self._lock:  # OpenSSL counts in a file
            (self.folder / "query").write_bytes(query)
            reply = ("openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query")
            self.run(*reply, "-out", "answer")
            return (self.folder / "answer").read_bytes()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                right = self.headers["Content-Type"] == "application/timestamp-query"
                outer.asked += 1
                if outer.answers:
                    status, answer = outer.answers.pop(0)
                else:
                    status, answer = (200, outer.stamp(query)) if right else (415, b"")
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
