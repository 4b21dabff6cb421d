"""The fake RunPod platform and the workers that run against it, as processes. What the `runpod_*.py` scripts share; no script."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent


def clean_environment():
    """Ours, without what would say something to a worker about where it is."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("CHANDLER_", "AIP_", "RUNPOD_"))}


class Platform:
    """`runpod-platform`, ended with the script."""

    def __init__(self, binary, *arguments):
        command = [str(binary), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment(), text=True)
        said = json.loads(self.process.stdout.readline())
        self.base = "http://" + said["address"]
        self.url = said["url"]

    def control(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.base}/control/{what}", data), timeout=700) as answer:
            return json.load(answer)

    def client(self, method, path, body=None, key="client-key"):
        """Status and JSON of a client's request."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, json.loads(answer.read() or b"null")

    def submit(self, given, count=1, **more):
        ids = self.control("submit", {"input": given, "count": count, "more": more})["ids"]
        return ids[0] if count == 1 else ids

    def job(self, job):
        return self.control(f"jobs/{job}")

    def until(self, job, done, seconds=30):
        """Waits until `done` says yes to the job; gives it back."""
        return until(lambda: (lambda seen: done(seen) and seen)(self.job(job)), seconds, f"job {job}")

    def ended(self, job, seconds=30):
        final = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
        return self.until(job, lambda seen: seen["view"]["status"] in final, seconds)

    def taken(self, job, seconds=30):
        return self.until(job, lambda seen: seen["view"]["status"] != "IN_QUEUE", seconds)

    def until_polled(self, worker, seconds=30):
        seen = lambda: self.control("workers").get(worker, {}).get("first_take")
        return until(seen, seconds, f"the first poll of {worker}")

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=10)


def until(look, seconds, what):
    limit = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > limit:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.01)


class Worker:
    """A worker of the platform; its output is kept for whoever wants to know what went wrong."""

    def __init__(self, platform, name, command, **more):
        environment = clean_environment() | platform.control(f"environment?worker={name}") | more
        self.name = name
        self.started = time.time()
        self.process = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True).start()

    def resident_kb(self):
        """Of the process and its children: the SDK's pings have a process of their own."""
        return sum(resident_kb(pid) for pid in tree(self.process.pid))

    def terminate(self, seconds=30):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def kill(self):
        for pid in reversed(tree(self.process.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def tree(pid):
    """A process and its descendants, as far as they live."""
    try:
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []
    return [pid] + [below for child in children for below in tree(child)]


def resident_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def sdk(mode):
    """The official worker's command line."""
    return [sys.executable, HERE / "runpod_sdk_worker.py", mode]


def chandler(binary, *more, model="mock"):
    return [binary, "serve", "--model", model, "--host", "127.0.0.1", "--port", "0", *more]
