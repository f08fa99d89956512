"""A gRPC server that says GOAWAY when a connection is old enough, or a client that asks it.

``grpc_app.py serve PORT MAX_AGE_MS GRACE_MS`` or ``grpc_app.py ask ADDRESS ID...``; the client prints a line per call.
"""

import sys
import time
from concurrent import futures
from pathlib import Path

import grpc

METHOD = "/lab.Work/Do"


class _Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        """Answer any call with what it brought."""
        request_id = dict(handler_call_details.invocation_metadata).get("x-request-id", "-")

        def work(request, _context):
            with Path("requests.log").open("a") as log:
                log.write(f"{request_id}\n")
            return request

        return grpc.unary_unary_rpc_method_handler(work)


def serve(port, max_age_ms, grace_ms):
    """Serve until killed."""
    options = [("grpc.max_connection_age_ms", int(max_age_ms)), ("grpc.max_connection_age_grace_ms", int(grace_ms))]
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[_Handler()], options=options)
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    server.wait_for_termination()


def ask(address, *request_ids):
    """Call once per id, one after the other."""
    for request_id in request_ids:
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(METHOD)
            sent_s = time.time()
            try:
                call(b"lab", metadata=[("x-request-id", request_id)], timeout=60)
                status = "OK"
            except grpc.RpcError as error:
                status = error.code().name
            print(request_id, status, f"{sent_s:.6f}", f"{time.time():.6f}", flush=True)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
