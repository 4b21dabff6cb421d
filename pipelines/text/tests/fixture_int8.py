"""What transformers computes for two of the GGUF files when the input of every layer is rounded to bytes: int8.safetensors of their
folders, for make_fixtures.py.

Fake quantisation, as it is usual for checking integer kernels: each 32 numbers of a row, by the largest of them, to whole numbers
from -127 to 127 and back to f32, before a product in f32 with the dequantised weights. Apart from fixture_gguf.py, which makes the
files and what they give without rounding.
"""

import json

import torch
from safetensors.torch import save_file

import fixture_gguf
from fixture_gguf import random_checkpoint

NAMES = ["llama-q4k", "qwen2-q8_0"]
PROMPT = "p23"


def rounded(x: torch.Tensor) -> torch.Tensor:
    groups = x.unflatten(-1, (-1, 32))
    largest = groups.abs().amax(-1, keepdim=True)
    inverse = torch.where(largest > 0, 127.0 / largest, torch.zeros_like(largest))
    return (torch.round(groups * inverse) * (largest / 127.0)).flatten(-2)


def make(gguf_folder) -> None:
    for name in NAMES:
        one(gguf_folder / name, fixture_gguf.SPECS[name])


def one(folder, spec) -> None:
    random_checkpoint.fill(folder)
    model = fixture_gguf.load(folder, spec)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _module, given: (rounded(given[0]),))
    expected = json.loads((folder / "expected.json").read_text())
    ids = next(prompt["ids"] for prompt in expected["prompts"] if prompt["name"] == PROMPT)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :, :: fixture_gguf.STRIDE]
    save_file({f"prefill.{PROMPT}": logits.contiguous()}, folder / "int8.safetensors")
    random_checkpoint.forget(folder)
