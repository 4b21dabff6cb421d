#!/usr/bin/env python3
"""Clips, and the features that transformers makes of them: fixtures/features/*.

Whisper's are taken from the extractor's own NumPy path, which works in f64; its torch path (f32) is up to 4e-5 off it.
"recording" follows openai-whisper's `log_mel_spectrogram(audio, padding=N_SAMPLES)`, written out here in f64: 30 s of
silence after the audio and one maximum over everything. Needs numpy and transformers; run once, commit what it writes.
"""

import gzip
import json
from pathlib import Path

import numpy as np
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

OUT = Path(__file__).parent / "fixtures" / "features"


def clip(kind, count, seed=0):
    """16-bit samples."""
    rng = np.random.default_rng(seed)
    t = np.arange(count) / 16000
    if kind == "silence":
        x = np.zeros(count)
    elif kind == "noise":  # at full scale
        x = rng.uniform(-1, 1, count)
    elif kind == "click":
        x = np.zeros(count)
        x[count // 3] = 0.9
    elif kind == "chirp":
        x = 0.5 * np.sin(2 * np.pi * (50 * t + 0.5 * 7000 * t**2 / max(t[-1], 1e-3)))
    else:  # voice, rising from silence
        phase = 2 * np.pi * np.cumsum(110 + 30 * np.sin(7 * t)) / 16000
        x = sum(np.sin(k * phase) / k for k in range(1, 30)) * 0.2 * np.clip(np.sin(9 * t), 0, 1) ** 2
        x += 1e-3 * rng.standard_normal(count)
    return np.clip(np.round(x * 32768), -32768, 32767).astype("<i2")


def whole(extractor, audio):
    """The NumPy path over all the samples, without padding or cutting."""
    return extractor._np_extract_fbank_features(audio[None], "cpu")[0]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    cases = []

    def keep(case, samples, values, frames=None):
        """`frames`: which columns are kept of a large one."""
        values = np.asarray(values, np.float32)
        case["shape"] = list(values.shape)
        if frames:
            case["every"] = frames
            values = values[:, ::frames]
        for kind, numbers in (("i16", samples), ("f32", values.astype("<f4"))):
            (OUT / f"{case['name']}.{kind}.gz").write_bytes(gzip.compress(numbers.tobytes(), mtime=0))
        cases.append(case)

    for name, kind, count, config, every in [
        ("voice-80", "voice", 15_999, dict(feature_size=80, chunk_length=1), 2),
        ("voice-128", "voice", 11_111, dict(feature_size=128, chunk_length=1), 3),
        ("voice-30s", "voice", 16_001, dict(feature_size=80), 61),
        ("cut", "chirp", 20_001, dict(feature_size=80, chunk_length=1), 3),
        ("noise", "noise", 16_000, dict(feature_size=80, chunk_length=1), 5),
        ("click", "click", 7, dict(feature_size=80, chunk_length=1), 5),
        ("silence", "silence", 1, dict(feature_size=80, chunk_length=1), 9),
        ("odd-sizes", "voice", 9_001, dict(feature_size=13, chunk_length=1, n_fft=202, hop_length=77, sampling_rate=8000), 1),
        ("odd-transform", "voice", 2_003, dict(feature_size=7, chunk_length=1, n_fft=125, hop_length=31, sampling_rate=4000), 1),
    ]:
        extractor = WhisperFeatureExtractor(**config)
        samples = clip(kind, count)
        audio = (samples / 32768).astype(np.float32)
        padded = np.zeros(extractor.n_samples, np.float32)
        padded[: min(count, extractor.n_samples)] = audio[: extractor.n_samples]
        values = whole(extractor, padded)
        # What the extractor itself gives (by torch) must be the same but for f32.
        given = extractor(audio, sampling_rate=extractor.sampling_rate, return_tensors="np").input_features[0]
        assert given.shape == values.shape and np.abs(given - values).max() < 1e-4, np.abs(given - values).max()
        keep(dict(name=name, kind="window", config=config), samples, values, every)

    # Longer than a window, no padding: what transformers does for long-form generation.
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=1)
    samples = clip("voice", 40_003, seed=5)
    values = whole(extractor, (samples / 32768).astype(np.float32))
    keep(dict(name="longest", kind="whole", config=dict(feature_size=80, chunk_length=1)), samples, values, 7)

    # openai-whisper: a window of silence after the recording.
    samples = clip("voice", 24_007, seed=6)
    audio = np.concatenate([samples / 32768, np.zeros(extractor.n_samples)])
    padded = np.pad(audio, 200, mode="reflect")
    window = np.hanning(401)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160] * window
    power = np.abs(np.fft.rfft(frames, axis=1)[:-1]) ** 2
    log = np.log10(np.maximum(power @ extractor.mel_filters, 1e-10)).T
    values = (np.maximum(log, log.max() - 8) + 4) / 4
    keep(dict(name="recording", kind="recording", config=dict(feature_size=80, chunk_length=1)), samples, values, 7)

    for name, kind, count in [("wav2vec2-voice", "voice", 5_001), ("wav2vec2-silence", "silence", 400)]:
        samples = clip(kind, count, seed=7)
        extractor = Wav2Vec2FeatureExtractor()
        values = extractor((samples / 32768).astype(np.float32), sampling_rate=16000, return_tensors="np").input_values
        keep(dict(name=name, kind="wav2vec2", config={}), samples, values)

    (OUT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    print(sum(f.stat().st_size for f in OUT.iterdir()), "bytes")


if __name__ == "__main__":
    main()
