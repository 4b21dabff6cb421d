"""Speech of which it is known where it is, in noise of many kinds: what train.py trains on and measure.py measures with.

Voices: espeak-ng (Debian), with the variants split into those for training and those held out; flite's for the test
only, a synthesiser of another kind; and, where Debian's pocketsphinx-testdata is installed, a few LibriVox recordings of
real people. Nothing of it is committed.
"""

import functools
import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16000
HOP = 160
LANGUAGES = "en-us en-gb de fr-fr es it pt ru pl sw hi cmn tr fi nl sv el hu ro id vi".split()
TRAIN_VARIANTS = "m1 m2 m3 m4 m5 m6 f1 f2 f3 klatt klatt2 klatt4 Alex Andy Gene Jacky Lee Mario Mike adam anika antonio " \
    "aunty boris david edward grandma grandpa iven linda max michel pablo paul quincy robert sandro steph2 zac whisper".split()
TEST_VARIANTS = "m7 m8 f4 f5 klatt3 Alicia Annie Denis Hugo Marco belinda john miguel shelby steph travis victor".split()
REAL = Path("/usr/share/pocketsphinx/test/data/librivox")
WORDS = """time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father power hour
game line end member law car city community name president team minute idea body information back parent face others level
office door health person art war history party result change morning reason research girl guy moment air teacher force
education should never always quickly about because through between another against during without before under turn start
show hear play run move live believe bring happen write provide sit stand lose pay meet include continue set learn lead
understand watch follow stop create speak read allow add spend grow open walk win offer remember love consider appear buy
wait serve die send expect build stay fall cut reach kill remain suggest raise pass sell require report decide pull""".split()


def text(rng, language):
    """A sentence; numbers are read out in whatever language it is."""
    if language.startswith("en") and rng.random() < 0.75:
        words = rng.choice(WORDS, rng.integers(3, 14))
        return " ".join(words) + rng.choice([".", "?", "!", ", indeed."])
    return ", ".join(str(rng.integers(0, 10 ** rng.integers(1, 6))) for _ in range(rng.integers(1, 5)))


def run(command):
    return subprocess.run(command, check=True, capture_output=True).stdout


def espeak(rng, variants):
    language = rng.choice(LANGUAGES)
    voice = f"{language}+{rng.choice(variants)}"
    wav = run(["espeak-ng", "-v", voice, "-s", str(rng.integers(110, 260)), "-p", str(rng.integers(15, 90)),
               "--stdout", text(rng, language)])
    return load(wav)


def flite(rng):
    path = f"/tmp/flite-{rng.integers(1 << 62)}.wav"
    run(["flite", "-voice", str(rng.choice(["slt", "rms", "awb", "kal16"])), "-t", text(rng, "en-us"), "-o", path])
    data = Path(path).read_bytes()
    Path(path).unlink()
    return load(data)


def load(data):
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    samples = samples[:, 0]
    return soxr.resample(samples, rate, RATE).astype(np.float32) if rate != RATE else samples


@functools.cache
def real():
    """The recordings of real people, each cut at none of its pauses."""
    return [load(p.read_bytes()) for p in sorted(REAL.glob("*.wav"))]


def level(x):
    return np.sqrt(np.mean(np.square(x)) + 1e-12)


def labels(clean):
    """Per 10 ms: whether there is speech, by the clean signal's own level. Gaps under 150 ms are within speech."""
    count = -(-len(clean) // HOP)
    padded = np.pad(clean, (HOP, HOP * (count + 2) - len(clean)))
    energy = np.array([np.mean(padded[i * HOP : i * HOP + 3 * HOP] ** 2) for i in range(count)])
    return energy


def mark(energies, depth=32):
    """Energies of one utterance into marks."""
    loud = energies > np.percentile(energies, 95) * 10 ** (-depth / 10)
    return close(loud, 15)


def close(marks, gap):
    out = marks.copy()
    on = np.flatnonzero(marks)
    for a, b in zip(on[:-1], on[1:]):
        if b - a <= gap:
            out[a:b] = True
    return out


def room(rng, x):
    """A synthetic room: decaying noise after the direct sound."""
    length = int(rng.uniform(0.08, 0.5) * RATE)
    decay = np.exp(-6.9 * np.arange(length) / length)
    response = rng.standard_normal(length) * decay * rng.uniform(0.02, 0.15)
    response[0] = 1
    return convolve(x, response)[: len(x)]


def convolve(x, h):
    n = 1 << int(np.ceil(np.log2(len(x) + len(h))))
    return np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(h, n), n)


def colour(rng, x):
    """A random gentle equaliser, and now and then a telephone."""
    spectrum = np.fft.rfft(x)
    f = np.fft.rfftfreq(len(x), 1 / RATE)
    knots = np.array([0, 150, 500, 1500, 4000, 8000])
    gain = np.interp(f, knots, rng.normal(0, 4, len(knots)))
    if rng.random() < 0.15:
        gain = gain - 60 * ((f < 250) | (f > 3400))
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(x))


def shaped(rng, n, exponent):
    """Noise with a spectrum of 1 / f^exponent."""
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) / f ** (exponent / 2), n)


def hum(rng, n):
    t = np.arange(n) / RATE
    base = rng.choice([50, 60]) * rng.choice([1, 1, 2])
    tones = sum(rng.exponential(1) / k * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) for k in range(1, 16))
    return tones + 0.02 * rng.standard_normal(n)


def fan(rng, n):
    t = np.arange(n) / RATE
    rate = rng.uniform(3, 40)
    return colour(rng, shaped(rng, n, rng.uniform(0.5, 2))) * (1 + rng.uniform(0.1, 0.7) * np.sin(2 * np.pi * rate * t))


def clicks(rng, n):
    x = np.zeros(n)
    at = 0
    while (at := at + int(rng.exponential(0.25) * RATE) + 200) < n - 2000:
        length = rng.integers(60, 1500)
        t = np.arange(length)
        ring = rng.standard_normal(length) * np.exp(-6 * t / length)
        x[at : at + length] += rng.lognormal(0, 0.6) * convolve(ring, np.sin(t[:40] * rng.uniform(0.2, 2)))[:length]
    return x + 0.003 * rng.standard_normal(n)


def music(rng, n):
    x = np.zeros(n)
    beat = int(rng.uniform(0.15, 0.6) * RATE)
    scale = rng.choice([110, 131, 165, 196]) * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    for at in range(0, n, beat):
        for _ in range(rng.integers(1, 4)):
            length = min(int(beat * rng.choice([1, 2, 4])), n - at)
            t = np.arange(length) / RATE
            f = rng.choice(scale) * rng.choice([1, 1, 2, 4])
            note = sum(np.sin(2 * np.pi * k * f * t) / k ** rng.uniform(1, 2) for k in range(1, 9) if k * f < 7900)
            x[at : at + length] += note * np.exp(-t * rng.uniform(0.5, 6)) * rng.uniform(0.3, 1)
    return x


def beeps(rng, n):
    x = np.zeros(n)
    t = np.arange(n) / RATE
    at = 0
    while (at := at + int(rng.uniform(0.1, 1.2) * RATE)) < n:
        end = min(n, at + int(rng.uniform(0.04, 0.5) * RATE))
        for f in rng.uniform(350, 3000, rng.integers(1, 3)):
            x[at:end] += np.sin(2 * np.pi * f * t[at:end])
        at = end
    return x + 0.003 * rng.standard_normal(n)


def babble(rng, n, voice, speakers=None):
    x = np.zeros(n)
    for _ in range(speakers or rng.integers(5, 10)):
        track = np.zeros(0)
        while len(track) < n + RATE:
            said = voice(rng)
            track = np.concatenate([track, said / level(said), np.zeros(int(rng.uniform(0, 0.3) * RATE))])
        start = rng.integers(0, RATE)
        x += track[start : start + n] * rng.uniform(0.6, 1.2)
    return x


def noise(rng, kind, n, voice):
    if kind == "none":
        return np.zeros(n)
    if kind == "babble":
        return babble(rng, n, voice)
    makers = {
        "white": lambda: rng.standard_normal(n),
        "pink": lambda: shaped(rng, n, 1),
        "brown": lambda: shaped(rng, n, 2),
        "coloured": lambda: colour(rng, rng.standard_normal(n)),
        "hum": lambda: hum(rng, n),
        "fan": lambda: fan(rng, n),
        "clicks": lambda: clicks(rng, n),
        "music": lambda: music(rng, n),
        "beeps": lambda: beeps(rng, n),
    }
    return makers[kind]()


def recording(rng, voice, kind, snr, seconds=24, changes=True, talk=True, pause=2.5):
    """(samples, per 10 ms whether there is speech). `snr` in decibels over the frames with speech; long pauses are of
    `pause` seconds in the mean."""
    n = int(seconds * RATE)
    clean, marks = np.zeros(n, np.float64), np.zeros(-(-n // HOP), bool)
    at = int(rng.choice([0, 0.1, rng.uniform(0, 2)]) * RATE) // HOP * HOP
    gain = rng.uniform(0.5, 1)
    while talk and at < n - RATE // 2:
        said = voice(rng)
        said = said / level(said) * gain * rng.uniform(0.7, 1.3)
        said = said[: n - at]
        marks[at // HOP : at // HOP + -(-len(said) // HOP)] |= mark(labels(said))[: len(marks) - at // HOP]
        clean[at : at + len(said)] += said
        at += len(said) + int(rng.choice([rng.uniform(0.05, 0.4), rng.uniform(0.3, 1.5), rng.exponential(pause)]) * RATE)
        at = at // HOP * HOP
    if changes:
        clean = colour(rng, clean)
        if rng.random() < 0.4:
            clean = room(rng, clean)
    around = noise(rng, kind, n, voice)
    if changes and kind != "none" and rng.random() < 0.3:
        # The noise comes and goes.
        knots = np.arange(0, seconds + 3, 3)
        around = around * 10 ** (np.interp(np.arange(n) / RATE, knots, rng.normal(0, 5, len(knots))) / 20)
    speech = clean[np.repeat(marks, HOP)[:n]] if marks.any() else np.ones(1)
    mixed = clean + around / level(around) * level(speech) * 10 ** (-snr / 20) if kind != "none" else clean
    mixed = mixed / (np.abs(mixed).max() + 1e-9) * rng.uniform(0.05, 0.95) if changes else mixed / np.abs(mixed).max() * 0.7
    return mixed.astype(np.float32), marks


def save(path, samples):
    soundfile.write(path, samples, RATE, subtype="PCM_16")
