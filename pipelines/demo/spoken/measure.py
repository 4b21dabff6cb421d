"""What a checkpoint is measured with: clips of held-out sentences and voices in noise, transcription by transformers' `generate`, and
the errors.
"""

import dataclasses
import random

import numpy as np
import torch

import noise
import voices
import vocabulary as v
from sentences import Sentences, plain

RATE = 16000
NOISES = ["white", "pink", "coloured", "fan"]


@dataclasses.dataclass
class Clip:
    audio: np.ndarray
    text: str
    segments: list[tuple[float, float, str]]
    words: list[tuple[float, float]]
    voice: str


def clips(count: int, seed: int, part="held-out", variant=True, accent=False, snr=None, sentences=1, seconds=6.0) -> list[Clip]:
    """Clips of sentences that training never drew; `variant` and `accent` say whether the voice's are held out, too."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    source, made = Sentences(rng, part), []
    while len(made) < count:
        voice = voices.draw(rng, variant, accent)
        at, parts, segments, words = rng.uniform(0.05, 0.5), [], [], []
        for _ in range(sentences):
            text = source.draw()
            said = voices.say(text, voice)
            parts.append((at, said.samples))
            segments.append((at, at + len(said.samples) / RATE, text))
            words += [(at + start, at + end) for _, start, end in said.words]
            at += len(said.samples) / RATE + rng.uniform(0.3, 1.0)
        end = segments[-1][1] + rng.uniform(0.05, 0.3)
        if sentences == 1 and end > seconds:
            continue
        audio = np.zeros(int(end * RATE))
        for start, samples in parts:
            audio[int(start * RATE):int(start * RATE) + len(samples)] += samples
        if snr is not None:
            around = noise.make(generator, rng.choice(NOISES), len(audio))
            audio = noise.mixed(audio, np.abs(audio) > 0.01, around, snr)
        audio = (audio / np.abs(audio).max() * rng.uniform(0.2, 0.9)).astype(np.float32)
        made.append(Clip(audio, " ".join(text for _, _, text in segments), segments, words, voice.name))
    return made


def silences(count: int, seed: int) -> list[np.ndarray]:
    """Nothing and noises, from half a second to a window long."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    made = [np.zeros(int(rng.uniform(0.5, 6) * RATE), np.float32) for _ in range(count // 8)]
    while len(made) < count:
        samples = noise.make(generator, noise.KINDS[len(made) % len(noise.KINDS)], int(rng.uniform(0.5, 6) * RATE))
        made.append((samples / np.abs(samples).max() * 10 ** rng.uniform(-2, -0.1)).astype(np.float32))
    return made


@torch.no_grad()
def transcribe(model, processor, audios: list[np.ndarray], batch=32, timestamps=True) -> list[list[int]]:
    """The tokens that greedy decoding writes after the prompt, for clips of a window at most."""
    written = []
    for at in range(0, len(audios), batch):
        features = processor.feature_extractor(audios[at:at + batch], sampling_rate=RATE, return_tensors="pt").input_features
        out = model.generate(features, language="en", task="transcribe", return_timestamps=timestamps, do_sample=False, num_beams=1)
        for row in out.tolist():
            row = row[3 if row[:1] == [v.START] else 0:]
            written.append(row[:row.index(v.END)] if v.END in row else row)
    return written


def segments_of(processor, tokens: list[int]) -> list[tuple[float, float | None, str]]:
    """(start, end, text) of what was written with times; an end that is missing is None."""
    found, start, text = [], None, []
    for token in tokens:
        if token >= v.FIRST_TIME:
            seconds = (token - v.FIRST_TIME) * 0.02
            if text:
                found.append((start, seconds, processor.tokenizer.decode(text)))
                start, text = None, []
            else:
                start = seconds
        elif token < v.END:
            text.append(token)
    return found + ([(start, None, processor.tokenizer.decode(text))] if text else [])


def text_of(processor, tokens: list[int]) -> str:
    return processor.tokenizer.decode([token for token in tokens if token < v.END]).strip()


def edits(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def word_errors(said: list[str], written: list[str]) -> tuple[int, int]:
    """Errors and words, without regard to case and punctuation."""
    pairs = [(plain(a), plain(b)) for a, b in zip(said, written)]
    return sum(edits(a, b) for a, b in pairs), sum(len(a) for a, _ in pairs)
