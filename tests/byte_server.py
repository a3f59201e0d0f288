"""A server that sends bytes as they are, right or wrong: what the simulator is too well-behaved to send."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Any


class Asked:
    """What a server of bytes was sent."""

    def __init__(self) -> None:
        self.base_url = ""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []


@contextmanager
def answering(*replies: bytes) -> Iterator[Asked]:
    """A server that sends these bytes, head and body, to whoever asks: one reply after the other, the last for ever."""
    asked = Asked()
    left = chain(replies, repeat(replies[-1]))

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.headers.append({name.lower(): value for name, value in self.headers.items()})
            asked.bodies.append(json.loads(body))
            self.close_connection = True
            try:
                self.wfile.write(next(left))
            except OSError:
                return  # the client had enough

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    asked.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def http(body: bytes, *head: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *head]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(size: int) -> bytes:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    return http(piece * (size // 0x10000 + 1) + b"0\r\n\r\n", "transfer-encoding: chunked")
