"""The official `runpod` SDK with a handler that does nothing, and ours with the mock: the same platform, in one run.

    python3 -m venv VENV && VENV/bin/pip install -r benches/requirements-runpod.txt
    cargo build --release -p chandler -p runpod-platform --bin chandler --bin runpod-platform
    VENV/bin/python benches/runpod_jobs.py [--out FILE]

Medians of several runs: jobs a second one at a time and 32 at a time, milliseconds from a job's submission to its result
while the worker waits for it, process start to the first poll, and memory before there was a job.
"""

import argparse
import json
import os
import pathlib
import platform as machine
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/conformance"))

from runpod_processes import Platform, Worker, chandler, sdk, tree  # noqa: E402

# The least that is wanted of ours; times and memory at most.
GOALS = {
    "jobs_per_second_at_1": 500,
    "jobs_per_second_at_32": 2000,
    "added_ms": 1.0,
    "first_take_ms": 100,
    "idle_resident_mb": 31,
}
AT_LEAST = {"jobs_per_second_at_1", "jobs_per_second_at_32"}
JOB = {"prompt": "a", "max_tokens": 1}
# The SDK looks for room once a second: a job that comes sooner would measure that again.
SETTLED_SECONDS = 1.3


class Side:
    """How one of the two is started, and how many jobs it gets: enough for seconds, not for minutes."""

    def __init__(self, name, command, jobs):
        self.name, self.command, self.jobs = name, command, jobs
        self.runs = 0

    def worker(self, platform, concurrency):
        self.runs += 1
        more = {"RUNPOD_TEST_CONCURRENCY": str(concurrency), "RUNPOD_LOG_LEVEL": "ERROR"}
        worker = Worker(platform, f"{self.name}-{self.runs}", self.command(concurrency), **more)
        try:
            platform.until_polled(worker.name)
        except AssertionError:
            worker.kill()
            sys.exit(f"{worker.name} does not poll; its log:\n{''.join(worker.log[-40:])}")
        return worker


def throughput(platform, side, concurrency):
    """Jobs a second, from the first take to the last result, once the worker has warmed up."""
    worker = side.worker(platform, concurrency)
    try:
        work(platform, concurrency)
        time.sleep(SETTLED_SECONDS)
        jobs = side.jobs[concurrency]
        return jobs / work(platform, jobs)["busy_seconds"]
    finally:
        worker.kill()


def work(platform, jobs):
    """Has so many jobs done; the account of them alone."""
    platform.control("reset", {})
    before = platform.control("wait?ended=0&ms=1")["ended"]
    platform.submit(JOB, count=jobs)
    seen = platform.control(f"wait?ended={before + jobs}&ms=300000")
    account = platform.control("account")
    if not seen["done"] or account["completed"] != jobs or account["violations"]:
        sys.exit(f"{jobs} jobs did not end well: {account}")
    return account


def added(platform, side, samples):
    """Milliseconds from submission to result, for jobs that find the worker waiting."""
    worker = side.worker(platform, 1)
    try:
        work(platform, 1)
        times = []
        for _ in range(samples):
            time.sleep(SETTLED_SECONDS)
            times.append(work(platform, 1)["total"]["p50_ms"])
        return statistics.median(times)
    finally:
        worker.kill()


def start(platform, side):
    """Milliseconds to the first poll; memory of the process, and of all its processes with what they share shared out."""
    worker = side.worker(platform, 1)
    try:
        first = platform.control("workers")[worker.name]["first_take"]
        time.sleep(SETTLED_SECONDS)
        return {
            "first_take_ms": (first - worker.started) * 1000,
            "idle_resident_mb": kilobytes(worker.process.pid, "status", "VmRSS:") / 1000,
            "idle_proportional_mb": sum(kilobytes(pid, "smaps_rollup", "Pss:") for pid in tree(worker.process.pid)) / 1000,
        }
    finally:
        worker.kill()


def kilobytes(pid, file, field):
    lines = pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def measure(platform, sides, runs):
    """Both sides take turns, so that a busy minute of the machine's is nobody's alone."""
    seen = {side.name: {} for side in sides}

    def keep(side, name, value):
        seen[side.name].setdefault(name, []).append(round(value, 3))

    for run in range(runs):
        for side in sides:
            print(f"run {run + 1} of {runs}: {side.name}", flush=True)
            for concurrency in (1, 32):
                keep(side, f"jobs_per_second_at_{concurrency}", throughput(platform, side, concurrency))
            keep(side, "added_ms", added(platform, side, 5))
            for name, value in start(platform, side).items():
                keep(side, name, value)
    return seen


def machine_words():
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), machine.machine())
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"cpu": cpu, "threads": os.cpu_count(), "commit": commit, "date": time.strftime("%Y-%m-%d"), "command": " ".join(sys.argv)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chandler", type=pathlib.Path, default=ROOT / "target/release/chandler")
    parser.add_argument("--platform", type=pathlib.Path, default=ROOT / "target/release/runpod-platform")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, help="file for the report, as JSON")
    given = parser.parse_args()
    rows = lambda concurrency: chandler(given.chandler, "--max-rows", concurrency)
    sides = [Side("sdk", lambda _: sdk("many"), {1: 6, 32: 128}), Side("ours", rows, {1: 2000, 32: 10_000})]
    platform = Platform(given.platform, "--hold-ms", 5000)
    try:
        seen = measure(platform, sides, given.runs)
    finally:
        platform.end()
    medians = {name: {k: statistics.median(v) for k, v in values.items()} for name, values in seen.items()}
    report = machine_words() | {"medians": medians, "runs": seen, "goals": GOALS}
    print(f"{'':28}{'sdk':>12}{'ours':>12}{'goal':>10}")
    for name, ours in medians["ours"].items():
        goal = GOALS.get(name)
        met = "" if goal is None else ("  met" if (ours >= goal if name in AT_LEAST else ours <= goal) else "  MISSED")
        print(f"{name:28}{medians['sdk'][name]:12.2f}{ours:12.2f}{goal if goal is not None else '':>10}{met}")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
