"""A web server on loopback that serves files from memory and misbehaves on request."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What the server serves.

    Attributes:
        files: Content by name.
        cut_after: The next answers break off after so many bytes each.
        etag: The name of the version that is served.
        ranges: Whether parts may be asked for.
        statuses: Status codes of the next answers, which have no content.
        asked: The range that each request asked for, or None.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_after: list[int] = []
        self.etag = '"one"'
        self.ranges = True
        self.statuses: list[int] = []
        self.asked: list[str | None] = []
        self.url = ""


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answers on loopback in a thread; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked = self.headers.get("Range")
            site.asked.append(asked)
            if site.statuses:
                self.send_error(site.statuses.pop(0))
                return
            content = site.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if asked and site.ranges and self.headers.get("If-Range") == site.etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", site.etag)
            self.end_headers()
            end = start + site.cut_after.pop(0) if site.cut_after else len(content)
            self.wfile.write(content[start:end])

    with listening(Handler) as site.url:
        yield site
