"""A tracking server that is slow: it answers late, with errors, or not at all."""

import random
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
STRANGE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextmanager
def slow_server(delay_s: float, seed: int) -> Iterator[str]:
    """Serve on a port of this machine; yields the address."""
    rng = random.Random(seed)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            try:
                self.request.recv(1 << 16)
                time.sleep(rng.uniform(0, 2 * delay_s))
                self.request.sendall(rng.choice([BUSY, STRANGE, BUSY[:20], b""]))
            except OSError:
                pass  # the client did not wait

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
