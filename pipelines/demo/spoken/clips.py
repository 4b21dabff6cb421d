"""Records the clips that `chandler selftest` transcribes, of held-out sentences in held-out voices, and what transformers writes for
them: `python clips.py` fills `speech/clips/`.

A clip is taken when its transcript is right and stays the same, times included, under changes that another decoder or resampler
makes. The first one is FLAC, so that every program hears the same samples; the others are Opus, which is smaller.
"""

import argparse
import io
import json
import pathlib

import numpy as np
import soundfile

import checkpoint
import measure

# What each clip is to show; names are file names.
WANTED = [
    ("command.flac", dict(), (2.0, 3.2)), ("number.opus", dict(), (1.5, 4.5)), ("time.opus", dict(), (1.5, 4.5)),
    ("date.opus", dict(), (1.5, 4.5)), ("question.opus", dict(), (1.2, 4.0)), ("noise.opus", dict(snr=10.0), (1.5, 4.0)),
    ("two-sentences.opus", dict(sentences=2), (3.5, 5.9)), ("unseen-wording.opus", dict(part="wordings"), (1.5, 5.0)),
]
SHOWS = {
    "command": lambda text: text.split()[0] in ("Turn", "Switch", "Play", "Set"),
    "number": lambda text: "hundred" in text or "thousand" in text,
    "time": lambda text: "past" in text or "o'clock" in text or "quarter" in text,
    "date": lambda text: any(month in text for month in ("January", "March", "April", "June", "August", "October", "December")),
    "question": lambda text: text.endswith("?") and "Can you" not in text,
}


def stored(audio: np.ndarray, name: str) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".opus"):
        soundfile.write(buffer, audio, measure.RATE, format="OGG", subtype="OPUS", compression_level=0.92)
    else:
        soundfile.write(buffer, audio, measure.RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return buffer.getvalue()


def heard(data: bytes) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == measure.RATE
    return samples


def changed(audio: np.ndarray) -> list[np.ndarray]:
    """What another decoder or resampler may make of it."""
    generator = np.random.default_rng(5)
    noises = [audio + 10 ** (-decibel / 20) * np.abs(audio).max() * generator.standard_normal(len(audio)) for decibel in (60, 66, 66)]
    return [x.astype(np.float32) for x in (audio, *noises, audio[8:], np.pad(audio, (8, 0)), np.convolve(audio, [0.02, 0.96, 0.02])[1:-1])]


def record(model, processor, folder: pathlib.Path, seed: int):
    folder.mkdir(parents=True, exist_ok=True)
    answers = []
    for number, (name, how, (shortest, longest)) in enumerate(WANTED):
        shows = SHOWS.get(name.split(".")[0], lambda text: True)
        for clip in measure.clips(400, seed + number, **how):
            if not shortest <= len(clip.audio) / measure.RATE <= longest or not shows(clip.text):
                continue
            data = stored(0.35 * clip.audio / np.abs(clip.audio).max(), name)
            written = measure.transcribe(model, processor, changed(heard(data)))
            segments = measure.segments_of(processor, written[0])
            if all(row == written[0] for row in written) and measure.text_of(processor, written[0]) == clip.text \
                    and len(segments) == len(clip.segments) and all(end is not None for _, end, _ in segments):
                break
        else:
            raise SystemExit(f"no clip for {name}")
        (folder / name).write_bytes(data)
        answers.append(dict(file=name, voice=clip.voice, said=clip.text, text=clip.text,
                            said_at=[[round(start, 2), round(end, 2)] for start, end, _ in clip.segments],
                            segments=[dict(start=round(start, 2), end=round(end, 2), text=text) for start, end, text in segments],
                            tokens=written[0]))
    quiet = measure.silences(16, seed)[9]
    data = stored(quiet[:3 * measure.RATE] * 0.2, "no-speech.opus")
    (folder / "no-speech.opus").write_bytes(data)
    tokens = measure.transcribe(model, processor, [heard(data)])[0]
    answers.append(dict(file="no-speech.opus", voice=None, said="", text=measure.text_of(processor, tokens), said_at=[], segments=[],
                        tokens=tokens))
    lines = ",\n ".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
    (folder / "answers.json").write_text(f"[{lines}]\n")
    for answer in answers:
        print((folder / answer["file"]).stat().st_size, answer["file"], answer["voice"], repr(answer["text"]), answer["segments"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=pathlib.Path, default=checkpoint.SHIPPED)
    arguments.add_argument("--out", type=pathlib.Path, default=checkpoint.SHIPPED / "clips")
    arguments.add_argument("--seed", type=int, default=3000)
    options = arguments.parse_args()
    record(*checkpoint.read(options.model), options.out, options.seed)


if __name__ == "__main__":
    main()
