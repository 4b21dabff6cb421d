"""Scenes of coloured shapes: what is in them, the words that ask for them, and the words that training never sees together.

Apart from `drawing.py`, which knows pixels only. A seed gives the same scenes each time; `python scenes.py` prints some.
"""

import argparse
import random
import zlib
from dataclasses import dataclass

COLOURS = {"red": (222, 38, 38), "green": (38, 158, 62), "blue": (36, 78, 224), "yellow": (248, 218, 44), "orange": (246, 136, 24),
           "purple": (128, 44, 172), "pink": (246, 128, 188), "cyan": (56, 204, 216)}
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128)}
SHAPES = ("circle", "square", "triangle", "star", "diamond", "ring")
SIZES = {"small": (6.0, 8.0), None: (10.0, 13.5), "large": (17.0, 21.0)}
SIDE = 64  # pixels

# Never in training at all, whatever is beside or behind them.
UNSEEN = {("cyan", "star"), ("orange", "ring"), ("pink", "square"), ("green", "diamond")}

# Where a single shape stands, in thirds of the picture, and the wordings for it.
PLACES = {(1, 1): ("in the center", "in the middle", "in the centre"), (0, 1): ("on the left", "at the left"),
          (2, 1): ("on the right", "at the right"), (1, 0): ("at the top", "on top"), (1, 2): ("at the bottom", "on the bottom"),
          (0, 0): ("in the top left corner", "in the top left", "at the top left"),
          (2, 0): ("in the top right corner", "in the top right", "at the top right"),
          (0, 2): ("in the bottom left corner", "in the bottom left", "at the bottom left"),
          (2, 2): ("in the bottom right corner", "in the bottom right", "at the bottom right")}
# Wordings for two shapes; the first named stands in that direction from the second.
RELATIONS = {"left": ("{a} on the left and {b} on the right", "{a} to the left of {b}", "{a} left of {b}", "{a} next to {b}", "{a} beside {b}",
                      "{a} and {b}"),
             "right": ("{a} on the right and {b} on the left", "{a} to the right of {b}", "{a} right of {b}"),
             "above": ("{a} at the top and {b} at the bottom", "{a} above {b}", "{a} over {b}"),
             "below": ("{a} at the bottom and {b} at the top", "{a} below {b}", "{a} under {b}")}
OPENINGS = ("", "", "", "", "a picture of ", "a drawing of ", "an image of ")
BEHIND = (" on a {} background", " on a {} background", " on {}", ", {} background", " with a {} background")


@dataclass(frozen=True)
class Thing:
    """One shape; centre and radius in pixels."""
    colour: str
    shape: str
    size: str | None
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """What a caption asks for. `place` is of a single shape, and None where the caption is silent; `relation` is of two."""
    caption: str
    background: str
    things: tuple[Thing, ...]
    place: tuple[int, int] | None = None
    relation: str | None = None


def one_in(share: int, *words: str) -> bool:
    return zlib.crc32(" ".join(words).encode()) % share == 0


def held_out(scene: Scene) -> str | None:
    """The suite that a scene belongs to, or None where training may draw it."""
    kinds = sorted((thing.colour, thing.shape) for thing in scene.things)
    if UNSEEN.intersection(kinds):
        return "unseen"
    behind = any(one_in(6, *kind, scene.background) for kind in kinds)
    pair = len(kinds) == 2 and one_in(6, *kinds[0], *kinds[1])
    if behind and pair:
        return "both"
    return "backgrounds" if behind else "pairs" if pair else None


class Scenes:
    """Draws scenes. `suite` is None for what training may see, or what `held_out` answers; `count` fixes the number of shapes."""

    def __init__(self, rng: random.Random, suite: str | None = None, count: int | None = None):
        self.rng, self.suite, self.count = rng, suite, count

    def draw(self) -> Scene:
        while True:
            single = self.rng.random() < 0.4 if self.count is None else self.count == 1
            scene = self.single() if single else self.pair()
            if held_out(scene) == self.suite:
                return scene

    def kind(self):
        return self.rng.choice(list(COLOURS)), self.rng.choice(SHAPES)

    def noun(self, colour: str, shape: str, size: str | None, article: bool) -> str:
        words = f"{size} {colour} {shape}" if size else f"{colour} {shape}"
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}" if article else words

    def finish(self, words: str) -> tuple[str, str]:
        """The whole caption, and the background it asks for: white where it names none."""
        rng = self.rng
        words = rng.choice(OPENINGS) + words
        if rng.random() < 0.3:
            return words, "white"
        background = rng.choice(list(BACKGROUNDS))
        word = "grey" if background == "gray" and rng.random() < 0.5 else background
        return words + rng.choice(BEHIND).format(word), background

    def single(self) -> Scene:
        rng = self.rng
        colour, shape = self.kind()
        place = rng.choice(list(PLACES)) if rng.random() < 0.5 else None
        middle = place in (None, (1, 1))
        size = rng.choice(("small", None, None, "large") if middle else ("small", None, None))
        radius = rng.uniform(*SIZES[size]) if middle or size else rng.uniform(10.0, 12.0)
        spread = 5.0 if place is None else 2.5
        x, y = (SIDE * (1 + 2 * third) / 6 if third == 1 else 16.0 + 16.0 * third for third in place or (1, 1))
        thing = Thing(colour, shape, size, x + rng.uniform(-spread, spread), y + rng.uniform(-spread, spread), radius)
        words = self.noun(colour, shape, size, rng.random() < 0.85)
        if place:
            words += " " + rng.choice(PLACES[place])
        caption, background = self.finish(words)
        return Scene(caption, background, (thing,), place=place)

    def pair(self) -> Scene:
        rng = self.rng
        first, second = self.kind(), self.kind()
        while second == first:
            second = self.kind()
        relation = rng.choice(list(RELATIONS))
        ahead = -1 if relation in ("left", "above") else 1
        things = []
        for (colour, shape), side in ((first, ahead), (second, -ahead)):
            along, across = 32 + side * rng.uniform(14.5, 17.0), 32 + rng.uniform(-4.0, 4.0)
            x, y = (along, across) if relation in ("left", "right") else (across, along)
            things.append(Thing(colour, shape, None, x, y, rng.uniform(9.0, 12.0)))
        article = rng.random() < 0.85
        words = rng.choice(RELATIONS[relation]).format(a=self.noun(*first, None, article), b=self.noun(*second, None, article))
        caption, background = self.finish(words)
        return Scene(caption, background, tuple(things), relation=relation)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sample", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--suite", choices=["backgrounds", "pairs", "both", "unseen"])
    options = arguments.parse_args()
    scenes = Scenes(random.Random(options.seed), options.suite)
    for _ in range(options.sample):
        print(scenes.draw().caption)
