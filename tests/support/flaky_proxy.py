"""An HTTP proxy on loopback in front of an S3 server, that answers 503 and cuts connections."""

import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FlakyProxy(ThreadingHTTPServer):
    """Forwards requests. `fault(method)` says of each what goes wrong:

    "503": it is answered so and not forwarded; "lost": forwarded, and the connection is cut instead
    of answering; "cut": the connection is cut in the midst of the answer; another number: as 503;
    None: nothing. With `ignores`, headers of these names do not get through.
    """

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = port
        self.fault = lambda method: None
        self.faults = []
        self.ignores = ()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # clients go away when we cut them off


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        proxy = self.server
        assert isinstance(proxy, FlakyProxy)
        fault = proxy.fault(self.command)
        body = self.body()
        if fault:
            proxy.faults.append((self.command, fault))
        if fault and fault.isdigit():
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        behind = http.client.HTTPConnection("127.0.0.1", proxy.behind)
        dropped = ("transfer-encoding", *proxy.ignores)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        headers["Content-Length"] = str(len(body))
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        content = answer.read()
        behind.close()
        if fault == "lost":
            self.cut()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if "Content-Length" not in dict(answer.getheaders()):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2 if fault == "cut" else len(content)
        self.wfile.write(content[:half])
        if fault == "cut":
            self.cut()

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(parts)

    def cut(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format, *args):  # noqa: A002 - the base names it so
        pass


for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(Handler, f"do_{method}", Handler.forward)
