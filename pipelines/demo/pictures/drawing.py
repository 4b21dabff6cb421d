"""Draws scenes into pixels with smooth edges, from the signed distance to each shape's outline."""

import random

import numpy as np

from scenes import BACKGROUNDS, COLOURS, SHAPES, SIDE, Scene

ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5


def distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Pixels to the outline, negative inside; x and y from the centre, y downwards. Half as wide as `radius`, about, for every shape."""
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.76 * radius) - 0.24 * radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.9 * radius
    if shape == "diamond":
        return (np.abs(x) + np.abs(y) - 1.15 * radius) / np.sqrt(2.0)
    if shape == "triangle":
        return np.maximum(y, np.abs(x) * np.cos(np.pi / 6) - y / 2) - 0.575 * radius
    if shape == "star":
        # All ten halves of the five points fold into one, between the tip (upwards) and the notch beside it.
        length = np.hypot(x, y)
        angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        tip = np.array([0.0, 1.2 * radius])
        notch = 0.56 * radius * np.array([np.sin(np.pi / 5), np.cos(np.pi / 5)])
        edge = (notch - tip) / np.linalg.norm(notch - tip)
        return (length * np.sin(angle) - tip[0]) * -edge[1] + (length * np.cos(angle) - tip[1]) * edge[0]
    raise ValueError(f"no shape {shape!r}")


def cover(shape: str, x: float, y: float, radius: float, side: int = SIDE) -> np.ndarray:
    """How much of each pixel the shape covers, 0 to 1, [side, side]."""
    return np.clip(0.5 - distance(shape, COLUMNS[:side, :side] - x, ROWS[:side, :side] - y, radius), 0.0, 1.0)


def draw(scene: Scene) -> np.ndarray:
    """u8 pixels [side, side, 3]."""
    picture = np.broadcast_to(np.array(BACKGROUNDS[scene.background], np.float32), (SIDE, SIDE, 3))
    for thing in scene.things:
        share = cover(thing.shape, thing.x, thing.y, thing.radius)[..., None]
        picture = picture * (1 - share) + np.array(COLOURS[thing.colour], np.float32) * share
    return np.rint(picture).astype(np.uint8)


def clutter(rng: random.Random, side: int) -> np.ndarray:
    """u8 pixels [side, side, 3] of shapes over each other, for the autoencoder: a scene is mostly background, from which it learns little."""
    def colour():
        if rng.random() < 0.4:
            return np.array([rng.uniform(0, 255) for _ in range(3)], np.float32)
        return np.array(rng.choice([*COLOURS.values(), *BACKGROUNDS.values()]), np.float32)

    picture = np.broadcast_to(colour(), (side, side, 3))
    for _ in range(rng.randint(1, 1 + side // 10)):
        share = cover(rng.choice(SHAPES), rng.uniform(0, side), rng.uniform(0, side), rng.uniform(5, 15), side)[..., None]
        picture = picture * (1 - share) + colour() * share
    return np.rint(picture).astype(np.uint8)
