#!/usr/bin/env python3
"""A few short recordings of held-out voices in noise, with where the speech is: fixtures/vad/*. For the test that the
detector still works; how well it works is what measure.py says. Kept as Opus, to be small.
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import synthesis as s  # noqa: E402
from make_audio_fixtures import encode  # noqa: E402

OUT = Path(__file__).parents[1] / "fixtures" / "vad"


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    marks_of = {}
    for index, (kind, snr) in enumerate([("none", 60), ("pink", 10), ("hum", 5), ("babble", 15), ("music", 15)]):
        rng = np.random.default_rng([77, index])
        samples, marks = s.recording(rng, lambda r: s.espeak(r, s.TEST_VARIANTS), kind, snr, seconds=12, changes=False)
        name = f"{kind}.opus"
        data = encode("ogg", "libopus", samples[:, None].astype(np.float64), s.RATE, {"application": "audio"}, 32000)
        (OUT / name).write_bytes(data)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(int), [0]])))
        # Pairs of frames of 10 ms: from, to.
        marks_of[name] = edges.reshape(-1, 2).tolist()
        print(name, len(data), f"{marks.mean():.0%} speech")
    (OUT / "marks.json").write_text(json.dumps(marks_of) + "\n")


if __name__ == "__main__":
    main()
