"""A real little HTTP server that can be told, by the path asked for, to misbehave as a front end might.

Run as a process: `misbehaving_server.py PORT NAME`. Every answer names the server in `X-Server`. Paths:

    /healthz            200
    /echo               the request as JSON: method, target, headers, the body's length and SHA-256
    /size/<n>           n bytes with Content-Length
    /chunked/<n>        n bytes in chunks
    /slow/<seconds>     200 after that long
    /die-before         closes without an answer          /die-head      half a status line, then closes
    /die-body           a short body cut in its middle    /die-stream    1 MiB of 4 MiB, then closes
    /die-once/<key>     closes the first time this server is asked for that key, answers afterwards
    /file/<n>/<cut>     n bytes under a strong ETag, in ranges; of the whole file only <cut> bytes, then closes
    /changed/<n>/<cut>  as /file, but another ETag at every server
    /early              answers 413 before it reads the body
    /garbage            not HTTP      /no-length   an answer that ends with the connection
    /count              how many requests other than health checks this server has read, /count included
"""

from __future__ import annotations

import hashlib
import json
import socket
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler

SEEN: set[str] = set()
COUNT = 0
NAME = "?"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes, status: int = 200, *extra: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Server", NAME)
        for name, value in extra:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> tuple[int, str]:
        """Length and SHA-256 of the request's body; raises when it is cut off."""
        digest, length = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            length += len(piece)
        return length, digest.hexdigest()

    def pieces(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read1(min(left, 65536))
            if not piece:
                raise ConnectionError("cut off")
            left -= len(piece)
            yield piece

    def cut(self, sent: bytes = b"") -> None:
        self.wfile.write(sent)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def serve(self) -> None:
        global COUNT
        path, _, argument = self.path.lstrip("/").partition("/")
        if path == "healthz":
            self.answer(b"ok")
            return
        COUNT += 1
        getattr(self, "path_" + path.split("?")[0].replace("-", "_"))(argument)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve

    def path_echo(self, argument: str) -> None:
        length, digest = self.body()
        seen = {
            "method": self.command,
            "target": self.path,
            "headers": [list(item) for item in self.headers.items()],
            "length": length,
            "sha256": digest,
        }
        self.answer(json.dumps(seen).encode())

    def path_size(self, argument: str) -> None:
        self.answer(b"x" * int(argument))

    def path_chunked(self, argument: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Server", NAME)
        self.end_headers()
        left = int(argument)
        while left:
            piece = b"y" * min(left, 50_000)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            left -= len(piece)
        self.wfile.write(b"0\r\n\r\n")

    def path_slow(self, argument: str) -> None:
        time.sleep(float(argument))
        self.answer(b"slow")

    def path_die_before(self, argument: str) -> None:
        self.body()
        self.cut()

    def path_die_head(self, argument: str) -> None:
        self.cut(b"HTTP/1.1 200 O")

    def path_die_body(self, argument: str) -> None:
        self.cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    def path_die_stream(self, argument: str) -> None:
        self.cut(b"HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n" + b"z" * 1_048_576)

    def path_die_once(self, argument: str) -> None:
        self.body()
        if argument in SEEN:
            self.answer(b"again")
            return
        SEEN.add(argument)
        self.cut()

    def path_early(self, argument: str) -> None:
        self.answer(b"too large", 413)
        self.close_connection = True

    def path_file(self, argument: str, tag: str = '"same"') -> None:
        size, cut = map(int, argument.split("/"))
        content = b"".join(b"%015d\n" % number for number in range(size // 16))
        described = f"ETag: {tag}\r\nAccept-Ranges: bytes\r\nX-Server: {NAME}\r\n"
        if "Range" not in self.headers or self.headers["If-Range"] != tag:
            self.cut(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{described}\r\n".encode() + content[:cut])
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        span = ("Content-Range", f"bytes {first}-{last}/{size}")
        self.answer(content[first : last + 1], 206, span, ("ETag", tag), ("Accept-Ranges", "bytes"))

    def path_changed(self, argument: str) -> None:
        self.path_file(argument, f'"{NAME}"')

    def path_garbage(self, argument: str) -> None:
        self.cut(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    def path_no_length(self, argument: str) -> None:
        self.cut(b"HTTP/1.1 200 OK\r\n\r\nsome text")

    def path_count(self, argument: str) -> None:
        self.answer(str(COUNT).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    NAME = sys.argv[2]
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
