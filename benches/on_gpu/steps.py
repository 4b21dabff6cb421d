"""The steps of a run, in their order: each measures one thing of ours and, where there is one, its peer on the same checkpoint."""

import json
import pathlib
import random
import statistics
import struct
import subprocess
import time
import wave

from on_gpu import flops, models, packing, shapes
from on_gpu.parity import parity
from on_gpu.place import Place, left_out, made, without
from on_gpu.recovery import recovery
from on_gpu.report import machine
from on_gpu.worker import (
    Failed,
    Worker,
    draw,
    first_token,
    prompt,
    rate,
    together,
    write,
)

# Prompt tokens of the long prompt, tokens that are written, seconds of audio, pixels of a picture, its steps.
SIZES = {
    "full": {"read": 4096, "write": 128, "write_together": 256, "audio": 300, "pixels": 1024, "steps": 12, "runs": 5},
    "tiny": {"read": 256, "write": 200, "write_together": 400, "audio": 35, "pixels": 128, "steps": 4, "runs": 2},
}
# Switches of --cuda-tuning that are left out to see what each is worth: where tokens are written, at the start, and where pictures are drawn.
DECODING = ("fused", "sampling", "ahead", "graphs", "keep-memory", "no-events", "staging")
STARTING = ("preload", "warm-up")
DRAWING = {"sdxl": ("fused", "plans"), "flux": ("fused",)}
NO_PEER = "no peer"
# Where torch cannot measure: GB/s of memory and dense bf16 TFLOP/s (f16 of a T4), as NVIDIA's datasheets have them.
DATASHEETS = {"H200": (4800, 989), "H100 80GB HBM3": (3350, 989), "H100 PCIe": (2000, 756), "A100-SXM4-80GB": (2039, 312),
              "A100-SXM4-40GB": (1555, 312), "L40S": (864, 362), "L4": (300, 121), "T4": (320, 65)}


def roofs(place: Place) -> None:
    """What this machine can do: bytes a second, and bf16 multiply-adds."""
    found = place.peer("roofs")
    if "missing" in found:
        place.tell("roofs", f"{NO_PEER}: {found['missing']}")
        name = machine()["gpu"]
        known = [(card, numbers) for card, numbers in DATASHEETS.items() if card in name]
        if place.device != "cuda" or not known:
            return
        card, (bandwidth, rate) = known[0]
        found = {"bytes_per_second": bandwidth * 1e9, "flops_per_second": rate * 1e12, "of": f"{card}, by its datasheet, not measured"}
    place.tell(f"memory, read and written ({found['of']})", found["bytes_per_second"] / 1e9, "GB/s", roofs=found)
    place.tell("bf16 matrix product", found["flops_per_second"] / 1e12, "TFLOP/s")


def selftest(place: Place) -> None:
    """The embedded models against their recorded answers."""
    done = subprocess.run([place.binary, "selftest", "--json", "--device", place.device], check=False, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        raise Failed(f"selftest ended with {done.returncode}: {done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    place.tell("answers as recorded", report["passed"], of=report["device"], dtype=report["dtype"])
    wrong = list(report["failed"])
    for part in ("speech", "image"):
        place.tell(f"{part} as recorded", report[part]["passed"])
        wrong += report[part]["failed"]
    if wrong or done.returncode:
        raise Failed(f"selftest ended with {done.returncode}, not as recorded: {wrong}")


def loading(place: Place, worker: Worker, switched: str = "") -> None:
    """Bytes of weights a second, from files in the page cache to the device, while they are read and the model is built."""
    told = worker.loaded()
    seconds = sum(told["stages"].get(name, 0.0) for name in ("reading weights", "building the model"))
    # The log counts milliseconds; less than one is no figure.
    found = told["bytes"] / max(seconds, 0.001) / 1e9
    place.tell(f"weights from the page cache to the device{switched}", found, "GB/s", wanted="10 GB/s", stages=told["stages"], bytes=told["bytes"])


def llama(place: Place) -> None:
    """A language model of 8 billion parameters: its start, loading, prefill and decode."""
    sizes, runs = SIZES[place.scale], SIZES[place.scale]["runs"]
    with made(place, "llama") as folder:
        about = models.llama(folder, place.scale)
        vocabulary = about["config"]["vocab_size"]
        starts = [first_token(place.binary, folder, place.device, place.dtype, prompt(16, run, vocabulary)) for run in range(3)]
        with Worker(place.binary, folder, place.device, place.dtype, ("--prefill-chunk", str(sizes["read"]))) as worker:
            loading(place, worker)
            place.tell("process start to first token, page cache warm", min(starts), "s", wanted="5 s", all=starts)
            write(worker, prompt(64, 90, vocabulary), 8)
            read = statistics.median(reading(worker, prompt(sizes["read"], 10 + run, vocabulary)) for run in range(runs))
            singles = [write(worker, prompt(32, 30 + run, vocabulary), sizes["write"]) for run in range(runs)]
            one = statistics.median(rate(times, sizes["write"]) for times in singles)
            groups = [[prompt(32, 50 + 8 * run + row, vocabulary) for row in range(8)] for run in range(runs)]
            eight = statistics.median(together(worker, group, sizes["write_together"]) for group in groups)
        compare(place, folder, about, read, {1: one, 8: eight})
        parking(place, folder, vocabulary)
        # Last: what there is no time for is missed least.
        for switch in DECODING:
            leaving_out(place, folder, vocabulary, switch)
        for switch in STARTING:
            took = first_token(place.binary, folder, place.device, place.dtype, prompt(16, 70, vocabulary), ("--cuda-tuning", without(switch)))
            place.tell(f"process start to first token, without {switch}", took, "s")


def parking(place: Place, folder: pathlib.Path, vocabulary: int) -> None:
    """The model leaves the GPU and comes back: the first time its weights are copied to the host, later they only go."""
    if place.device != "cuda":
        place.tell("parking", "on the CPU weights are where they are")
        return
    with Worker(place.binary, folder, place.device, place.dtype) as worker:
        ask = json.dumps({"prompt": prompt(16, 75, vocabulary), "max_tokens": 8, "temperature": 0, "ignore_eos": True}).encode()

        def answer() -> str:
            return json.load(worker.post("/v1/completions", ask, "application/json"))["choices"][0]["text"]

        awake = answer()
        for earlier, name in enumerate(("first", "second")):
            began = time.perf_counter()
            worker.post("/sleep", b"", "application/json").read()
            took = time.perf_counter() - began
            parked = worker.line("model parked", earlier)
            place.tell(f"parked, {name} time", took, "s", bytes=parked["bytes"], left_bytes=parked["left_bytes"])
            began = time.perf_counter()
            back = answer()
            took = time.perf_counter() - began
            woken = worker.line("model woken", earlier)
            place.tell(f"woken by a request, {name} time", woken["elapsed_ms"] / 1000, "s", wanted="a fraction of a second", answer_seconds=took,
                       gigabytes_per_second=woken["bytes"] / max(woken["elapsed_ms"], 1) / 1e6)
            if back != awake:
                raise Failed(f"after parking the model says {back!r}, before {awake!r}")


def leaving_out(place: Place, folder: pathlib.Path, vocabulary: int, switch: str) -> None:
    """Decoding in a worker without one of the switches, and without those that need it."""
    sizes, names = SIZES[place.scale], " and ".join(left_out(switch))
    with Worker(place.binary, folder, place.device, place.dtype, ("--cuda-tuning", without(switch))) as worker:
        if switch == "staging":
            loading(place, worker, f", without {names}")
        write(worker, prompt(32, 79, vocabulary), 8)
        slower = rate(write(worker, prompt(32, 80, vocabulary), sizes["write"]), sizes["write"])
        place.tell(f"decode, batch 1, without {names}", slower, "tokens/s")
        if switch != "staging":  # which is done with when weights are loaded
            eight = [prompt(32, 81 + row, vocabulary) for row in range(8)]
            place.tell(f"decode, batch 8, without {names}", together(worker, eight, sizes["write_together"]), "tokens/s")


def compare(place: Place, folder: pathlib.Path, about: dict, read: float, rates: dict[int, float]) -> None:
    """Seconds of the long prompt, and tokens a second by the number of rows, beside the roofs and `transformers`."""
    sizes = SIZES[place.scale]
    peer = place.peer("llama", folder, sizes["read"], min(sizes["write"], 128) if place.device == "cuda" else 24)
    missing = f"{NO_PEER}: {peer['missing']}" if "missing" in peer else None
    place.tell(f"a prompt of {sizes['read']} tokens read", sizes["read"] / read, "tokens/s", seconds=read,
               least_seconds=place.least(flops=flops.llama_prefill(place.scale, sizes["read"])), wanted="50 % of the matrix rate",
               peer=missing or sizes["read"] / peer["prefill_seconds"], peer_is="transformers")
    for rows, found in rates.items():
        # In the middle of the answer, each row has so many positions to look at.
        seen = 32 + sizes["write" if rows == 1 else "write_together"] / 2
        least = place.least(read_bytes=about["step_bytes"] + rows * seen * about["position_bytes"])
        place.tell(f"decode, batch {rows}", found, "tokens/s", seconds=rows / found, least_seconds=least,
                   wanted="50 % of the memory roof" if rows == 1 else "", peer=missing or peer[f"decode_tokens_per_second_batch_{rows}"],
                   peer_is="transformers, static cache" + ("" if missing else ", compiled" if peer["compiled"] else ", not compiled"))


def reading(worker: Worker, ids: list[int]) -> float:
    """Seconds from asking to the first token."""
    began = time.perf_counter()
    return write(worker, ids, 2)[0] - began


def sound(file: pathlib.Path, seconds: int) -> None:
    """Noise that swells and falls, 16 kHz: what is said in it makes no difference to random weights."""
    dice = random.Random(10)
    second = [dice.randrange(-8000, 8000) for _ in range(16_000)]
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        for number in range(seconds):
            part = (sample * (1 + number % 5) // 5 for sample in second)
            out.writeframes(struct.pack("<16000h", *part))


def whisper(place: Place) -> None:
    """A file of speech: window after window, and windows beside each other."""
    sizes = SIZES[place.scale]
    with made(place, "whisper") as folder:
        models.whisper(folder, place.scale)
        audio = place.work / "noise.wav"
        sound(audio, sizes["audio"])
        # No second try at other temperatures, and no window left out: every window is heard and written once.
        asked = {"response_format": "verbose_json", "language": "en", "temperature": "0", "temperature_increment_on_fallback": "0",
                 "no_speech_threshold": "1", "log_prob_threshold": "-1000", "compression_ratio_threshold": "1000", "without_timestamps": "true",
                 "condition_on_previous_text": "false"}
        seconds = {}
        with Worker(place.binary, folder, place.device, place.dtype) as worker:
            loading(place, worker)
            for name, more in (("window after window", {}), ("windows beside each other", {"batched": "true"})):
                worker.transcribe(audio, asked | more)
                began = time.perf_counter()
                heard = worker.transcribe(audio, asked | more)
                seconds[name] = time.perf_counter() - began
        windows = -(-sizes["audio"] // 30)
        written = [len(segment["tokens"]) for segment in heard["segments"]]
        tokens = round(sum(written) / windows)
        peer = place.peer("whisper", folder, audio, tokens)
        encode = flops.whisper_encoder(place.scale) * windows
        for name, took in seconds.items():
            at_once = 1 if name == "window after window" else windows
            of_steps = tokens * -(-windows // at_once) * flops.whisper_step_bytes(place.scale)
            least = (place.least(flops=encode) or 0) + (place.least(read_bytes=of_steps) or 0)
            theirs = {1: "one_by_one_seconds"}.get(at_once, "eight_at_once_seconds")
            place.tell(f"{sizes['audio']} s of audio, {name}", sizes["audio"] / took, "times as fast as said", seconds=took,
                       least_seconds=least if place.roofs else None, tokens_of_a_window=tokens, wanted="3 times transformers",
                       peer=sizes["audio"] / peer[theirs] if "missing" not in peer else f"{NO_PEER}: {peer['missing']}",
                       peer_is=f"transformers, {theirs.removesuffix('_seconds').replace('_', ' ')}")


def picture(place: Place, kind: str, guided: bool, body: dict) -> None:
    """A picture's step and the decoding of its latents."""
    sizes = SIZES[place.scale]
    pixels = sizes["pixels"]
    with made(place, kind) as folder:
        make = {"sdxl": models.sdxl, "flux": models.flux}[kind]
        make(folder, place.scale, place.images)
        asked = {"prompt": "a red boat on a lake", "size": f"{pixels}x{pixels}", "steps": sizes["steps"], "seed": 1, **body}
        with Worker(place.binary, folder, place.device, place.dtype) as worker:
            loading(place, worker)
            draw(worker, asked)
            drawn = [draw(worker, asked) for _ in range(3)]
        for switch in DRAWING[kind]:
            if switch == "plans" and not has_cudnn(place):
                place.tell("a step without plans", "no cuDNN in this program, and no plans")
                continue
            with Worker(place.binary, folder, place.device, place.dtype, ("--cuda-tuning", without(switch))) as worker:
                draw(worker, asked)
                plain = draw(worker, asked)
                place.tell(f"a step without {switch}", plain["step_seconds"] * 1e3, "ms")
                place.tell(f"latents to a picture without {switch}", plain["decode_seconds"] * 1e3, "ms")
        found = {name: statistics.median(one[name] for one in drawn) for name in drawn[0]}
        peer = place.peer(kind, folder, pixels)
        missing = f"{NO_PEER}: {peer['missing']}" if "missing" in peer else None
        work = 2 * flops.unet_step(place.scale, pixels // 8) if guided else flops.flux_step(place.scale, pixels)
        place.tell(f"a step at {pixels} px, {'two rows' if guided else 'one row'}", found["step_seconds"] * 1e3, "ms", seconds=found["step_seconds"],
                   least_seconds=place.least(flops=work), wanted="no slower than diffusers", less_is_better=True,
                   peer=missing or peer["step_seconds"] * 1e3, peer_is="diffusers, SDPA")
        place.tell("latents to a picture, encoded and sent", found["decode_seconds"] * 1e3, "ms", wanted="no slower than diffusers", less_is_better=True,
                   peer=missing or peer["decode_seconds"] * 1e3, peer_is="diffusers' decoder alone")
        place.tell(f"a picture in {sizes['steps']} steps", found["seconds"], "s")


def has_cudnn(place: Place) -> bool:
    """Whether the program was built with cuDNN's convolutions."""
    features = next((line for line in packing.version(place.binary).splitlines() if line.startswith("features:")), "")
    return "cudnn" in features.replace(",", " ").split()


def sdxl(place: Place) -> None:
    """Stable Diffusion XL, guided."""
    picture(place, "sdxl", True, {"guidance_scale": 7.0, "negative_prompt": "blurred"})


def flux(place: Place) -> None:
    """FLUX.1-dev with T5-XXL."""
    picture(place, "flux", False, {"guidance_scale": 3.5})


# Name, what it does, and minutes that it may take at full scale.
STEPS = {
    "roofs": (roofs, 2), "selftest": (selftest, 2), "parity": (parity, 6), "recovery": (recovery, 3), "llama": (llama, 7), "whisper": (whisper, 4),
    "sdxl": (sdxl, 4), "flux": (flux, 6),
}
assert shapes.LLAMA.keys() >= SIZES.keys()
