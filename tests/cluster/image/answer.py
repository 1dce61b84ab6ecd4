"""Answers each request with the name of the pod. Decides nothing else."""

import http.server
import os


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer any path."""
        name = os.uname().nodename.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)


http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
