"""Checkpoints of random numbers that Python and Rust make alike, so that a fixture holds names and shapes of tensors and not their numbers.

A tensor's stream is splitmix64 of a counter, begun at FNV-1a of "SEED/NAME". Of each 64 bits the upper 53 are u in [0, 1), and the number is
offset + amplitude * (2u - 1) in f64, rounded to f32 and then to the type that it is stored in. src/ makes the same in Rust.

weights.json of a fixture is {"seed": SEED, "files": {FILE: [TENSOR, ...]}}. A tensor is a line of fields between bars: how many letters of the
name before it has too, the others, and then one of
    f32, f16 or bf16 | shape, as 3x4 | offset | amplitude, both in 65536ths
    blocks | COUNTxBYTES | PLACE:HEX,...     the stream's own bytes as quantised blocks; these bytes at these places of each
    bytes | HEX                              these bytes
A safetensors file is what they make. Of a GGUF file the beginning, up to the first tensor, is in FILE.head.
"""

import json
import math

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

MASK = (1 << 64) - 1
UNIT = 65536  # offsets and amplitudes are whole numbers of its parts, so that the text of them is the number
ALIGNMENT = 32  # of a GGUF file's tensors
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def begin(seed, name):
    state = 0xCBF29CE484222325
    for byte in f"{seed}/{name}".encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def stream(seed, name, count):
    with np.errstate(over="ignore"):
        z = np.uint64(begin(seed, name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def numbers(seed, name, shape, offset, amplitude):
    """In f32."""
    u = (stream(seed, name, math.prod(shape)) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return torch.from_numpy((offset + amplitude * (2.0 * u - 1.0)).astype(np.float32).reshape(shape))


def blocks(seed, name, count, size, puts):
    """[count, size] bytes; `puts` is {place: bytes}."""
    made = np.frombuffer(stream(seed, name, -(-count * size // 8)).astype("<u8").tobytes()[: count * size], dtype=np.uint8).reshape(count, size).copy()
    for place, put in puts.items():
        made[:, place : place + len(put)] = np.frombuffer(put, dtype=np.uint8)
    return made


def rounded(amplitude):
    return math.floor(amplitude * UNIT + 0.5) / UNIT


def listed(tails):
    """{name: the rest of its line} as lines."""
    lines, before = [], ""
    for name, tail in tails.items():
        same = next((n for n, (a, b) in enumerate(zip(name, before)) if a != b), min(len(name), len(before)))
        lines.append(f"{same}|{name[same:]}|{tail}")
        before = name
    return lines


def named(lines):
    before = ""
    for line in lines:
        same, name, *tail = line.split("|")
        before = before[: int(same)] + name
        yield before, tail


def random_tail(dtype, shape, offset, amplitude):
    kind = next(name for name, type_ in TYPES.items() if type_ == dtype)
    return f"{kind}|{'x'.join(map(str, shape))}|{round(offset * UNIT)}|{round(amplitude * UNIT)}"


def blocks_tail(count, size, puts):
    return f"blocks|{count}x{size}|" + ",".join(f"{place}:{put.hex()}" for place, put in puts.items())


def bytes_tail(data):
    return f"bytes|{data.hex()}"


def tensor(seed, name, tail):
    """A tensor of the type that it is stored in; of blocks and bytes, bytes."""
    kind, *rest = tail
    if kind == "bytes":
        return torch.from_numpy(np.frombuffer(bytes.fromhex(rest[0]), dtype=np.uint8).copy())
    shape = [int(n) for n in rest[0].split("x")]
    if kind == "blocks":
        puts = {int(place): bytes.fromhex(put) for place, put in (part.split(":") for part in rest[1].split(","))}
        return torch.from_numpy(blocks(seed, name, *shape, puts))
    return numbers(seed, name, shape, int(rest[1]) / UNIT, int(rest[2]) / UNIT).to(TYPES[kind])


def describe(folder, seed, spread):
    """Lists the tensors of the safetensors files that a library saved; `spread` tells offset and amplitude of a name and a shape."""
    files = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as saved:
            found = {name: saved.get_tensor(name) for name in sorted(saved.keys())}
        files[path.name] = {name: random_tail(one.dtype, list(one.shape), *spread(name, list(one.shape))) for name, one in found.items()}
    write(folder, seed, files)


def write(folder, seed, files):
    """weights.json of {file: {name: tail}}."""
    part = lambda file, tails: json.dumps(file) + ":[\n" + ",\n".join(map(json.dumps, listed(tails))) + "]"
    text = f'{{"seed":{seed},"files":{{\n' + ",\n".join(part(*one) for one in files.items()) + "}}\n"
    (folder / "weights.json").write_text(text)


def fill(folder):
    """Writes the files that weights.json lists."""
    listing = json.loads((folder / "weights.json").read_text())
    for file, lines in listing["files"].items():
        made = {name: tensor(listing["seed"], name, tail).contiguous() for name, tail in named(lines)}
        if file.endswith(".gguf"):
            padded = lambda data: data + bytes(-len(data) % ALIGNMENT)
            data = b"".join(padded(one.view(torch.uint8).numpy().tobytes()) for one in made.values())
            (folder / file).write_bytes((folder / f"{file}.head").read_bytes() + data)
        else:
            save_file(made, folder / file, metadata={"format": "pt"})


def forget(folder):
    """Deletes what `fill` writes."""
    for file in json.loads((folder / "weights.json").read_text())["files"]:
        (folder / file).unlink()
