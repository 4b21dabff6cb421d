"""Trains the micro Whisper on the CPU and writes it in the Hugging Face layout.

`python corpus.py --out CORPUS`, then `python train.py --corpus CORPUS --run RUN …` for each stage that README.md lists. Besides the
tokens, training teaches the encoder which phone is said when, and a head of two layers where each token is said: espeak-ng
tells both, and a model as small as this finds neither by itself in an hour.
"""

import argparse
import math
import os
import pathlib
import time

import numpy as np
import torch
import torch.distributed as distributed
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank

import checkpoint
import measure
import network
import vocabulary as v
from corpus import Corpus
from windows import IGNORED, Windows

NEIGHBOURS = [(-2, 0.06), (-1, 0.19), (0, 0.5), (1, 0.19), (2, 0.06)]


class Features:
    """Whisper's log-mel spectrogram in batches, of voices that are varied a little."""

    def __init__(self, generator: torch.Generator):
        filters = mel_filter_bank(num_frequency_bins=201, num_mel_filters=network.MELS, min_frequency=0.0, max_frequency=8000.0,
                                  sampling_rate=16000, norm="slaney", mel_scale="slaney")
        self.filters = torch.tensor(filters, dtype=torch.float32)
        self.window, self.generator = torch.hann_window(400), generator

    def of(self, audio: torch.Tensor) -> torch.Tensor:
        power = torch.stft(audio, 400, 160, window=self.window, return_complex=True)[..., :-1].abs() ** 2
        return (self.filters.T @ power).clamp(min=1e-10).log10()

    def normed(self, log: torch.Tensor) -> torch.Tensor:
        most = log.amax((1, 2), keepdim=True)
        return (torch.maximum(log, most - 8) + 4) / 4

    def varied(self, log: torch.Tensor) -> torch.Tensor:
        """Formants moved, a gentle equaliser, and stretches left out."""
        rand = lambda *shape: torch.rand(*shape, generator=self.generator)
        batch, bins, frames = log.shape
        places = torch.arange(bins)[None] * (0.95 + 0.1 * rand(batch, 1))
        low = places.floor().clamp(max=bins - 1).long()
        high, share = (low + 1).clamp(max=bins - 1), (places - low).clamp(0, 1)[..., None]
        pick = lambda at: torch.gather(log, 1, at[..., None].expand(-1, -1, frames))
        log = pick(low) * (1 - share) + pick(high) * share
        curve = F.interpolate(0.3 * torch.randn(batch, 1, 5, generator=self.generator), bins, mode="linear", align_corners=True)
        out = self.normed(log + curve.transpose(1, 2))
        for row in range(batch):
            if rand(1) < 0.3:
                start, width = int(rand(1) * bins), int(rand(1) * 6)
                out[row, start:start + width] = out[row].mean()
            if rand(1) < 0.5:
                start, width = int(rand(1) * frames), int(rand(1) * 9)
                out[row, :, start:start + width] = out[row].mean()
        return out


def batches(windows: Windows, features: Features, size: int):
    """Endless batches of examples with like numbers of tokens."""
    while True:
        pool = sorted((windows.draw() for _ in range(8 * size)), key=lambda example: len(example.tokens))
        groups = [pool[at:at + size] for at in range(0, len(pool), size)]
        windows.rng.shuffle(groups)
        for group in groups:
            width = max(len(example.tokens) for example in group)
            tokens, labels = torch.full((size, width), v.END), torch.full((size, width), IGNORED)
            where = torch.full((size, width, 2), -1)
            for row, example in enumerate(group):
                count = len(example.tokens)
                tokens[row, :count] = torch.tensor(example.tokens)
                labels[row, :count] = torch.tensor(example.labels)
                where[row, :count] = torch.tensor(example.where)
            audio = torch.tensor(np.stack([example.audio for example in group]), dtype=torch.float32)
            phones = torch.tensor(np.stack([example.phones for example in group]))
            yield features.varied(features.of(audio)), tokens, labels, where, phones


def token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy; a time that is missed by a step or two is half right."""
    chosen = labels != IGNORED
    scores, labels = logits[chosen].float().log_softmax(-1), labels[chosen]
    is_time = labels >= v.FIRST_TIME
    loss = -scores.gather(1, labels[:, None])[:, 0] * ~is_time
    for offset, weight in NEIGHBOURS:
        near = (labels + offset).clamp(v.FIRST_TIME, v.SIZE - 1)
        loss = loss - weight * scores.gather(1, near[:, None])[:, 0] * is_time
    return loss.mean()


def place_loss(taught: list[torch.Tensor], where: torch.Tensor) -> torch.Tensor:
    """How far each taught head's attention is from even attention to where the token is said."""
    chosen = where[..., 0] >= 0
    start, end = where[chosen].unbind(-1)
    positions = torch.arange(taught[0].shape[-1])[None]
    inside = (positions >= start[:, None]) & (positions < end[:, None])
    weights = inside / inside.sum(1, keepdim=True).clamp(min=1)
    count = max(len(start), 1)  # a batch may be all silence
    return sum(-(scores[chosen].float().log_softmax(-1) * weights).sum() / count for scores in taught) / len(taught)


def rate(step: int, progress: float, peak: float, warm: int) -> float:
    return peak * min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def report(model, tokenizer, folder: pathlib.Path, probes):
    checkpoint.write(model, tokenizer, folder)
    stored, processor = checkpoint.read(folder)
    for name, clips in probes.items():
        written = [measure.text_of(processor, row) for row in measure.transcribe(stored, processor, [clip.audio for clip in clips])]
        errors, words = measure.word_errors([clip.text for clip in clips], written)
        print(f"  {name}: {100 * errors / words:.1f} % of {words} words; {clips[0].text!r} -> {written[0]!r}", flush=True)


def shared(trained, numbers: list[float], processes: int) -> list[float]:
    """Averages gradients, and these numbers, over the processes."""
    if processes == 1:
        return numbers
    flat = torch.cat([p.grad.flatten() for p in trained] + [torch.tensor(numbers)])
    distributed.all_reduce(flat)
    flat /= processes
    at = 0
    for p in trained:
        p.grad.copy_(flat[at:at + p.numel()].view_as(p))
        at += p.numel()
    return flat[at:].tolist()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--corpus", type=pathlib.Path, required=True)
    arguments.add_argument("--run", type=pathlib.Path, required=True, help="a folder for the state of training and for checkpoints")
    arguments.add_argument("--continue-from", type=pathlib.Path, help="the folder of the run before")
    arguments.add_argument("--seconds", type=float, default=float(network.SECONDS))
    arguments.add_argument("--single", type=float, default=0.3, help="share of windows with one sentence")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--minutes", type=float, help="let the clock end the schedule, for a machine that is shared")
    arguments.add_argument("--stop", type=float, help="stop after so many minutes of the schedule")
    arguments.add_argument("--rate", type=float, default=1.5e-3)
    arguments.add_argument("--warm", type=int, default=100)
    arguments.add_argument("--phones", type=float, default=0.5, help="weight of the phones' loss")
    arguments.add_argument("--places", type=float, default=0.3, help="weight of the taught heads' loss")
    arguments.add_argument("--every", type=float, default=6, help="minutes between checkpoints")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--processes", type=int, default=2, help="each of one thread, with --batch examples a step")
    options = arguments.parse_args()
    if options.processes == 1:
        train(0, options)
    else:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29500 + os.getpid() % 1000))
        torch.multiprocessing.spawn(train, (options,), options.processes)


def train(rank: int, options):
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    if options.processes > 1:
        distributed.init_process_group("gloo", rank=rank, world_size=options.processes)
    options.run.mkdir(parents=True, exist_ok=True)
    tokenizer, corpus = v.train(), Corpus(options.corpus)
    model = network.build(v.SIZE, v.SPECIAL)
    trainer = network.Trainer(model, len(corpus.phones) + 1)
    trained = [p for p in trainer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": [p for p in trained if p.dim() > 1], "weight_decay": 0.02},
                                   {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0}],
                                  lr=options.rate, betas=(0.9, 0.98), fused=True)
    if options.continue_from:
        state = torch.load(options.continue_from / "state.pt")
        trainer.load_state_dict(state["trainer"])
        optimizer.load_state_dict(state["optimizer"])
    probes = {}
    if rank == 0:
        print(f"{sum(p.numel() for p in model.parameters())} parameters, off transformers by {network.same_as_transformers(model):.1e}",
              flush=True)
        probes = {"held-out voices, clean": measure.clips(48, 71), "held-out voices, 10 dB": measure.clips(48, 72, snr=10)}
    model.train()
    seed = options.seed + 1 + 1000 * rank
    windows = Windows(corpus, tokenizer, seed, options.seconds, options.single)
    source = batches(windows, Features(torch.Generator().manual_seed(seed)), options.batch)

    def save():
        torch.save({"trainer": trainer.state_dict(), "optimizer": optimizer.state_dict()}, options.run / "state.pt")
        report(model, tokenizer, options.run / "checkpoint", probes)
        model.train()

    started = reported = time.monotonic()
    sums, counted, step, spent = np.zeros(3), 0, 0, 0.0
    while True:
        progress = max(step / options.steps, spent / 60 / options.minutes if options.minutes else 0.0)
        if progress >= 1.0 or (options.stop and spent / 60 >= options.stop):
            break
        features, tokens, labels, where, phones = next(source)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, progress, options.rate, options.warm)
        with torch.autocast("cpu", torch.bfloat16):
            logits, taught, heard = trainer(features, tokens)
        losses = (token_loss(logits, labels), place_loss(taught, where), F.cross_entropy(heard.float().flatten(0, 1), phones.flatten()))
        loss = losses[0] + options.places * losses[1] + options.phones * losses[2]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # The clock is averaged as well, so that all processes stop at the same step.
        spent, *parts = shared(trained, [time.monotonic() - started, *(part.item() for part in losses)], options.processes)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        sums += parts
        counted, step = counted + 1, step + 1
        if rank == 0 and step % 50 == 0:
            tokens_loss, places_loss, phones_loss = sums / counted
            print(f"step {step} tokens {tokens_loss:.3f} places {places_loss:.3f} phones {phones_loss:.3f} {spent:.0f} s", flush=True)
            sums, counted = np.zeros(3), 0
        if rank == 0 and time.monotonic() - reported > options.every * 60:
            reported = time.monotonic()
            save()
    if rank == 0:
        save()
        print(f"{step} steps of {options.processes} x {options.batch}, {time.monotonic() - started:.0f} s")
    if options.processes > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
