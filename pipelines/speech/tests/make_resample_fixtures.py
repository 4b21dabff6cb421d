#!/usr/bin/env python3
"""What soxr (VHQ) makes of two signals at several rates: fixtures/resample/*. HQ, librosa's default, is itself only
87 dB from it at 44.1 kHz.

The signals are formulas that tests/resample.rs repeats, so only the outputs are kept. Needs numpy and soxr; run once,
commit what it writes. Each case has soxr's own distance from the formula at the new rate: at 11.025, 22.05 and 44.1 kHz soxr
is a few nanoseconds off.
"""

import json
from pathlib import Path

import numpy as np
import soxr

OUT = Path(__file__).parent / "fixtures" / "resample"
SECONDS = 0.2
TONES = 60


def band(rate, top):
    """Sixty tones up to `top` Hz, faded in and out."""
    t = np.arange(int(rate * SECONDS)) / rate
    x = sum(np.cos(2 * np.pi * (50 + (top - 50) * k / (TONES - 1)) * t + 0.7 * k * k) for k in range(TONES))
    return x / TONES * fade(t)


def chirp(rate, top):
    """From 50 Hz to `top`, faded in and out."""
    t = np.arange(int(rate * SECONDS)) / rate
    return 0.5 * np.sin(2 * np.pi * (50 * t + 0.5 * (top - 50) * t * t / SECONDS)) * fade(t)


def fade(t):
    return 0.5 - 0.5 * np.cos(2 * np.pi * t / SECONDS)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    cases = []
    for rate in [8000, 11025, 22050, 32000, 44100, 48000, 96000]:
        top = min(7000, 0.4 * rate)
        for kind, make in [("band", band), ("chirp", chirp)]:
            x = make(rate, top)
            y = soxr.resample(x, rate, 16000, quality="VHQ")
            exact = make(16000, top)
            ratio = 10 * np.log10(np.sum(exact**2) / np.sum((y - exact) ** 2))
            name = f"{kind}-{rate}.f32"
            (OUT / name).write_bytes(y.astype("<f4").tobytes())
            cases.append({"file": name, "kind": kind, "rate": rate, "top": top, "soxr": round(ratio, 1)})
            print(f"{name:18} {len(x):6} -> {len(y)} samples; soxr to the formula {ratio:.1f} dB")
    (OUT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
