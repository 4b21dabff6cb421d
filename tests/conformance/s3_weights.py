#!/usr/bin/env python3
"""boto3 and moto against the weights' side of S3: what boto3 puts there we read, what we put there boto3 reads.

    CHANDLER_PYTHON=.../bin/python cargo test --no-default-features --test main boto3_and_we -- --ignored --nocapture

starts this script; by hand it is of little use. It needs boto3 and moto[server]. moto knows conditional requests and pages,
and looks at no signature; the test's own server (tests/s3) looks at signatures, and boto3 proves it here.

First line out: moto's address and keys. Then a line out for each line in:
    {"do": "put", "endpoint", "access", "secret", "prefix"}     a model by boto3 -> {"files": {path: [size, sha256]}}
    {"do": "replace", ..., "key"}                               other bytes of the same size -> {}
    {"do": "check", ..., "prefix", "folder", "commit"}          a mirror that we filled, read by boto3 -> {"files": ...}
    {"do": "conditions", ...}                                   If-None-Match and If-Match on writes -> {}
{"error": text} is an answer, too. Ends at the end of its input.
"""

import hashlib
import io
import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "models"


def client(told):
    return boto3.client(
        "s3", endpoint_url=told["endpoint"], region_name="us-east-1", aws_access_key_id=told["access"],
        aws_secret_access_key=told["secret"], config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def body_of(name, size):
    return random.Random(name).randbytes(size)


# Names that are hard to write into an address, a file in parts, and more files than a page of a listing has.
FILES = {
    "config.json": 700,
    "unet/model-00001-of-00002.safetensors": 21_000_000,
    "a b+c%20d/ü&=?#ñ 日本.json": 3000,
    "empty.txt": 0,
    **{f"many/{number:04}.txt": number % 7 for number in range(1001)},
}


def put(told):
    s3 = client(told)
    try:
        s3.create_bucket(Bucket=BUCKET)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    parts = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    for name, size in FILES.items():
        s3.upload_fileobj(io.BytesIO(body_of(name, size)), BUCKET, f"{told['prefix']}/{name}", Config=parts)
    s3.put_object(Bucket=BUCKET, Key=f"{told['prefix']}/a-directory/", Body=b"")
    s3.put_object(Bucket=BUCKET, Key=f"{told['prefix']}-other/config.json", Body=b"{}")
    return {"files": {name: [size, hashlib.sha256(body_of(name, size)).hexdigest()] for name, size in FILES.items()}}


def replace(told):
    s3 = client(told)
    size = s3.head_object(Bucket=BUCKET, Key=told["key"])["ContentLength"]
    s3.put_object(Bucket=BUCKET, Key=told["key"], Body=body_of("another", size))
    return {}


def check(told):
    s3 = client(told)
    read = lambda key: s3.get_object(Bucket=BUCKET, Key=f"{told['prefix']}/{told['folder']}/{key}")["Body"].read()
    assert read("refs/main").decode() == told["commit"], read("refs/main")
    manifest = json.loads(read(f"manifests/{told['commit']}.json"))
    assert manifest["version"] == 1 and manifest["commit"] == told["commit"], manifest
    files = {}
    for entry in manifest["files"]:
        body = io.BytesIO()
        key = f"{told['prefix']}/{told['folder']}/snapshots/{told['commit']}/{entry['path']}"
        s3.download_fileobj(BUCKET, key, body, Config=TransferConfig(multipart_threshold=8 << 20))
        body = body.getvalue()
        digest = hashlib.sha256(body).hexdigest()
        git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        assert len(body) == entry["size"], (entry, len(body))
        assert entry.get("sha256", digest) == digest and entry.get("git_sha1", git) == git, entry
        head = s3.head_object(Bucket=BUCKET, Key=key)
        assert ("-" in head["ETag"]) == (entry["size"] > 16 << 20), head["ETag"]
        files[entry["path"]] = [len(body), digest]
    left = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) if told.get("uploads", True) else []
    assert not left, left
    return {"files": files}


def conditions(told):
    s3 = client(told)
    key = f"{told['prefix']}/condition"
    etag = s3.put_object(Bucket=BUCKET, Key=key, Body=b"1", IfNoneMatch="*")["ETag"]
    for wrong in ({"IfNoneMatch": "*"}, {"IfMatch": '"00000000000000000000000000000000"'}):
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"2", **wrong)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 412, error
        else:
            raise AssertionError(f"{wrong} was taken")
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"3", IfMatch=etag)
    try:
        s3.get_object(Bucket=BUCKET, Key=key, IfMatch=etag)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 412, error
    else:
        raise AssertionError("an old version was given")
    return {}


def main():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    moto = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            if time.monotonic() > deadline or moto.poll() is not None:
                raise SystemExit("moto did not start")
            time.sleep(0.1)
        told = {"endpoint": f"http://127.0.0.1:{port}", "access": "AKIACONFORMANCE", "secret": "conformance/secret+key"}
        print(json.dumps(told), flush=True)
        work = {"put": put, "replace": replace, "check": check, "conditions": conditions}
        for line in sys.stdin:
            told = json.loads(line)
            try:
                answer = work[told["do"]](told)
            except Exception as error:  # whatever it is, the test that asked is to print it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        moto.terminate()
        moto.wait(timeout=10)


if __name__ == "__main__":
    main()
