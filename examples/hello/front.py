"""Answers every request with what the service `files` says. It calls plain HTTP; the mesh makes it mutual TLS."""
import http.server
import os
import urllib.request

FILES = "http://{}:{}/".format(os.environ["FILES_SERVICE_HOST"], os.environ["FILES_SERVICE_PORT"])
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Front(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with DIRECT.open(FILES + "greeting.txt") as answer:
            body = b"front says: " + answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Front).serve_forever()
