"""Windows of audio with what Whisper has to write for them: sentences of the corpus one after another, noise, and the tokens.

Whisper's conventions: a segment is `<|start|> text<|end|>`; of a sentence that the window's end cuts only the start is written, so
that the next window begins there. Where that would be all, the words that are whole are a segment and the next word starts another.
"""

import dataclasses
import random

import numpy as np

import noise
import vocabulary as v
from corpus import Corpus

RATE = 16000
IGNORED = -100
QUIET = 0  # the class of phones for no speech
GUIDED_NOTHING = (-1, -1)


@dataclasses.dataclass
class Example:
    """`labels[i]` is what follows `tokens[i]`; `where[i]`, in positions of 20 ms, is where that is said."""
    audio: np.ndarray
    tokens: list[int]
    labels: list[int]
    where: list[tuple[int, int]]
    phones: np.ndarray


@dataclasses.dataclass
class Segment:
    """A sentence in a window: its text from a character on, and times in seconds since the window's start."""
    item: dict
    shift: float
    begin: int
    start: float
    end: float

    def time_of(self, character: int, at_end: bool) -> float:
        """When a character begins, or ends."""
        words = self.item["words"]
        number = max((n for n, word in enumerate(words) if word[0] <= character), default=0)
        first, start, end = words[number]
        after = words[number + 1][0] - 1 if number + 1 < len(words) else len(self.item["text"])
        share = (character + at_end - first) / max(after - first, 1)
        return self.shift + start + min(max(share, 0.0), 1.0) * (end - start)


def position(seconds: float) -> int:
    return round(seconds * 50)


class Windows:
    """Endless examples. `seconds` may be less than the model's window: what is short is learnt sooner."""

    def __init__(self, corpus: Corpus, tokenizer, seed: int, seconds: float, single: float):
        """`single` is the share of windows with one sentence."""
        self.corpus, self.tokenizer, self.seconds, self.single = corpus, tokenizer, seconds, single
        self.rng, self.generator = random.Random(seed), np.random.default_rng(seed)
        self.voices = list(corpus.by_voice)
        self.tokenized = {}

    def encode(self, text: str):
        """Ids and character spans of a sentence with the space before it."""
        if text not in self.tokenized:
            encoding = self.tokenizer.encode(" " + text, add_special_tokens=False)
            self.tokenized[text] = (encoding.ids, [(max(a - 1, 0), b - 1) for a, b in encoding.offsets])
        return self.tokenized[text]

    def pick(self, voice: str) -> dict:
        numbers = self.corpus.by_voice[voice]
        return self.corpus.items[self.rng.choice(numbers)]

    def lay_out(self, without_cut: bool):
        """The clean audio, and the segments in it; the last of them may be cut."""
        rng = self.rng
        samples = int(self.seconds * RATE)
        audio, segments = np.zeros(samples, np.float32), []
        item = rng.choice(self.corpus.items)
        voice = item["voice"]
        at = rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0, 0.5), rng.uniform(0, 1.5), rng.uniform(0, self.seconds * 0.6)])
        single = rng.random() < self.single
        begins_inside = rng.random() < 0.06 and len(item["words"]) > 2
        while True:
            length = item["length"] / RATE
            skip, begin = 0.0, 0
            if begins_inside and not segments:
                begin, skip, _ = item["words"][rng.randint(1, len(item["words"]) - 1)]
                at, length = 0.0, length - skip
            cut = at + length > self.seconds
            if cut and (without_cut or single and not begins_inside):
                if not segments:
                    at = max(0.0, self.seconds - length - rng.uniform(0, 0.3))
                    if length > self.seconds:
                        item = rng.choice(self.corpus.items)
                        voice = item["voice"]
                        continue
                else:
                    break
            if at > self.seconds - 0.12:
                break
            said = self.corpus.audio(item)[int(skip * RATE):] * rng.uniform(0.75, 1.25)
            place = int(at * RATE)
            audio[place:place + len(said)] += said[:samples - place]
            segments.append(Segment(item, at - skip, begin, at, at + length))
            if single or at + length > self.seconds:
                break
            at += length + rng.choice([rng.uniform(0.12, 0.5), rng.uniform(0.2, 1.2), rng.uniform(0.5, 2.5)])
            if at > self.seconds - 0.5 and rng.random() < 0.5:
                break
            if rng.random() < 0.2:
                voice = rng.choice(self.voices)
            item = self.pick(voice)
        return audio, segments

    def draw(self) -> Example:
        rng = self.rng
        timed = rng.random() < 0.75
        if rng.random() < 0.07:
            audio, segments = np.zeros(int(self.seconds * RATE), np.float32), []
        else:
            audio, segments = self.lay_out(without_cut=not timed)
        body, spans = self.body(segments, timed)
        prompt = [v.START, v.ENGLISH, v.TRANSLATE if rng.random() < 0.05 else v.TRANSCRIBE] + ([] if timed else [v.NO_TIMES])
        before = []
        if rng.random() < 0.12:
            said = " " + " ".join(rng.choice(self.corpus.items)["text"] for _ in range(rng.randint(1, 3)))
            before = [v.PREVIOUS] + self.tokenizer.encode(said, add_special_tokens=False).ids[-40:]
        tokens = before + prompt + body
        labels = [IGNORED] * (len(before) + len(prompt) - 1) + body + [v.END]
        labels[len(before)] = v.ENGLISH if segments else v.NO_SPEECH
        where = [GUIDED_NOTHING] * (len(before) + len(prompt) - 1) + spans + [GUIDED_NOTHING]
        first = len(before) + len(prompt)
        if timed and segments and tokens[first] > v.FIRST_TIME + 50 and rng.random() < 0.2:
            # Rules of decoding may force an early first time.
            tokens[first] = v.FIRST_TIME + rng.randint(0, 50)
        assert len(tokens) == len(labels) == len(where)
        return Example(self.recorded(audio, segments), tokens, labels, where, self.phones(segments))

    def body(self, segments: list[Segment], timed: bool):
        """The tokens of a transcript, and where each of them is said."""
        if not segments:
            return ([v.FIRST_TIME], [GUIDED_NOTHING]) if timed else ([], [])
        tokens, spans, latest = [], [], 0
        most = position(self.seconds)

        def time(seconds: float) -> int:
            nonlocal latest
            latest = min(max(position(seconds), latest), most)
            tokens.append(v.FIRST_TIME + latest)
            spans.append((max(latest - 2, 0), min(latest + 2, most)))
            return latest

        for number, segment in enumerate(segments):
            cut = segment.end > self.seconds
            ids, characters = self.encode(segment.item["text"])
            rows = [(token, segment.time_of(a, False), segment.time_of(b - 1, True)) for token, (a, b) in zip(ids, characters)
                    if a >= segment.begin - 1 and b > segment.begin]
            follows = None
            if cut:
                whole = self.whole_words(segment, rows)
                if number > 0 or not whole:
                    time(segment.start)
                    break
                rows, follows = whole
            if timed:
                time(segment.start)
                latest += 1
            for token, start, end in rows:
                tokens.append(token)
                begin = min(position(start), most - 1)
                spans.append((begin, min(max(position(end), begin + 1), most)))
            if timed:
                time(rows[-1][2] if cut else segment.end)
            if follows is not None:
                time(follows)
        return tokens, spans

    def whole_words(self, segment: Segment, rows):
        """The tokens of the words that end in the window, and when the next word starts; None where there is no such word."""
        inside = [word for word in segment.item["words"] if segment.shift + word[2] <= self.seconds and word[0] >= segment.begin]
        after = [word for word in segment.item["words"] if segment.shift + word[2] > self.seconds]
        if not inside or not after:
            return None
        limit, start = segment.shift + inside[-1][2], segment.shift + after[0][1]
        rows = [row for row in rows if row[2] <= limit + 0.001]
        return (rows, min(start, self.seconds)) if rows else None

    def recorded(self, audio: np.ndarray, segments: list[Segment]) -> np.ndarray:
        """The same as a microphone has it."""
        rng = self.rng
        count = len(audio)
        around = np.zeros(count, np.float32)
        if rng.random() < (0.75 if segments else 0.85):
            track = self.corpus.noises[rng.randrange(len(self.corpus.noises))]
            at = rng.randrange(len(track) - count)
            around = track[at:at + count].astype(np.float32)
        loudness = noise.level(audio[np.abs(audio) > 0.01]) if segments else 1.0
        snr = rng.choice([rng.uniform(3, 15), rng.uniform(8, 25), rng.uniform(15, 45)])
        mixed = audio + around * loudness * 10 ** (-snr / 20)
        if segments and rng.random() < 0.55:
            # The recording ends, and the window is filled with zeros.
            end = segments[-1].end + rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0, 1.0)])
            mixed[min(int(end * RATE), count):] = 0
        elif not segments and rng.random() < 0.5:
            mixed[rng.randrange(count):] = 0
        gain = 10 ** rng.uniform(-1.6, 0) / (np.abs(mixed).max() + 1e-6)
        if rng.random() < 0.5:
            return np.round(mixed * gain * 32767) / 32768  # as 16 bits have it
        return mixed * gain

    def phones(self, segments: list[Segment]) -> np.ndarray:
        """The class of the phone at each position of 20 ms."""
        classes = np.zeros(position(self.seconds), np.int64)
        for segment in segments:
            listed = segment.item["phones"]
            for number, (start, name) in enumerate(listed):
                after = listed[number + 1][0] if number + 1 < len(listed) else segment.end - segment.shift
                a = max(segment.shift + start, segment.start)
                b = min(segment.shift + after, segment.end)
                value = QUIET if name.startswith("_") else self.corpus.phones[name] + 1
                classes[int(np.ceil(a * 50 - 0.5)):int(np.ceil(b * 50 - 0.5))] = value
        return classes
