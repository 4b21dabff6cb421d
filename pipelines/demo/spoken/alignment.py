"""Which heads of the cross-attention follow the speech: for each, and for sets of them, how far word starts found as openai-whisper
finds them (softmax, norm over tokens, median filter, dynamic time warping) are from where espeak-ng said the words.
"""

import itertools
import re

import numpy as np
import torch
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

import measure
import vocabulary as v

FILTER_WIDTH = 7


@torch.no_grad()
def attention_of(model, processor, clip: measure.Clip):
    """Attention over the clip's positions [layers, heads, tokens, positions], the tokens, and the text."""
    features = processor.feature_extractor(clip.audio, sampling_rate=measure.RATE, return_tensors="pt").input_features
    text = processor.tokenizer.encode(" " + clip.text, add_special_tokens=False)
    prompt = [v.START, v.ENGLISH, v.TRANSCRIBE, v.NO_TIMES]
    out = model(input_features=features, decoder_input_ids=torch.tensor([prompt + text + [v.END]]), output_attentions=True)
    positions = min(round(len(clip.audio) / 320), model.config.max_source_positions)
    return torch.stack(out.cross_attentions)[:, 0, :, :, :positions], len(prompt), text


def starts(weights: torch.Tensor, prompt: int, tokens: int) -> np.ndarray:
    """Seconds at which each token begins, of attention [heads, rows, positions]."""
    weights = (weights - weights.mean(-2, keepdim=True)) / weights.std(-2, keepdim=True, unbiased=False)
    matrix = _median_filter(weights, FILTER_WIDTH).mean(0)[prompt - 1:-1]
    rows, columns = _dynamic_time_warping(-matrix.double().numpy())
    first = [columns[np.flatnonzero(rows == row)[0]] for row in range(tokens)]
    return np.array(first) * 0.02


def word_starts(processor, text: list[int], times: np.ndarray, said: str) -> list[float]:
    """When the words begin that espeak-ng gives a time of, by the character that each begins at."""
    pieces = [processor.tokenizer.decode([token]) for token in text]
    at = np.cumsum([0] + [len(piece) for piece in pieces[:-1]])
    ends = at + [len(piece) for piece in pieces]
    find = lambda character: next(n for n, end in enumerate(ends) if end > character + 1)
    return [times[find(match.start())] for match in re.finditer(r"[^\s-]+", said)]


def errors(model, processor, clips, sets):
    """Absolute errors of word starts in seconds, for each set of heads."""
    found = {heads: [] for heads in sets}
    for clip in clips:
        begins = [match.start() for match in re.finditer(r"[^\s-]+", clip.text)]
        if len(begins) != len(clip.words):
            continue  # espeak-ng says two words as one
        weights, prompt, text = attention_of(model, processor, clip)
        for heads in sets:
            chosen = torch.stack([weights[layer, head] for layer, head in heads])
            ours = word_starts(processor, text, starts(chosen, prompt, len(text)), clip.text)
            found[heads] += [abs(a - b) for a, (b, _) in zip(ours, clip.words)]
    return {heads: np.array(values) for heads, values in found.items()}


def best_sets(model, processor, clips, most=3):
    """Every head alone, then the best of them together."""
    config = model.config
    alone = errors(model, processor, clips, [((layer, head),) for layer in range(config.decoder_layers)
                                             for head in range(config.decoder_attention_heads)])
    ranked = sorted(alone, key=lambda heads: alone[heads].mean())
    best = [heads[0] for heads in ranked[:most + 1]]
    together = errors(model, processor, clips, [heads for size in range(2, most + 1) for heads in itertools.combinations(best, size)])
    return alone, together
