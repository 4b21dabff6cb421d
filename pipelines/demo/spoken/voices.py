"""espeak-ng by its library: a sentence in a voice, with when each word and each phone of it is said.

Debian's `espeak-ng` package has the library (1.51 was used). Times come from its events; where the speech begins and ends, from
the samples.
"""

import ctypes
import dataclasses
import functools
import random

import numpy as np
import soxr

RATE = 16000
PAUSES = ("", "_", "_:", "_!", "_::", "_|", "_^_")
# Accents with how often they are drawn. The held-out ones are for measuring only.
ACCENTS = {"en-us": 34, "en": 24, "en-gb-x-rp": 10, "en-gb-scotland": 10, "en-gb-x-gbclan": 8, "en-029": 14}
HELD_OUT_ACCENTS = ["en-us-nyc", "en-gb-x-gbcwmd"]
VARIANTS = " m1 m2 m3 m4 m5 m6 f1 f2 f3 f5 klatt klatt2 klatt4 klatt6 Alex Andy Gene Jacky Lee Mario Mike adam anika antonio aunty boris " \
    "david edward grandma grandpa iven linda max michel pablo paul quincy robert sandro steph2 zac whisper".split(" ")
HELD_OUT_VARIANTS = "m7 m8 f4 klatt3 Alicia Annie Denis Hugo Marco belinda john miguel shelby steph travis victor".split()
END, WORD, PHONE = 0, 1, 7
SYNCHRONOUS, PHONE_EVENTS, UTF8 = 2, 1, 1
SPEED, PITCH, RANGE, GAP = 1, 3, 4, 7


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("identifier", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
                ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("name", _Name)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclasses.dataclass
class Voice:
    name: str
    speed: int
    pitch: int
    range: int
    gap: int


@dataclasses.dataclass
class Said:
    """Samples of a sentence from its first sound to its last; `words` as (first character, start, end) in seconds, without gaps
    but for pauses; `phones` as (start, name)."""
    samples: np.ndarray
    words: list[tuple[int, float, float]]
    phones: list[tuple[float, str]]


def draw(rng: random.Random, held_out_variant=False, held_out_accent=False) -> Voice:
    accent = rng.choice(HELD_OUT_ACCENTS) if held_out_accent else rng.choices(list(ACCENTS), list(ACCENTS.values()))[0]
    variant = rng.choice(HELD_OUT_VARIANTS if held_out_variant else VARIANTS)
    return Voice(f"{accent}+{variant}" if variant else accent, rng.randint(125, 230), rng.randint(20, 80), rng.randint(25, 75),
                 rng.choice([0, 0, 0, 0, 1, 3]))


class _Espeak:
    """The library, which holds one voice and one callback for the whole process."""

    def __init__(self):
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONE_EVENTS)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng did not start")
        self.audio, self.events = [], []
        self.callback = _Callback(self._take)
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples, count, events):
        if samples and count:
            self.audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
        at = 0
        while events[at].type != END:
            event = events[at]
            name = event.name.string.decode("utf-8", "replace") if event.type == PHONE else ""
            self.events.append((event.type, event.text_position - 1, event.sample / self.rate, name))
            at += 1
        return 0

    def say(self, text: str, voice: Voice):
        self.audio.clear()
        self.events.clear()
        if self.library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.name}")
        for parameter, value in ((SPEED, voice.speed), (PITCH, voice.pitch), (RANGE, voice.range), (GAP, voice.gap)):
            self.library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 0, 0, UTF8, None, None)
        return np.concatenate(self.audio), list(self.events)


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()


def say(text: str, voice: Voice) -> Said:
    samples, events = _espeak().say(text, voice)
    samples = soxr.resample(samples.astype(np.float32) / 32768, _espeak().rate, RATE).astype(np.float32)
    first, last = sounding(samples)
    phones = [(time - first, name) for kind, _, time, name in events if kind == PHONE]
    starts = []
    for kind, position, time, _ in events:
        if kind == WORD and (not starts or position > starts[-1][0]) and position < len(text):
            starts.append((position, time - first))
    words, length = [], last - first
    for at, (position, start) in enumerate(starts):
        end = starts[at + 1][1] if at + 1 < len(starts) else length
        pause = [time for time, name in phones if name in PAUSES and start < time < end]
        end = pause[0] if pause else end
        words.append((position, min(max(start, 0.0), length), min(max(end, 0.0), length)))
    return Said(samples[int(first * RATE):int(last * RATE)], words, phones)


def sounding(samples: np.ndarray, below=35.0) -> tuple[float, float]:
    """Where the sound begins and ends, in seconds: 10 ms that are no more than `below` dB weaker than the strongest."""
    count = len(samples) // 160
    energy = np.square(samples[:count * 160]).reshape(count, 160).mean(1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-below / 10))
    return loud[0] * 0.01, (loud[-1] + 1) * 0.01
