"""A directory as an S3 bucket and as a repository of the hub, by sendfile: fast enough not to be what is measured.

Started by the benchmarks of weights; several processes share one port, so that no interpreter's lock is in the way. Knows
what downloading clients ask for and no more: list, HEAD and ranged GET of S3 (signatures are not looked at), and the hub's
model, tree and resolve, with a redirect to the bytes for large files as the hub has it.
"""

import hashlib
import json
import multiprocessing
import os
import pathlib
import re
import socket
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1 << 20


class Files:
    """What is served: every file below a directory, with its digests."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = {}
        for path in sorted(p for p in self.root.rglob("*") if p.is_file()):
            size = path.stat().st_size
            sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    sha256.update(block)
                    sha1.update(block)
            name = str(path.relative_to(self.root))
            self.files[name] = {"size": size, "sha256": sha256.hexdigest(), "sha1": sha1.hexdigest(), "large": size >= LARGE}

    def listing(self, prefix, strip):
        """S3's list of the keys with a prefix."""
        keys = "".join(
            f"<Contents><Key>{escape(strip + name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{f['sha1'][:32]}&quot;</ETag><Size>{f['size']}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, f in self.files.items() if (strip + name).startswith(prefix)
        )
        return (f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>bench</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(self.files)}</KeyCount><MaxKeys>1000</MaxKeys>"
                f"<IsTruncated>false</IsTruncated>{keys}</ListBucketResult>").encode()

    def tree(self):
        def entry(name, f):
            base = {"type": "file", "path": name, "size": f["size"], "oid": f["sha1"]}
            return base | ({"lfs": {"oid": f["sha256"], "size": f["size"], "pointerSize": 134}} if f["large"] else {})

        return json.dumps([entry(*item) for item in self.files.items()]).encode()

    def info(self):
        siblings = [{"rfilename": name} for name in self.files]
        return json.dumps({"id": "bench/model", "modelId": "bench/model", "sha": COMMIT, "private": False, "gated": False,
                           "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}).encode()


def write_manifest(directory):
    """The digests that our own uploads leave beside a model, so that what comes from the bucket is checked."""
    manifest = pathlib.Path(directory) / "chandler-manifest.json"
    manifest.unlink(missing_ok=True)
    files = [{"path": name, "size": f["size"], "sha256": f["sha256"]} for name, f in Files(directory).files.items()]
    manifest.write_text(json.dumps({"version": 1, "files": files}))


class Connection:
    def __init__(self, stream, files, base):
        self.stream, self.files, self.base = stream, files, base

    def serve(self):
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending = b""
        try:
            while True:
                while b"\r\n\r\n" not in pending:
                    block = self.stream.recv(65536)
                    if not block:
                        return
                    pending += block
                head, _, pending = pending.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                self.answer(method, target, headers)
        except (ConnectionError, BrokenPipeError):
            pass
        finally:
            self.stream.close()

    def answer(self, method, target, headers):
        url = urllib.parse.urlsplit(target)
        path, query = urllib.parse.unquote(url.path), urllib.parse.parse_qs(url.query)
        if path == "/api/models/bench/model" or path.startswith("/api/models/bench/model/revision/"):
            return self.body(self.files.info(), "application/json")
        if path.startswith("/api/models/bench/model/tree/"):
            return self.body(self.files.tree(), "application/json")
        if found := re.fullmatch(r"/bench/model/resolve/[^/]+/(.+)", path):
            return self.resolve(method, found[1], headers)
        if path.rstrip("/") == "/bench" and "list-type" in query:
            return self.body(self.files.listing(query.get("prefix", [""])[0], "model/"), "application/xml")
        for start in ("/bench/model/", "/cdn/"):
            if path.startswith(start) and path[len(start):] in self.files.files:
                return self.file(method, path[len(start):], headers, "")
        self.send(404, "Content-Type: application/xml\r\nContent-Length: 0\r\n")

    def resolve(self, method, name, headers):
        f = self.files.files.get(name)
        if f is None:
            return self.send(404, "X-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n")
        commit = f"X-Repo-Commit: {COMMIT}\r\n"
        if not f["large"]:
            return self.file(method, name, headers, commit)
        self.send(302, f'{commit}X-Linked-Etag: "{f["sha256"]}"\r\nX-Linked-Size: {f["size"]}\r\n'
                       f"Location: {self.base}/cdn/{urllib.parse.quote(name)}\r\nContent-Length: 0\r\n")

    def file(self, method, name, headers, more):
        f = self.files.files[name]
        first, last, status = 0, f["size"] - 1, 200
        more += f'ETag: "{f["sha1"] if "X-Repo" in more else f["sha1"][:32]}"\r\nAccept-Ranges: bytes\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n'
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", "")):
            first, last, status = int(found[1]), min(int(found[2] or last), last), 206
            more += f"Content-Range: bytes {first}-{last}/{f['size']}\r\n"
        count = last - first + 1
        self.send(status, f"{more}Content-Type: application/octet-stream\r\nContent-Length: {count}\r\n")
        if method == "HEAD":
            return
        with (self.files.root / name).open("rb") as file:
            while count:
                sent = os.sendfile(self.stream.fileno(), file.fileno(), first, min(count, 1 << 24))
                if sent == 0:
                    raise ConnectionError
                first, count = first + sent, count - sent

    def body(self, body, kind):
        self.send(200, f"Content-Type: {kind}\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: {len(body)}\r\n", body)

    def send(self, status, headers, body=b""):
        names = {200: "OK", 206: "Partial Content", 302: "Found", 404: "Not Found"}
        self.stream.sendall(f"HTTP/1.1 {status} {names[status]}\r\n{headers}\r\n".encode("latin-1") + body)


class Server:
    """Serves a directory until it is closed: `s3://bench/model`, and `bench/model` on the hub."""

    def __init__(self, directory, processes=2):
        self.files = Files(directory)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.cdn = self.url.replace("127.0.0.1", "localhost")  # another host, as on the hub
        context = multiprocessing.get_context("fork")
        self.processes = [context.Process(target=self.run, daemon=True) for _ in range(processes)]
        for process in self.processes:
            process.start()

    def run(self):
        while True:
            stream, _ = self.socket.accept()
            threading.Thread(target=Connection(stream, self.files, self.cdn).serve, daemon=True).start()

    def close(self):
        for process in self.processes:
            process.terminate()

    def bytes(self):
        return sum(f["size"] for f in self.files.files.values())

    def ceiling(self, connections=8, part=16 << 20):
        """Bytes a second that this server gives to a client that throws them away."""
        parts = [(name, at, min(at + part, f["size"]) - 1) for name, f in self.files.files.items() for at in range(0, f["size"], part)]
        context = multiprocessing.get_context("fork")
        began = time.perf_counter()
        drains = [context.Process(target=drain, args=(self.url, parts[i::connections])) for i in range(connections)]
        for process in drains:
            process.start()
        for process in drains:
            process.join()
        return self.bytes() / (time.perf_counter() - began)


def drain(url, parts):
    host, port = url.removeprefix("http://").split(":")
    buffer = bytearray(1 << 20)
    with socket.create_connection((host, int(port))) as stream:
        for name, first, last in parts:
            path = urllib.parse.quote(f"/bench/model/{name}")
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={first}-{last}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += stream.recv(4096)
            left = last - first + 1 - len(head.partition(b"\r\n\r\n")[2])
            while left:
                left -= stream.recv_into(buffer, min(left, len(buffer)))


if __name__ == "__main__":
    server = Server(sys.argv[1])
    print(server.url, f"{server.ceiling() / 1e9:.2f} GB/s", flush=True)
    server.processes[0].join()
