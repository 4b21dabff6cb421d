"""Noises that speech is put into, and levels in decibels."""

import numpy as np

RATE = 16000
KINDS = ["white", "pink", "brown", "coloured", "hum", "fan", "clicks"]


def level(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)) + 1e-12))


def filtered(spectrum: np.ndarray, gain: np.ndarray, n: int) -> np.ndarray:
    return np.fft.irfft(spectrum * gain, n)


def make(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """Noise of a level of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    t = np.arange(n) / RATE
    if kind == "white":
        x = filtered(spectrum, np.ones_like(f), n)
    elif kind == "pink":
        x = filtered(spectrum, f ** -0.5, n)
    elif kind == "brown":
        x = filtered(spectrum, f ** -1.0, n)
    elif kind in ("coloured", "fan"):
        knots = np.array([0, 150, 500, 1500, 4000, 8000])
        gain = 10 ** (np.interp(f, knots, rng.normal(0, 9, len(knots))) / 20)
        x = filtered(spectrum, gain * f ** -rng.uniform(0, 0.8), n)
        if kind == "fan":
            x *= 1 + rng.uniform(0.1, 0.7) * np.sin(2 * np.pi * rng.uniform(1, 30) * t)
    elif kind == "hum":
        base = rng.choice([50, 60, 100, 120])
        x = sum(rng.exponential(1) / k * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) for k in range(1, 16))
        x = x / level(x) + rng.uniform(0.02, 0.3) * filtered(spectrum, np.ones_like(f), n)
    elif kind == "clicks":
        x = 0.01 * rng.standard_normal(n)
        at = 0
        while (at := at + int(rng.exponential(0.3) * RATE) + 200) < n - 2000:
            length = rng.integers(60, 1500)
            tick = rng.standard_normal(length) * np.exp(-6 * np.arange(length) / length)
            x[at:at + length] += rng.lognormal(0, 0.6) * tick
    else:
        raise ValueError(kind)
    return x / level(x)


def mixed(speech: np.ndarray, active: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Speech with noise of level 1 under it, so many decibels below the samples that are active."""
    return speech + noise * level(speech[active]) * 10 ** (-snr / 20)
