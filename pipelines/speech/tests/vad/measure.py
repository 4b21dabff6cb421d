#!/usr/bin/env python3
"""Misses and false alarms of the voice activity detector on voices, synthesisers and noises that it was not trained on.

usage: measure.py EXAMPLE [--silero]    EXAMPLE: the built example, target/…/examples/voice_activity
Needs espeak-ng, flite, numpy, soundfile, soxr; pocketsphinx-testdata (Debian) for the real voices; --silero measures
Silero's detector (the one that comes with faster-whisper; needs onnxruntime) on the same recordings.

miss: frames of speech that are in no segment. false alarm: frames without speech that are in one, not counting those
within 0.2 s of speech, where padding and pauses are. Options: threshold 0.5, pauses of 0.1 s, padding of 30 ms.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import synthesis as s  # noqa: E402

PER_CELL = 4


def voices():
    found = {"espeak-ng, held-out voices": lambda r: s.espeak(r, s.TEST_VARIANTS), "flite": s.flite}
    if s.real():
        found["LibriVox (real)"] = lambda r: s.real()[r.integers(len(s.real()))]
    return found


def cells():
    yield "none", 60
    for kind in ("white", "pink", "hum", "fan", "babble", "music", "clicks"):
        for snr in (20, 10, 5, 0):
            if snr > 0 or kind in ("white", "pink", "hum"):
                yield kind, snr


def silero(paths):
    import faster_whisper.vad as vad
    import soundfile

    options = vad.VadOptions(threshold=0.5, min_speech_duration_ms=250, min_silence_duration_ms=100, speech_pad_ms=30)
    for path in paths:
        found = vad.get_speech_timestamps(soundfile.read(path, dtype="float32")[0], options)
        yield path, [(f["start"], f["end"]) for f in found]


def ours(example, paths):
    out = subprocess.run([example, "segments", *paths], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        found = json.loads(line)
        yield found["file"], found["segments"]


def count(marks, segments):
    """(missed, speech, false, silence) in frames."""
    heard = np.zeros(len(marks), bool)
    for start, end in segments:
        heard[start // s.HOP : -(-end // s.HOP)] = True
    near = np.convolve(marks, np.ones(41), "same") > 0
    away = ~near
    return np.array([(marks & ~heard).sum(), marks.sum(), (heard & away).sum(), away.sum()])


def main():
    example = sys.argv[1]
    with tempfile.TemporaryDirectory() as work:
        everything = {}
        for v, (name, voice) in enumerate(voices().items()):
            for c, (kind, snr) in enumerate(cells()):
                for index in range(PER_CELL):
                    rng = np.random.default_rng([9, v, c, index])
                    # Babble is other held-out espeak voices, whoever speaks.
                    speak = voice if kind != "babble" else None
                    samples, marks = mixture(rng, voice, kind, snr) if speak is None else s.recording(
                        rng, voice, kind, snr, changes=False)
                    path = f"{work}/{v}-{c}-{index}.wav"
                    s.save(path, samples)
                    everything[path] = (name, kind, snr, marks)
        found = dict(silero(list(everything)) if "--silero" in sys.argv else ours(example, list(everything)))
    totals = {}
    for path, (name, kind, snr, marks) in everything.items():
        for key in [(name, kind, snr), (name, "all", "all")]:
            totals[key] = totals.get(key, 0) + count(marks, found[path])
    names = list(voices())
    print(f"{'noise':8} {'SNR':>5}" + "".join(f"{n:>32}" for n in names))
    print(" " * 14 + "".join(f"{'miss':>22}{'false':>10}" for _ in names))
    for kind, snr in [*cells(), ("all", "all")]:
        row = [totals[n, kind, snr] for n in names]
        print(f"{kind:8} {snr:>5}" + "".join(f"{t[0] / t[1]:>22.1%}{t[2] / max(t[3], 1):>10.1%}" for t in row))


def mixture(rng, voice, kind, snr):
    """As s.recording, with babble of held-out espeak voices under any voice."""
    clean, marks = s.recording(rng, voice, "none", 60, changes=False)
    around = s.babble(rng, len(clean), lambda r: s.espeak(r, s.TEST_VARIANTS), 8)
    speech = clean[np.repeat(marks, s.HOP)[: len(clean)]]
    mixed = clean + around / s.level(around) * s.level(speech) * 10 ** (-snr / 20)
    return (mixed / np.abs(mixed).max() * 0.7).astype(np.float32), marks


if __name__ == "__main__":
    main()
