"""The material of training: sentences that are said once each and kept on disk with their times, and a bank of noises.

`python corpus.py --out FOLDER --count 40000`; windows are put together from it while training goes on (`windows.py`).
"""

import argparse
import json
import pathlib
import random

import numpy as np

import noise
import voices
from sentences import Sentences

LONGEST = 5.7
NOISES, NOISE_SECONDS = 280, 12


class Corpus:
    """What `main` has written. An item is a dictionary: text, voice, at and length in samples, words, phones."""

    def __init__(self, folder: pathlib.Path):
        self.items = [json.loads(line) for line in (folder / "said.jsonl").open()]
        self.samples = np.memmap(folder / "said.i16", np.int16, "r")
        self.noises = np.load(folder / "noises.npy", mmap_mode="r")
        self.phones = {name: n for n, name in enumerate(json.loads((folder / "phones.json").read_text()))}
        self.by_voice: dict[str, list[int]] = {}
        for number, item in enumerate(self.items):
            self.by_voice.setdefault(item["voice"], []).append(number)

    def audio(self, item) -> np.ndarray:
        return self.samples[item["at"]:item["at"] + item["length"]].astype(np.float32) / 32768


def item_of(text: str, voice: voices.Voice, said: voices.Said) -> dict:
    rounded = lambda rows: [[round(x, 3) if isinstance(x, float) else x for x in row] for row in rows]
    return dict(text=text, voice=voice.name, speed=voice.speed, length=len(said.samples), words=rounded(said.words),
                phones=rounded(said.phones))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--count", type=int, default=40_000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    source = Sentences(rng, "train")
    names, written, at = set(), 0, 0
    with (options.out / "said.i16").open("wb") as samples, (options.out / "said.jsonl").open("w") as lines:
        while written < options.count:
            text, voice = source.draw(), voices.draw(rng)
            said = voices.say(text, voice)
            if not 0.2 < len(said.samples) / voices.RATE < LONGEST:
                continue
            item = item_of(text, voice, said) | {"at": at}
            samples.write((np.clip(said.samples, -1, 1) * 32767).astype(np.int16).tobytes())
            lines.write(json.dumps(item) + "\n")
            names |= {name for _, name in said.phones}
            at += item["length"]
            written += 1
    (options.out / "phones.json").write_text(json.dumps(sorted(names)))
    generator = np.random.default_rng(options.seed)
    bank = [noise.make(generator, noise.KINDS[n % len(noise.KINDS)], NOISE_SECONDS * voices.RATE) for n in range(NOISES)]
    np.save(options.out / "noises.npy", np.array(bank, np.float16))
    print(f"{written} sentences, {at / voices.RATE / 3600:.1f} hours, {len(names)} phones")


if __name__ == "__main__":
    main()
