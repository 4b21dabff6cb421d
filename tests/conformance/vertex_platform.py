"""What Vertex AI does between a caller and a custom container, as far as its documents and clients show it.

`vertex_platform.py` is no script of its own. It maps the platform's paths to the container's routes:

    POST /v1/{endpoint}:predict                    POST predictRoute, instances and parameters; ids added to the answer
    POST /v1/{endpoint}:rawPredict                 POST predictRoute, body and headers as they came
    POST /v1/{endpoint}:streamRawPredict           the same, the answer as it comes
    *    /v1/{endpoint}[/deployedModels/D]/invoke/PATH     * /PATH

How :predict wraps a container's error is nowhere documented: here it becomes a google.rpc status with the container's body
as its message. Google's generated client puts raw bodies into `{"httpBody": {contentType, data}}` and wants the same back
(for a stream, an array of them), which is its way of writing HttpBody in JSON.
"""

import base64
import http.client
import http.server
import json
import re
import threading
from urllib.parse import urlsplit

ENDPOINT = "projects/123/locations/us-central1/endpoints/456"
CALL = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/(?:endpoints/[^/:]+|publishers/[^/]+/models/[^/:]+):(\w+)$")
INVOKE = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/endpoints/[^/]+(?:/deployedModels/[^/]+)?/invoke(/.+)$")
STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
IDS = {"deployedModelId": "789", "model": "projects/123/locations/us-central1/models/1", "modelVersionId": "1", "modelDisplayName": "test"}
# Of one hop, or written anew by this one.
HOP = {"connection", "transfer-encoding", "host", "content-length", "keep-alive", "accept-encoding"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_any(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = urlsplit(self.path).path
        call, invoke = CALL.fullmatch(path), INVOKE.fullmatch(path)
        if invoke:
            return self.hand_on(invoke.group(1), body)
        if not call or self.command != "POST" or call.group(1) not in ("predict", "rawPredict", "streamRawPredict"):
            return self.answer(404, {"error": {"code": 404, "message": f"no {path} here", "status": "NOT_FOUND"}})
        if call.group(1) == "predict":
            return self.predict(body)
        wrapped = json.loads(body).get("httpBody") if body.startswith(b"{") else None
        if wrapped:
            return self.generated(base64.b64decode(wrapped["data"]), call.group(1) == "streamRawPredict")
        return self.hand_on(self.server.predict_route, body)

    do_GET = do_POST = do_DELETE = do_any

    def container(self, path, body):
        connection = http.client.HTTPConnection(self.server.container, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        connection.request(self.command, path, body or None, headers)
        return connection, connection.getresponse()

    def predict(self, body):
        # The body goes through protobuf on the way: instances and parameters, and nothing else.
        sent = {key: value for key, value in json.loads(body).items() if key in ("instances", "parameters")}
        connection, got = self.container(self.server.predict_route, json.dumps(sent).encode())
        answer = got.read().decode()
        connection.close()
        if got.status != 200:
            error = {"code": got.status, "message": answer, "status": STATUS.get(got.status, "INTERNAL")}
            return self.answer(got.status, {"error": error})
        answer = json.loads(answer)
        self.answer(200, {"predictions": answer["predictions"]} | IDS)

    def generated(self, body, streams):
        connection, got = self.container(self.server.predict_route, body)
        kind = got.headers.get("content-type", "")
        pieces = []
        while piece := got.read1(65536):
            pieces.append(piece)
        connection.close()
        if got.status != 200:
            error = {"code": got.status, "message": b"".join(pieces).decode(), "status": STATUS.get(got.status, "INTERNAL")}
            return self.answer(got.status, {"error": error})
        pieces = pieces if streams else [b"".join(pieces)]
        bodies = [{"contentType": kind, "data": base64.b64encode(piece).decode()} for piece in pieces]
        self.answer(200, bodies if streams else bodies[0])

    def hand_on(self, path, body):
        """The answer as it comes: chunk by chunk."""
        connection, got = self.container(path, body)
        self.send_response(got.status)
        for name, value in got.headers.items():
            if name.lower() not in HOP | {"date", "server"}:
                self.send_header(name, value)
        self.send_header("X-Vertex-AI-Deployed-Model-Id", IDS["deployedModelId"])
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := got.read1(65536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        connection.close()

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def start(container, predict_route="/predict"):
    """The platform's address, before a container's."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.container = urlsplit(container).netloc
    server.predict_route = predict_route
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
