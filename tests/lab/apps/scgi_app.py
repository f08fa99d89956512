"""An SCGI server, a process per request: ``scgi_app.py PORT``.

It answers; or dies as a child that the kernel kills (/die), never answers (/slow), says 503 (/full), or answers 413
without reading on (/upload), and closes as CGI does.
"""

import os
import signal
import socketserver
import sys
import time
from pathlib import Path


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        """Read one request and answer it (https://python.ca/scgi/protocol.txt)."""
        digits = b""
        while (byte := self.rfile.read(1)) not in (b":", b""):
            digits += byte
        if not digits:
            return  # nobody asks: somebody looks whether the port is open
        texts = self.rfile.read(int(digits) + 1).split(b"\0")
        fields = dict(zip(texts[::2], texts[1::2], strict=False))
        with Path("requests.log").open("a") as log:
            log.write(fields.get(b"HTTP_X_REQUEST_ID", b"-").decode() + "\n")
        target, status = fields.get(b"REQUEST_URI", b""), b"200 OK"
        if target == b"/upload":
            self.wfile.write(b"Status: 413 Too Large\r\nContent-Type: text/plain\r\n\r\ntoo large\n")
            return
        self.rfile.read(int(fields[b"CONTENT_LENGTH"]))
        if target == b"/die":
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        if target == b"/slow":
            time.sleep(30)
        if target == b"/full":
            status = b"503 Service Unavailable"
        self.wfile.write(b"Status: " + status + b"\r\nContent-Type: text/plain\r\n\r\nanswer of SCGI\n")


class _Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64


if __name__ == "__main__":
    _Server(("0.0.0.0", int(sys.argv[1])), _Handler).serve_forever()  # noqa: S104 - the lab's own network
