"""Measures a checkpoint through diffusers on words that training never saw together.

`python evaluate.py` prints what README.md states, of `pipelines/demo/image`: first how far the measure itself can be trusted, on true
drawings and on true drawings of other scenes, then the pictures that the model makes.
"""

import argparse
import pathlib
import random

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from PIL import Image

import drawing
import measure
import network
from scenes import Scenes, held_out

SUITES = [("one shape, combinations seen in training", None, 1), ("two shapes, combinations seen in training", None, 2),
          ("one shape, held-out colour, shape and background", "backgrounds", 1), ("two shapes, held-out pair", "pairs", 2),
          ("one shape, colour and shape never together in training", "unseen", 1)]
STATED = ("backgrounds", "pairs")
ASKED = ("background", "count", "colours", "shapes", "places", "sizes")
SCHEDULERS = {"ddim": DDIMScheduler, "dpm": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler}


def draw_with(pipeline, captions: list[str], seed: int, options) -> list[np.ndarray]:
    """u8 pixels; picture n starts from the noise of seed + n, whatever is beside it."""
    pictures = []
    for begin in range(0, len(captions), options.batch):
        group = captions[begin:begin + options.batch]
        generators = [torch.Generator().manual_seed(seed + begin + n) for n in range(len(group))]
        made = pipeline(group, num_inference_steps=options.steps, guidance_scale=options.guidance, generator=generators, output_type="np")
        pictures += list(np.rint(made.images * 255).astype(np.uint8))
    return pictures


def report(name: str, scenes, pictures) -> tuple[int, int]:
    verdicts = [measure.judge(scene, picture) for scene, picture in zip(scenes, pictures)]
    right = sum(verdict.right for verdict in verdicts)
    details = ", ".join(f"{part} {100 * np.mean([getattr(v, part) for v in verdicts]):.1f}" for part in ASKED)
    print(f"{name}: {right}/{len(scenes)} = {100 * right / len(scenes):.1f} % right ({details})", flush=True)
    return right, len(scenes)


def grid(pictures: list[np.ndarray], columns: int) -> Image.Image:
    blank = np.full_like(pictures[0], 255)
    padded = pictures + [blank] * (-len(pictures) % columns)
    return Image.fromarray(np.concatenate([np.concatenate(padded[n:n + columns], 1) for n in range(0, len(padded), columns)]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arguments.add_argument("--model", type=pathlib.Path, default=network.SHIPPED)
    arguments.add_argument("--size", type=int, default=200, help="pictures in a suite")
    arguments.add_argument("--seed", type=int, default=1000)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--guidance", type=float, default=4.0)
    arguments.add_argument("--scheduler", choices=SCHEDULERS, help="another than the checkpoint's own")
    arguments.add_argument("--batch", type=int, default=25)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--pictures", type=pathlib.Path, help="a folder for a grid of each suite, wrong ones first")
    arguments.add_argument("--show", type=int, default=0, help="captions of each suite whose pictures are wrong to print")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    drawn = {}
    for number, (name, suite, count) in enumerate(SUITES):
        source = Scenes(random.Random(options.seed + number), suite, count)
        drawn[name] = [source.draw() for _ in range(options.size)]
        assert all(held_out(scene) == suite for scene in drawn[name])
    every = [scene for scenes in drawn.values() for scene in scenes]
    truth = [drawing.draw(scene) for scene in every]
    report("the measure on true drawings", every, truth)
    order = random.Random(options.seed).sample(range(len(every)), len(every))
    report("the measure on drawings of other scenes", every, [truth[n] for n in order])

    pipeline = network.read(options.model)
    if options.scheduler:
        pipeline.scheduler = SCHEDULERS[options.scheduler].from_config(pipeline.scheduler.config)
    stated = np.zeros(2, int)
    for number, (name, suite, _) in enumerate(SUITES):
        scenes = drawn[name]
        pictures = draw_with(pipeline, [scene.caption for scene in scenes], options.seed + 10_000 * number, options)
        counted = report(name, scenes, pictures)
        if suite in STATED:
            stated += counted
        wrong = [n for n, scene in enumerate(scenes) if not measure.judge(scene, pictures[n]).right]
        for n in wrong[:options.show]:
            background, seen = measure.look(pictures[n])
            print(f"    {scenes[n].caption!r} -> {background}, {[(p.colour, p.shape, round(p.x), round(p.y), round(p.like, 2)) for p in seen]}")
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            chosen = wrong + [n for n in range(len(scenes)) if n not in set(wrong)]
            grid([pictures[n] for n in chosen[:80]], 16).save(options.pictures / f"{number}.png")
    print(f"held-out combinations, one shape and two: {stated[0]}/{stated[1]} = {100 * stated[0] / stated[1]:.1f} % right")


if __name__ == "__main__":
    main()
