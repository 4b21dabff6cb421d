"""Pictures that diffusers draws with the demo model from the worker's own noise (pipelines/image/tests/fixtures/noise.py), for
`chandler selftest`: `python record.py`, beside the checkpoint in ../image."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "image/tests/fixtures"))
from noise import INITIAL, drawn  # noqa: E402

ASKED = [("circle.png", "a red circle on a white background", 1), ("square.png", "a small blue square on a gray background", 2),
         ("two.png", "a green triangle to the left of a purple star", 3)]


def main():
    folder = HERE.parent / "image"
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    out = folder / "drawn"
    out.mkdir(exist_ok=True)
    listed = []
    for file, prompt, seed in ASKED:
        with torch.no_grad(), drawn(seed, INITIAL):
            image = pipe(prompt, num_inference_steps=20, guidance_scale=4.0, output_type="np").images[0]
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(out / file)
        listed.append({"file": file, "prompt": prompt, "seed": seed, "steps": 20, "guidance_scale": 4.0})
    (out / "pictures.json").write_text(json.dumps(listed, indent=1) + "\n")


main()
