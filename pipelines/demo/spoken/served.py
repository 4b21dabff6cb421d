"""Measures the worker itself: word errors of `chandler serve` with the checkpoint as it is stored, quantised, and quantised with activations
in bytes, on the same held-out clips.

    cargo build --release --bin chandler
    python served.py ../../../target/release/chandler [--clips 200]
"""

import argparse
import io
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request
import wave

import numpy as np

import measure

MODEL = pathlib.Path(__file__).resolve().parent.parent / "speech"
WAYS = [("as stored (f16)", []), ("--quantize q8_0", ["--quantize", "q8_0"]), ("and --activations int8", ["--quantize", "q8_0", "--activations", "int8"])]
SUITES = [("clean", dict()), ("10 dB", dict(snr=10.0)), ("other wordings, clean", dict(part="wordings"))]


def wav(audio: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(measure.RATE)
        file.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def transcript(address: str, audio: np.ndarray) -> str:
    fields = {"model": "demo", "response_format": "text", "temperature": "0", "seed": "1"}
    parts = [f'--part\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts += [b'--part\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\n', wav(audio), b"\r\n--part--\r\n"]
    request = urllib.request.Request(f"{address}/v1/audio/transcriptions", b"".join(parts), {"Content-Type": "multipart/form-data; boundary=part"})
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode().strip()


def address_of(worker, log) -> str:
    """Where it listens, once it can serve."""
    while worker.poll() is None:
        text = pathlib.Path(log).read_text()
        if "model ready" in text:
            return re.search(r"http://[^\"\s]+", text)[0]
        time.sleep(0.05)
    raise SystemExit(pathlib.Path(log).read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=900)
    given = parser.parse_args()
    suites = [(name, measure.clips(given.clips, given.seed + number, **how)) for number, (name, how) in enumerate(SUITES)]
    for way, flags in WAYS:
        command = [given.binary, "serve", "--model", str(MODEL), "--served-model-name", "demo", "--port", "0", *flags]
        with tempfile.NamedTemporaryFile("w") as log, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as worker:
            address = address_of(worker, log.name)
            for name, clips in suites:
                written = [transcript(address, clip.audio) for clip in clips]
                errors, words = measure.word_errors([clip.text for clip in clips], written)
                print(f"{way}, {name}: {100 * errors / words:.1f} % of {words} words", flush=True)
            worker.terminate()


main()
