"""Random weights as bf16 in safetensors files, as fast as the disk takes them and with nothing but Python. Each number has a random
sign and mantissa and an exponent that suits its layer's inputs, so that activations stay near one: the hardware meets neither
zeros nor infinities, which would be timed otherwise."""

import json
import math
import pathlib
import random
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

# A block of so many numbers is written again and again; an odd number, so that no two rows of a matrix begin alike.
BLOCK = (1 << 23) - 15
SHARD = 4 << 30  # bytes of a file: several are written at once


class Numbers:
    """Blocks of random bf16 by exponent."""

    def __init__(self, seed: int = 10):
        dice = random.Random(seed)
        self.mantissas, self.signs = dice.randbytes(BLOCK), dice.randbytes(BLOCK)
        self.made: dict[tuple[int, bool], memoryview] = {}

    def block(self, exponent: int, positive: bool) -> memoryview:
        """Numbers of absolute value from 2^(exponent − 1) to 2^exponent."""
        if (exponent, positive) not in self.made:
            biased = exponent - 1 + 127
            low = bytes((biased & 1) << 7 | byte & 0x7F for byte in range(256))
            high = bytes((0 if positive else byte & 0x80) | biased >> 1 for byte in range(256))
            block = bytearray(2 * BLOCK)
            block[0::2], block[1::2] = self.mantissas.translate(low), self.signs.translate(high)
            self.made[exponent, positive] = memoryview(block)
        return self.made[exponent, positive]

    def of(self, name: str, shape: tuple[int, ...]) -> memoryview:
        """The block that a tensor is made of."""
        if len(shape) == 1:
            # What a norm multiplies by is around one; a bias is small.
            return self.block(0, True) if name.endswith("weight") else self.block(-5, False)
        inputs = math.prod(shape[1:])
        if "embed" in name or "shared" in name:
            return self.block(-4, False)
        return self.block(-round(math.log2(inputs) / 2), False)


def write(file: pathlib.Path, tensors: list[tuple[str, tuple[int, ...]]], numbers: Numbers) -> None:
    """One safetensors file."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb", buffering=0) as out:
        out.write(struct.pack("<Q", len(text)) + text)
        at = 0
        for name, shape in tensors:
            block, left = numbers.of(name, shape), 2 * math.prod(shape)
            while left:
                part = block[at : at + left]
                # A raw file may take less than it is given.
                wrote = out.write(part)
                left -= wrote
                at = (at + wrote) % len(block)


def shards(folder: pathlib.Path, stem: str, tensors: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    """A component's weights below `stem` (model, diffusion_pytorch_model), in files of a few gigabytes with their index; all bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[list] = [[]]
    filled = total = 0
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        if filled and filled + size > SHARD:
            parts.append([])
            filled = 0
        parts[-1].append((name, shape))
        filled += size
        total += size
    names = [f"{stem}.safetensors"]
    if len(parts) > 1:
        names = [f"{stem}-{number:05}-of-{len(parts):05}.safetensors" for number in range(1, len(parts) + 1)]
        places = {name: file for file, part in zip(names, parts, strict=True) for name, _ in part}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    numbers = Numbers()
    for part in parts:
        for name, shape in part:
            numbers.of(name, shape)  # made before the threads, which only read
    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(write, folder / file, part, numbers) for file, part in zip(names, parts, strict=True)]:
            job.result()
    return total
