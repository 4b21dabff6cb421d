"""What a picture shows, found by plain rules from its pixels, and whether that is what a scene asks for.

The background is the nearest of the known ones to the median of the border. What differs from it falls into connected parts; a part's
colour is the nearest of the known ones to the median of its inner pixels, and its shape the one whose outline, drawn as large as the part,
overlaps it best. Nothing here is learned.
"""

from dataclasses import dataclass

import numpy as np

from drawing import COLUMNS, ROWS, cover
from scenes import BACKGROUNDS, COLOURS, SHAPES, SIDE, Scene

FAR = 60.0  # a pixel this far from the background, in RGB, is of a shape
LEAST = 25  # pixels; fewer are a speck
LIKE = 0.65  # overlap with the best shape below which it is of no shape


@dataclass(frozen=True)
class Seen:
    """One part; centre and half its greater extent in pixels; `like` is the overlap of `shape`, intersection over union."""
    colour: str
    shape: str
    x: float
    y: float
    radius: float
    like: float


@dataclass(frozen=True)
class Verdict:
    """Which of the things that the scene asks for hold."""
    background: bool
    count: bool
    colours: bool
    shapes: bool
    places: bool
    sizes: bool

    @property
    def right(self) -> bool:
        return all(vars(self).values())


def nearest(value: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: np.square(value - np.array(palette[name], np.float32)).sum())


def parts(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask, neighbours by side or corner."""
    left, found = mask.copy(), []
    for start in zip(*np.nonzero(mask)):
        if not left[start]:
            continue
        part, edge = np.zeros_like(mask), [start]
        left[start] = False
        while edge:
            row, column = edge.pop()
            part[row, column] = True
            for r in range(max(row - 1, 0), min(row + 2, SIDE)):
                for c in range(max(column - 1, 0), min(column + 2, SIDE)):
                    if left[r, c]:
                        left[r, c] = False
                        edge.append((r, c))
        found.append(part)
    return found


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


# Each shape of radius 20 about the middle: how far it reaches (left, right, up, down), as shares of the radius.
REACH = {}
for _shape in SHAPES:
    _top, _bottom, _left, _right = extent(cover(_shape, 32.0, 32.0, 20.0) > 0.5)
    REACH[_shape] = (32 - _left) / 20, (_right - 32) / 20, (32 - _top) / 20, (_bottom - 32) / 20


def overlap(mask: np.ndarray, shape: str) -> float:
    """The best of a few sizes of the shape in the part's bounding box."""
    top, bottom, left, right = extent(mask)
    west, east, up, down = REACH[shape]
    radius = ((right - left) / (west + east) + (bottom - top) / (up + down)) / 2
    best = 0.0
    for scale in (0.92, 1.0, 1.08):
        r = radius * scale
        drawn = cover(shape, (left + right + r * (west - east)) / 2, (top + bottom + r * (up - down)) / 2, r) > 0.5
        best = max(best, (drawn & mask).sum() / (drawn | mask).sum())
    return best


def look(picture: np.ndarray) -> tuple[str, list[Seen]]:
    """The background and the parts of u8 pixels [64, 64, 3]."""
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    behind = np.median(border, 0)
    away = np.sqrt(np.square(pixels - behind).sum(-1))
    seen = []
    for part in parts(away > FAR):
        if part.sum() < LEAST:
            continue
        # Inner pixels are those far from the background, as edges are a mixture with it.
        inner = part & (away >= np.percentile(away[part], 40))
        colour = np.median(pixels[inner], 0)
        line = colour - behind
        mask = part & ((pixels - behind) @ line > 0.5 * line @ line)
        if mask.sum() < LEAST:
            continue
        likes = {shape: overlap(mask, shape) for shape in SHAPES}
        shape = max(likes, key=likes.get)
        top, bottom, left, right = extent(mask)
        seen.append(Seen(nearest(colour, COLOURS), shape, float(COLUMNS[mask].mean()), float(ROWS[mask].mean()),
                         max(bottom - top, right - left) / 2, likes[shape]))
    return nearest(behind, BACKGROUNDS), seen


def third(value: float) -> int:
    return 0 if value < 24.5 else 2 if value > 39.5 else 1


def judge(scene: Scene, picture: np.ndarray) -> Verdict:
    background, seen = look(picture)
    right = background == scene.background
    if len(seen) != len(scene.things):
        return Verdict(right, False, False, False, False, False)
    if scene.relation:
        sideways = scene.relation in ("left", "right")
        seen.sort(key=lambda part: part.x if sideways else part.y, reverse=scene.relation in ("right", "below"))
        apart = [abs(seen[0].x - seen[1].x), abs(seen[0].y - seen[1].y)]
        # The order is in the colours and shapes, which are compared in it.
        placed = apart[not sideways] > apart[sideways]
    else:
        placed = scene.place is None or (third(seen[0].x), third(seen[0].y)) == scene.place
    pairs = list(zip(scene.things, seen))
    sized = all(part.radius < 9.5 if thing.size == "small" else part.radius > 15.0 if thing.size == "large" else 7.5 < part.radius < 17.0
                for thing, part in pairs)
    return Verdict(right, True, all(thing.colour == part.colour for thing, part in pairs),
                   all(thing.shape == part.shape and part.like > LIKE for thing, part in pairs), placed, sized)
