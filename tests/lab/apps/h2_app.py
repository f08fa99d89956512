"""A server of HTTP/2 in the clear that reads uploads, or stops: ``h2_app.py PORT``.

To ``/stalled`` it grants no more than what streams begin with, as an application does that is stuck; all else it reads
and answers as gRPC does.
"""

import socketserver
import sys
from pathlib import Path

import h2.config
import h2.connection
import h2.events


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        """Serve one connection."""
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.connection.initiate_connection()
        self.stalled = set()
        self.request.sendall(self.connection.data_to_send())
        while received := self.request.recv(65_536):
            for event in self.connection.receive_data(received):
                self._take(event)
            self.request.sendall(self.connection.data_to_send())

    def _take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            fields = dict(event.headers)
            with Path("requests.log").open("a") as log:
                log.write(fields.get(b"x-request-id", b"-").decode() + "\n")
            if fields[b":path"] == b"/stalled":
                self.stalled.add(event.stream_id)
        elif isinstance(event, h2.events.DataReceived) and event.stream_id not in self.stalled:
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
            self.connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    _Server(("0.0.0.0", int(sys.argv[1])), _Handler).serve_forever()  # noqa: S104 - the lab's own network
