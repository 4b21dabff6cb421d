#!/usr/bin/env python3
"""Real S3 servers for the upload of outputs, and boto3's opinion of what lies in them.

    CHANDLER_PYTHON=.../bin/python cargo test --no-default-features --test main s3_servers -- --ignored --nocapture

starts this script; by hand it is of little use. It needs boto3 and moto[server], and s3s-fs 0.14.1 (`cargo install s3s-fs
--features binary`, found on the PATH or named by S3S_FS): moto does not look at signatures, s3s-fs does.

First line out: the stores, as a JSON list. Then, for each line in, {"store", "artifact", "bytes", "sha256"}, a line out:
{"ok": true} or {"ok": false, "why": text}. Ends at the end of its input.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

ACCESS, SECRET, BUCKET = "AKIACONFORMANCE", "conformance/secret+key", "results"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"a store did not start on port {port}")


class Store:
    def __init__(self, name, signatures, command):
        self.port = free_port()
        self.name, self.signatures = name, signatures
        self.endpoint = f"http://127.0.0.1:{self.port}"
        words = [word.replace("PORT", str(self.port)) for word in command]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, self.process)
        self.client = boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )
        self.client.create_bucket(Bucket=BUCKET)

    def told(self):
        return {
            "name": self.name, "signatures": self.signatures, "endpoint": self.endpoint,
            "access": ACCESS, "secret": SECRET, "bucket": BUCKET,
        }

    def check(self, told):
        artifact = told["artifact"]
        assert set(artifact) == {"bucket_name", "endpoint_url", "key", "url", "content_type", "bytes"}, sorted(artifact)
        assert (artifact["bucket_name"], artifact["endpoint_url"]) == (BUCKET, self.endpoint), artifact
        with urllib.request.urlopen(artifact["url"], timeout=60) as answer:
            body, kind = answer.read(), answer.headers["content-type"]
        assert len(body) == told["bytes"] == artifact["bytes"], (len(body), told["bytes"], artifact["bytes"])
        assert hashlib.sha256(body).hexdigest() == told["sha256"], "the signed address gives other bytes"
        head = self.client.head_object(Bucket=BUCKET, Key=artifact["key"])
        assert head["ContentLength"] == told["bytes"], head
        assert head["ContentType"] == artifact["content_type"] == kind, (head["ContentType"], kind, artifact["content_type"])
        multipart = head["ETag"].strip('"').partition("-")[2]
        assert bool(multipart) == (told["bytes"] > 16 << 20), head["ETag"]
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(artifact["url"]).query)
        assert int(query["X-Amz-Expires"][0]) == 604800 and query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"], query
        if self.signatures:
            self.refuses(artifact["url"].partition("?")[0])
            signature = query["X-Amz-Signature"][0]
            other = ("0" if signature[0] != "0" else "1") + signature[1:]
            self.refuses(artifact["url"].replace(signature, other))
            self.refuses(artifact["url"].replace(artifact["key"], artifact["key"] + "x"))

    def refuses(self, url):
        try:
            urllib.request.urlopen(url, timeout=60).close()
        except urllib.error.HTTPError as error:
            assert error.code == 403, error
            return
        raise AssertionError("an address that is not signed was answered")


def main():
    directory = tempfile.TemporaryDirectory()
    moto = str(Path(sys.executable).parent / "moto_server")
    stores = [Store("moto", False, [moto, "-H", "127.0.0.1", "-p", "PORT"])]
    s3s = os.environ.get("S3S_FS") or shutil.which("s3s-fs")
    if s3s:
        words = ["--access-key", ACCESS, "--secret-key", SECRET, "--host", "127.0.0.1", "--port", "PORT", directory.name]
        stores.append(Store("s3s-fs", True, [s3s, *words]))
    try:
        print(json.dumps([store.told() for store in stores]), flush=True)
        for line in sys.stdin:
            told = json.loads(line)
            try:
                next(store for store in stores if store.name == told["store"]).check(told)
                answer = {"ok": True}
            except Exception as error:  # whatever it is, the test that asked is to print it
                answer = {"ok": False, "why": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        for store in stores:
            store.process.terminate()
            store.process.wait(timeout=10)


if __name__ == "__main__":
    main()
