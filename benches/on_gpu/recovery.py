"""The step that shows what becomes of a worker when something goes wrong around it: memory that runs out, another process on the card, a
kill, a kernel that crashes, a GPU that is cut into instances. Each check starts workers of its own; one that fails leaves the others
their turn. What a worker has to do then is written in src/engine/recovery.rs and pipelines/nn/src/device."""

import json
import os
import pathlib
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext

from on_gpu import models
from on_gpu.answers import Writing, as_alone
from on_gpu.hog import Hog
from on_gpu.place import Place, made
from on_gpu.worker import Failed, Worker, first_token, prompt, serve

NEEDS_A_GPU = "needs a GPU"
MIB = 1 << 20
# Of shapes.py: the model of the checks and its neighbour's. Tokens: of the prompt that needs much memory (1.3 GiB for the wide model's
# three matrices of activations), of answers that come to their end, of a neighbour's, and of answers that do not.
SIZES = {
    "full": {"model": "wide", "neighbour": "tiny", "read": 7000, "write": 1500, "beside": 400, "cut_off": 7000},
    "tiny": {"model": "tiny", "neighbour": "tiny", "read": 256, "write": 300, "beside": 300, "cut_off": 450},
}
# What is left free: too little for the prompt, also with what the worker has kept of its loading, and plenty for the other answers; enough for
# a worker to begin, but not for its cache; too little for any worker.
TOO_LITTLE, NO_CACHE, NOTHING = 400 * MIB, 1200 * MIB, 48 * MIB
# What the driver keeps for itself as processes come and go.
SLACK = 64 * MIB
FAILED, DEVICE_LOST, KILLED = 1, 75, -9  # as `chandler --help` has them, and the system
SIZES_TOLD = r"needs? about (\d+) MiB, and (\d+) MiB of \d+ MiB are free"


class Checks:
    """Where the checks are done, and on which models."""

    def __init__(self, place: Place, model: pathlib.Path, neighbour: pathlib.Path):
        self.place, self.model, self.neighbour = place, model, neighbour
        self.sizes = SIZES[place.scale]
        self.vocabulary = {folder: json.loads((folder / "config.json").read_text())["vocab_size"] for folder in (model, neighbour)}

    @property
    def on_gpu(self) -> bool:
        return self.place.device == "cuda"

    def worker(self, model: pathlib.Path, *more: str, **variables: str) -> Worker:
        return Worker(self.place.binary, model, self.place.device, self.place.dtype, more, **variables)

    def writings(self, worker: Worker, model: pathlib.Path, tokens: str) -> list[Writing]:
        """Three answers beside each other, all of which have begun."""
        begun = [Writing(worker, prompt(32, 60 + row, self.vocabulary[model]), self.sizes[tokens]) for row in range(3)]
        for writing in begun:
            writing.begins()
        return begun

    def first_token(self) -> float:
        place = self.place
        return first_token(place.binary, self.model, place.device, place.dtype, prompt(16, 7, self.vocabulary[self.model]))


def recovery(place: Place) -> None:
    """Every check in turn."""
    sizes, wrong = SIZES[place.scale], []
    with made(place, "recovery") as folder:
        parts = [folder / name for name in ("model", "neighbour")]
        for part, shape in zip(parts, (sizes["model"], sizes["neighbour"]), strict=True):
            # Without special tokens, so that all that is written can be read back.
            models.llama(part, shape, special=())
        checks = Checks(place, *parts)
        for name, check, anywhere in CHECKS:
            if not anywhere and not checks.on_gpu:
                place.tell(name, NEEDS_A_GPU)
                continue
            try:
                check(checks)
            except Exception as error:  # noqa: BLE001 (told, and the step fails)
                place.tell(name, f"FAILED: {error!r}")
                wrong.append(name)
    if wrong:
        raise Failed(f"not as it should be: {', '.join(wrong)}")


def full_in_a_batch(checks: Checks) -> None:
    """A prompt that memory does not hold comes to a batch: it alone fails, and is answered once there is memory."""
    place, model, sizes = checks.place, checks.model, checks.sizes
    long = json.dumps({"prompt": prompt(sizes["read"], 9, checks.vocabulary[model]), "max_tokens": 4, "temperature": 0, "ignore_eos": True}).encode()
    with Hog(dict(os.environ)) as hog, checks.worker(model, "--prefill-chunk", str(sizes["read"])) as worker:
        worker.line("model loaded")
        left = hog.leave(TOO_LITTLE)["free"]
        others = checks.writings(worker, model, "write")
        refused = worker.ask("/v1/completions", long)
        said = json.load(refused)
        for writing in others:
            writing.finishes()
        together = json.load(worker.ask("/health"))["jobs"]["retried"]
        hog.release()
        again = worker.ask("/v1/completions", long)
        answered = json.load(again)
        as_alone(place.device, worker, others)
    error = said.get("error", {})
    told = re.search(SIZES_TOLD, error.get("message", ""))
    if (refused.status, error.get("type"), error.get("code")) != (507, "server_error", "out_of_memory") or not told:
        raise Failed(f"with {left // MIB} MiB free, a prompt of {sizes['read']} tokens was answered with {refused.status} {said}")
    needed, free = map(int, told.groups())
    if needed <= free:
        raise Failed(f"it is said that {needed} MiB were needed and {free} MiB free: {error['message']}")
    if together < 2:
        raise Failed(f"{together} requests were in the batch that failed: it was no batch, and nothing is shown")
    if again.status != 200 or answered["usage"]["completion_tokens"] != 4:
        raise Failed(f"with the memory given back, the same prompt was answered with {again.status} {answered}")
    place.tell("memory that runs out in a batch: the prompt that needs it", f"507 out_of_memory: {error['message']}", left_free=left)
    place.tell("of that batch, answers beside it that came whole, and as alone", len(others), "of 3", retried=together)
    place.tell("the same prompt in the same process, with memory given back", "answered")


def beside_another(checks: Checks) -> None:
    """Two workers on one device, each with its model and its answers."""
    place = checks.place
    with checks.worker(checks.model) as one, checks.worker(checks.neighbour) as two:
        for worker in (one, two):
            worker.line("model loaded")
        first = checks.writings(one, checks.model, "write")
        second = checks.writings(two, checks.neighbour, "beside")
        for writing in (*first, *second):
            writing.finishes()
        as_alone(place.device, one, first)
        as_alone(place.device, two, second)
    place.tell("two workers on one device: answers that came whole, and as alone", len(first) + len(second), "of 6")


def full_at_the_start(checks: Checks) -> None:
    """A worker that begins on a full card ends with a message."""
    place = checks.place
    # A cache of 2 GiB and more.
    more = ("--max-rows", "256", "--kv-cache", "8GiB")
    command = serve(place.binary, checks.model, place.device, place.dtype, more)
    with Hog(dict(os.environ)) as hog:
        # Where not even a context fits, nobody can ask how much is free.
        for what, size, wanted in (("for its cache", NO_CACHE, f"memory is full.*{SIZES_TOLD}"), ("for anything", NOTHING, "memory (is full|free)")):
            left = hog.leave(size)["free"]
            began = time.perf_counter()
            done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
            took = time.perf_counter() - began
            last = (done.stderr.strip().splitlines() or [""])[-1]
            good = last.startswith("chandler: ") and re.search(wanted, last) and "panicked" not in done.stderr
            if done.returncode != FAILED or not good:
                raise Failed(f"with {left // MIB} MiB free a worker ended with {done.returncode}, not {FAILED}, and said: {done.stderr[-1500:]}")
            place.tell(f"a worker started with no room {what} ends with code {FAILED}", last, seconds_taken=took, left_free=left)


def killed(checks: Checks) -> None:
    """SIGKILL in the middle of answers: the device has its memory back, and another process serves."""
    place = checks.place
    with Hog(dict(os.environ)) if checks.on_gpu else nullcontext() as hog:
        before = hog.look()["free"] if hog else 0
        with checks.worker(checks.model) as worker:
            worker.line("model loaded")
            writings = checks.writings(worker, checks.model, "cut_off")
            held = before - hog.look()["free"] if hog else 0
            worker.child.kill()
            code = worker.child.wait(30)
            began = time.perf_counter()
            for writing in writings:
                writing.ends()
        if code != KILLED or any(writing.broken is None for writing in writings):
            raise Failed(f"the worker ended with {code}, and its answers with {[writing.broken for writing in writings]}")
        if hog:
            if held <= SLACK:
                raise Failed(f"the worker held {held // MIB} MiB of the card: nothing is shown by its having them back")
            while (missing := before - hog.look()["free"]) > SLACK:
                if time.perf_counter() - began > 30:
                    raise Failed(f"{missing // MIB} MiB of {held // MIB} MiB are still missing 30 s after the kill")
                time.sleep(0.005)
            place.tell("killed while it computes: until its memory is free", time.perf_counter() - began, "s", held_mib=held // MIB)
        else:
            place.tell("killed while it computes: its memory", NEEDS_A_GPU)
    place.tell("after a kill: process start to first token", checks.first_token(), "s")


def crashed(checks: Checks) -> None:
    """A kernel crashes in the process: every request hears of it, and the process ends with the code that asks for another."""
    place, model = checks.place, checks.model
    if place.fault is None:
        raise Failed("fault.so was neither carried nor made: a C compiler (cc) is needed")
    when, said = place.work / "fault-when", place.work / "fault-said"
    for kernel in ("trapped", "astray") if checks.on_gpu else ("trapped",):
        for file in (when, said):
            file.unlink(missing_ok=True)
        with checks.worker(model, LD_PRELOAD=str(place.fault), FAULT_WHEN=str(when), FAULT_SAID=str(said), FAULT_KERNEL=kernel) as worker:
            worker.line("model loaded")
            writings = checks.writings(worker, model, "cut_off")
            when.touch()
            began = time.perf_counter()
            while not said.exists():
                if time.perf_counter() - began > 20:
                    raise Failed("the fault that was loaded into the worker did nothing")
                time.sleep(0.005)
            came = said.read_text().strip()
            if not checks.on_gpu:
                for writing in writings:
                    writing.finishes()
                place.tell("a kernel that crashes", f"{NEEDS_A_GPU}: what is to launch it came as far as {came}, and the answers to their end")
                return
            code = worker.child.wait(30)
            took = time.perf_counter() - began
            worker.reader.join(10)
            for writing in writings:
                writing.ends()
        _lost(code, came, writings, worker.log)
        place.tell(f"a kernel that crashes ({kernel}): the worker ends with code {DEVICE_LOST} after", took, "s", driver=came,
                   said=writings[0].error["message"])
    place.tell("after a crash: process start to first token", checks.first_token(), "s")


def _lost(code: int, came: str, writings: list[Writing], log: list[str]) -> None:
    """Whether a worker has ended as one whose device is lost."""
    ended = [writing.error or {"message": f"no error but {writing.broken!r}"} for writing in writings]
    lost = all("the device is lost" in error["message"] and "CUDA_ERROR_" in error["message"] for error in ended)
    last = [line.strip() for line in log if line.startswith("chandler: ")]
    if code != DEVICE_LOST or not lost or "the device is lost" not in "".join(last) or any("panicked" in line for line in log):
        raise Failed(f"the driver said {came}; the worker ended with {code}, not {DEVICE_LOST}, its answers with {ended}, its log with {''.join(log[-8:])}")


def instances(checks: Checks) -> None:
    """A GPU that is cut into instances, where this machine has one; whether it is, is never changed."""
    place = checks.place
    query = ["nvidia-smi", "--query-gpu=mig.mode.current", "--format=csv,noheader"]
    mode = subprocess.run(query, check=False, capture_output=True, text=True, timeout=30).stdout.strip()
    listed = subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True, text=True, timeout=30).stdout
    found = re.findall(r"UUID: (MIG-[^)\s]+)", listed)
    if not found:
        place.tell("MIG", f"not enabled on this machine (mig.mode.current: {mode})")
        return
    shown = {"CUDA_VISIBLE_DEVICES": found[0]}
    with Hog(os.environ | shown) as hog:
        there = hog.look()
    doctor = subprocess.run([place.binary, "doctor", "--json"], check=False, capture_output=True, text=True, timeout=60, env=os.environ | shown)
    opened = next((check["data"] for check in json.loads(doctor.stdout)["checks"] if check["check"] == "cuda:0"), None)
    if opened is None or (opened["name"], opened["memory_bytes"]) != (there["name"], there["total"]):
        raise Failed(f"the driver says {there}, and `chandler doctor` {opened}")
    with checks.worker(checks.model, **shown) as worker:
        writings = checks.writings(worker, checks.model, "write")
        for writing in writings:
            writing.finishes()
        as_alone(place.device, worker, writings)
        health = json.load(worker.ask("/health"))
    if health["device"] != "cuda:0":
        raise Failed(f"/health tells of the device {health['device']}")
    place.tell("MIG: an instance that serves", there["name"], memory_bytes=there["total"], instances=len(found), device_bytes=health["engine"]["device_bytes"])


# Each with whether a CPU shows anything of it.
CHECKS: tuple[tuple[str, Callable[[Checks], None], bool], ...] = (
    ("memory that runs out in a batch", full_in_a_batch, False),
    ("two workers on one device", beside_another, True),
    ("a worker started on a full card", full_at_the_start, False),
    ("killed while it computes", killed, True),
    ("a kernel that crashes", crashed, True),
    ("MIG", instances, False),
)
