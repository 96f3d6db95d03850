"""A web server that keeps what is posted to it."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True

    def __init__(self, port: int, got: list[Any]) -> None:
        class Answers(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", port), Answers)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
