#!/usr/bin/env python3
"""Trains the voice activity classifier: src/vad/weights.bin. A few CPU minutes.

usage: train.py EXAMPLE [WORK]    EXAMPLE: the built example, target/…/examples/voice_activity
Needs espeak-ng, numpy, soundfile, soxr and torch. The measures come from the Rust code itself.
"""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import synthesis as s  # noqa: E402

TAPS = [-70, -45, -28, -16, -8, -3, 0, 3, 8, 16, 28, 45, 70]  # src/vad/score.rs
HIDDEN = (32, 16)
KINDS = ["none"] * 2 + ["white", "pink", "brown", "coloured", "hum", "fan", "fan", "clicks", "music", "music", "beeps", "babble", "babble"]
# Added to the logit: a word missed is lost, and silence heard as speech costs one more window to decode.
CAUTION = 0.8
OUT = Path(__file__).parents[2] / "src" / "vad" / "weights.bin"


def make(work, count, variants, seed):
    """Recordings on disk, and their marks."""

    def one(index):
        rng = np.random.default_rng([seed, index])
        kind = KINDS[index % len(KINDS)]
        samples, marks = s.recording(
            rng, lambda r: s.espeak(r, variants), kind, rng.uniform(-3, 30) if kind != "babble" else rng.uniform(3, 30),
            talk=rng.random() > 0.15, pause=rng.choice([0.7, 2.5, 6]))
        path = work / f"{seed}-{index}.wav"
        s.save(path, samples)
        return path, marks

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(count)))


def inputs(example, made):
    """[frames, taps * measures] and marks."""
    paths = [str(path) for path, _ in made]
    for start in range(0, len(paths), 50):
        subprocess.run([example, "measures", *paths[start : start + 50]], check=True)
    xs, ys = [], []
    for path, marks in made:
        x = np.fromfile(f"{path}.measures", "<f4").reshape(len(marks), -1)
        rows = np.arange(len(x))
        xs.append(np.concatenate([x[np.clip(rows + tap, 0, len(x) - 1)] for tap in TAPS], 1))
        ys.append(marks)
    return torch.tensor(np.concatenate(xs)), torch.tensor(np.concatenate(ys), dtype=torch.float32)


def main():
    example = sys.argv[1]
    with tempfile.TemporaryDirectory() as made:
        work = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(made)
        work.mkdir(exist_ok=True)
        x, y = inputs(example, make(work, 700, s.TRAIN_VARIANTS, 1))
        held_x, held_y = inputs(example, make(work, 70, s.TEST_VARIANTS, 2))
    torch.manual_seed(0)
    mean, scale = x.mean(0), x.std(0).clamp(min=0.05)
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], HIDDEN[0]), torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN[0], HIDDEN[1]), torch.nn.ReLU(), torch.nn.Linear(HIDDEN[1], 1))
    x, held_x = (x - mean) / scale, (held_x - mean) / scale
    steps, size = 8000, 2048
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    # Both kinds of frames count the same, however many there are of each.
    weight = (y == 0).sum() / (y > 0).sum()
    print(f"{len(y)} frames, {y.mean():.0%} speech", flush=True)
    for step in range(steps):
        rows = torch.randint(len(x), (size,))
        noisy = x[rows] + 0.05 * torch.randn(size, x.shape[1])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(noisy)[:, 0], y[rows], pos_weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 1000 == 999:
            with torch.no_grad():
                p = net(held_x)[:, 0] > 0
            miss = (~p & (held_y > 0)).sum() / (held_y > 0).sum()
            false = (p & (held_y == 0)).sum() / (held_y == 0).sum()
            print(f"{step + 1}: loss {loss:.4f}; held-out voices: miss {miss:.2%}, false alarms {false:.2%}", flush=True)
    with torch.no_grad():
        # The scaling goes into the first layer.
        first = net[0]
        first.bias -= (first.weight * (mean / scale)).sum(1)
        first.weight /= scale
        net[4].bias += CAUTION
        flat = torch.cat([p.flatten() for layer in (net[0], net[2], net[4]) for p in (layer.weight, layer.bias)])
    OUT.write_bytes(flat.numpy().astype("<f4").tobytes())
    print(f"{OUT}: {len(flat)} weights")


if __name__ == "__main__":
    main()
