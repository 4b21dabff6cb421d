#!/usr/bin/env python3
"""Runs the binary as Vertex AI, Cloud Run and RunPod's load balancer run a container: with their variables and no flag.

    containers.py target/release/chandler [--model MODEL]

Health turns from "not yet" to "yes" and the port never refuses in between; the named routes answer and no other does; a body
over the limit is told so; after SIGTERM running requests get their whole answer, and a request that never ends does not
hold the process longer than the platform waits.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = ("CHANDLER_", "AIP_", "RUNPOD_", "K_", "PORT", "HEALTH_CHECK_PATH")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Container:
    """A process with a platform's variables; ended by SIGTERM, whose code and time are checked."""

    def __init__(self, binary, model, port, **variables):
        self.port = port
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PLATFORMS)}
        environment = clean | {"MODEL_NAME": model, "CHANDLER_HOST": "127.0.0.1"} | variables
        self.process = subprocess.Popen([binary, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def call(self, method, path, body=None, port=None):
        """Status and body; raises ConnectionRefusedError where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, data, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def statuses(self, path, until=200, port=None, seconds=120):
        """The different statuses of a health route from the first answer on until the one that is waited for."""
        seen, deadline = [], time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                status, _ = self.call("GET", path, port=port)
            except ConnectionError:
                if seen:
                    self.fail(f"refused a connection after it had answered {seen}")
                time.sleep(0.001)
                continue
            if status not in seen:
                seen.append(status)
            if status == until:
                return seen
        self.fail(f"answered {seen} at {path}, and not {until} within {seconds} s")

    def expect(self, wanted, method, path, body=None, port=None):
        status, answer = self.call(method, path, body, port)
        if status != wanted:
            self.fail(f"answered {status} to {method} {path}, not {wanted}: {answer[:300]}")
        return answer

    def terminate(self, within):
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        took = time.monotonic() - begun
        self.reader.join(timeout=5)
        if code != 0 or took > within:
            self.fail(f"ended with code {code} {took:.1f} s after SIGTERM; code 0 within {within} s was expected")
        return took

    def lines(self):
        return [json.loads(line) for line in self.log if line.strip()]

    def fail(self, what):
        self.process.kill()
        time.sleep(0.1)
        sys.exit(f"the container {what}; its log:\n{''.join(self.log)}")


def streams(container, path, count=8):
    """Opens streams, and gives a function that waits for their ends: whether each came whole."""
    ends, opened = [], threading.Barrier(count + 1)
    body = json.dumps({"messages": QUESTION, "stream": True, "max_tokens": 64}).encode()

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, body)
            answer = connection.getresponse()
            opened.wait(timeout=60)
            ends.append(answer.read().decode().rstrip().endswith("data: [DONE]"))

    clients = [threading.Thread(target=ask) for _ in range(count)]
    for client in clients:
        client.start()
    opened.wait(timeout=60)

    def wait():
        for client in clients:
            client.join()
        return ends == [True] * count

    return wait


def vertex(binary, model):
    route, port = "/v1/endpoints/456/deployedModels/789", free_port()
    container = Container(
        binary,
        model,
        port,
        AIP_MODE="PREDICTION",
        AIP_HTTP_PORT=str(port),
        AIP_HEALTH_ROUTE=route,
        AIP_PREDICT_ROUTE=f"{route}:predict",
        AIP_STORAGE_URI="",
        AIP_FRAMEWORK="CUSTOM_CONTAINER",
        PORT="1",
    )
    health = container.statuses(route)
    if health not in ([200], [503, 200]):
        container.fail(f"answered {health} to the health checks")
    predictions = {"instances": [{"prompt": "One"}, "Two"], "parameters": {"max_tokens": 4.0}}
    answer = json.loads(container.expect(200, "POST", f"{route}:predict", predictions))
    assert len(answer["predictions"]) == 2, answer
    container.expect(404, "POST", f"{route}:rawPredict", predictions)
    container.expect(404, "POST", "/v1/endpoints/1:predict", predictions)
    container.expect(405, "GET", "/predict")
    container.expect(413, "POST", f"{route}:predict", b" " * (5 << 20))
    script = ROOT / "tests/conformance/vertex_client.py"
    # As uploaded with --container-predict-route, so that the platform's paths end at the named one.
    done = subprocess.run([sys.executable, str(script), f"http://127.0.0.1:{port}", "", f"{route}:predict"])
    if done.returncode != 0:
        container.fail("did not satisfy Vertex's clients")
    whole = streams(container, f"{route}:predict")
    took = container.terminate(within=10)
    if not whole():
        container.fail("cut off a stream on SIGTERM")
    print(f"Vertex AI: health {health}, 8 streams whole, ended {took:.1f} s after SIGTERM")


def cloud_run(binary, model):
    port = free_port()
    container = Container(binary, model, port, K_SERVICE="worker", K_REVISION="worker-1", PORT=str(port))
    health = container.statuses("/isalive")
    stuck = socket.create_connection(("127.0.0.1", port))
    # A request that never comes to its end.
    stuck.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
    whole = streams(container, "/v1/chat/completions")
    took = container.terminate(within=10)
    stuck.close()
    if not whole():
        container.fail("cut off a stream on SIGTERM")
    wrong = [line for line in container.lines() if not {"severity", "time", "message"} <= set(line)]
    if wrong:
        container.fail(f"wrote lines that Cloud Logging cannot read: {wrong[:3]}")
    print(f"Cloud Run: health {health}, 8 streams whole, ended {took:.1f} s after SIGTERM with a request that never ends")


def load_balancer(binary, model):
    port, health_port = free_port(), free_port()
    variables = {"PORT": str(port), "PORT_HEALTH": str(health_port), "RUNPOD_ENDPOINT_ID": "e", "API_KEY": "a-key"}
    container = Container(binary, model, port, **variables)
    health = container.statuses("/ping", port=health_port)
    if health not in ([200], [204, 200]):
        container.fail(f"answered {health} to the pings")
    container.expect(404, "POST", "/v1/chat/completions", {}, port=health_port)
    container.expect(200, "GET", "/ping")
    container.expect(401, "POST", "/v1/chat/completions", {"messages": QUESTION})
    took = container.terminate(within=10)
    print(f"RunPod's load balancer: pings {health}, ended {took:.1f} s after SIGTERM")


def check(binary, model):
    for platform in (vertex, cloud_run, load_balancer):
        platform(binary, model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--model", default="demo")
    given = parser.parse_args()
    check(given.binary, given.model)
