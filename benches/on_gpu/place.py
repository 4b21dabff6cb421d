"""Where a run is: what was carried, where models are made, on which device it computes, and how its figures are told."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from contextlib import contextmanager

# What `chandler` sets up on a GPU by default, of which one switch at a time is left out to see what it is worth.
TUNING = ("keep-memory", "no-events", "fused", "staging", "sampling", "ahead", "graphs", "plans", "preload", "warm-up")
# Switches that do nothing without some others.
NEEDED = {"sampling": ("fused",), "ahead": ("fused", "sampling"), "graphs": ("fused", "no-events")}
HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / "peers.py"


@dataclasses.dataclass
class Place:
    binary: pathlib.Path
    fixtures: pathlib.Path  # a folder for each crate
    tests: pathlib.Path | None  # compiled parity tests, each named as its crate
    fault: pathlib.Path | None  # fault.c, compiled
    work: pathlib.Path
    device: str
    scale: str
    figures: pathlib.Path  # a JSON object a line, as they come: what there is of a step that was ended stays
    roofs: dict

    @property
    def dtype(self) -> str:
        # On the CPU half-precision weights are widened: what is measured there is nothing, and f32 is the path that is tested.
        return "bf16" if self.device == "cuda" else "f32"

    @property
    def images(self) -> pathlib.Path:
        return self.fixtures / "chandler-image"

    def tell(self, what: str, value: float | str, unit: str = "", **more: object) -> None:
        """A figure. `least_seconds` beside `seconds` make its share of the roof, `peer` what the other side has."""
        entry = {"what": what, "value": value, "unit": unit, **more}
        least, seconds = entry.pop("least_seconds", None), entry.pop("seconds", None)
        if least is not None and seconds:
            entry["share_of_roof"] = least / seconds
        with self.figures.open("a") as out:
            out.write(json.dumps(entry) + "\n")
        print(f"  {what}: {value if isinstance(value, str) else format(value, '.4g')} {unit}", flush=True)

    def least(self, read_bytes: float = 0.0, flops: float = 0.0) -> float | None:
        """Seconds that the roofs allow for so many bytes read and so much multiplied; nothing where no roof was measured."""
        if not self.roofs:
            return None
        return max(read_bytes / self.roofs["bytes_per_second"], flops / self.roofs["flops_per_second"])

    def peer(self, *case: object) -> dict:
        """What the other side found; `missing` where a library is not there."""
        command = [sys.executable, str(PEERS), str(case[0]), self.device, self.scale, *map(str, case[1:])]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.strip().splitlines()
        if done.returncode not in (0, 3) or not lines:
            raise RuntimeError(f"the peer {case[0]} ended with {done.returncode}")
        return json.loads(lines[-1])


def without(switch: str) -> str:
    """--cuda-tuning's value with one of the switches left out, and those that need it."""
    return ",".join(name for name in TUNING if name not in left_out(switch))


def left_out(switch: str) -> list[str]:
    return [switch, *(name for name in TUNING if switch in NEEDED.get(name, ()))]


@contextmanager
def made(place: Place, name: str):
    """A folder for a model, gone at the end: the next one needs its room."""
    folder = place.work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def libraries() -> list[pathlib.Path]:
    """Folders with CUDA's libraries of this machine, those that came with a Python package before the toolkit's own."""
    roots = [pathlib.Path(path) / "nvidia" for path in sys.path if path.endswith("-packages")]
    found = [file.parent for root in roots for file in sorted(root.glob("*/lib/lib*.so*"))]
    found += [file.parent for file in sorted(pathlib.Path("/usr/local").glob("cuda*/lib64/libcublas.so*"))]
    return list(dict.fromkeys(found))


def environment() -> dict[str, str]:
    """This environment, with CUDA's libraries where the loader looks, and no network asked for."""
    paths = [*map(str, libraries()), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(path for path in paths if path), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1"}
