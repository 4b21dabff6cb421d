"""Measures a checkpoint through transformers: word errors in seen and unseen voices and noise, silence, times, long recordings.

`python evaluate.py` prints what README.md states, of `pipelines/demo/speech`.
"""

import argparse
import pathlib

import numpy as np
import torch

import alignment
import checkpoint
import measure
import vocabulary as v

LEVELS = [("clean", None), ("20 dB", 20.0), ("10 dB", 10.0)]
SUITES = [("training voices, held-out sentences", dict(variant=False)), ("held-out voices, held-out sentences", dict()),
          ("held-out voices and accents, held-out sentences", dict(accent=True)), ("held-out voices, held-out wordings", dict(part="wordings")),
          ("held-out voices, words in no order", dict(part="salad"))]


def errors_of(model, processor, clips, show=0):
    written = [measure.text_of(processor, row) for row in measure.transcribe(model, processor, [clip.audio for clip in clips])]
    wrong = [(clip, text) for clip, text in zip(clips, written) if measure.plain(clip.text) != measure.plain(text)]
    for clip, text in wrong[:show]:
        print(f"    {clip.voice}: {clip.text!r} -> {text!r}")
    errors, words = measure.word_errors([clip.text for clip in clips], written)
    exact = sum(clip.text == text for clip, text in zip(clips, written))
    return 100 * errors / words, words, 100 * exact / len(clips)


def word_error_rates(model, processor, size: int, seed: int, show: int):
    for name, how in SUITES:
        cells = []
        for number, (level, snr) in enumerate(LEVELS):
            rate, words, exact = errors_of(model, processor, measure.clips(size, seed + number, snr=snr, **how), show)
            cells.append(f"{level} {rate:.1f} % ({exact:.0f} % of clips exact)")
        print(f"{name}: {', '.join(cells)}; {words} words in the last", flush=True)


@torch.no_grad()
def silence(model, processor, size: int, seed: int):
    quiet = measure.silences(size, seed)
    heard = [clip.audio for clip in measure.clips(size, seed, snr=10.0)]

    def chances(audios):
        features = processor.feature_extractor(audios, sampling_rate=measure.RATE, return_tensors="pt").input_features
        logits = model(input_features=features, decoder_input_ids=torch.full((len(audios), 1), v.START)).logits[:, 0]
        return logits.softmax(-1)[:, v.NO_SPEECH].numpy()

    for timestamps in (True, False):
        empty = [not measure.text_of(processor, row) for row in measure.transcribe(model, processor, quiet, timestamps=timestamps)]
        print(f"no speech, {'with' if timestamps else 'without'} times: {sum(empty)}/{len(empty)} transcripts are empty")
    none, some = chances(quiet), chances(heard)
    print(f"chance of <|nospeech|>: without speech median {np.median(none):.4f}, above 0.6 in {np.mean(none > 0.6):.1%}; "
          f"with speech at 10 dB median {np.median(some):.4f}, above 0.6 in {np.mean(some > 0.6):.1%}", flush=True)


def spread(errors) -> str:
    errors = np.abs(np.array(errors)) if len(errors) else np.array([np.nan])
    return f"median {np.median(errors):.3f} s, 95 % within {np.percentile(errors, 95):.3f} s"


def times(model, processor, size: int, seed: int):
    for sentences, name in ((1, "one sentence"), (2, "two sentences")):
        clips = [clip for clip in measure.clips(2 * size, seed, sentences=sentences) if len(clip.audio) < 6 * measure.RATE][:size]
        found = [measure.segments_of(processor, row) for row in measure.transcribe(model, processor, [clip.audio for clip in clips])]
        alike = [(clip.segments, segments) for clip, segments in zip(clips, found) if len(clip.segments) == len(segments)]
        pairs = [(a, b) for said, written in alike for a, b in zip(said, written) if None not in b]
        print(f"segments, {name}: as many as there are in {len(alike)}/{len(clips)} clips; starts {spread([a[0] - b[0] for a, b in pairs])}; "
              f"ends {spread([a[1] - b[1] for a, b in pairs])}", flush=True)


def heads(model, processor, size: int, seed: int):
    alone, together = alignment.best_sets(model, processor, measure.clips(size, seed))
    for found in (alone, together):
        for which, errors in sorted(found.items(), key=lambda pair: pair[1].mean())[:5]:
            print(f"word starts by heads {[list(head) for head in which]}: {spread(errors)}, {len(errors)} words", flush=True)


@torch.no_grad()
def long_recordings(model, processor, count: int, seed: int):
    """Ten sentences one after another, by transformers' sequential algorithm; many end where a window does not."""
    said, written = [], []
    for clip in measure.clips(count, seed, sentences=10):
        inputs = processor.feature_extractor(clip.audio, sampling_rate=measure.RATE, return_tensors="pt", truncation=False, padding="longest",
                                             return_attention_mask=True)
        out = model.generate(**inputs, language="en", task="transcribe", return_timestamps=True, do_sample=False, num_beams=1,
                             condition_on_prev_tokens=False)
        said.append(clip.text)
        written.append(processor.tokenizer.decode([token for token in out[0].tolist() if token < v.END]))
    errors, words = measure.word_errors(said, written)
    print(f"recordings of ten sentences, clean, held-out voices: {100 * errors / words:.1f} % of {words} words", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=pathlib.Path, default=checkpoint.SHIPPED)
    arguments.add_argument("--size", type=int, default=200, help="clips in a suite")
    arguments.add_argument("--seed", type=int, default=1000)
    arguments.add_argument("--show", type=int, default=0, help="wrong transcripts of each suite to print")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only", choices=["errors", "silence", "times", "heads", "long"])
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    model, processor = checkpoint.read(options.model)
    parts = {"errors": lambda: word_error_rates(model, processor, options.size, options.seed, options.show),
             "silence": lambda: silence(model, processor, options.size, options.seed),
             "times": lambda: times(model, processor, options.size, options.seed),
             "heads": lambda: heads(model, processor, options.size // 2, options.seed),
             "long": lambda: long_recordings(model, processor, options.size // 20, options.seed)}
    for name, part in parts.items():
        if options.only in (None, name):
            part()


if __name__ == "__main__":
    main()
