#!/usr/bin/env python3
"""Everything that a GPU has to show, in one go and without a network: `pack` here, `run` there. It was never run on one.

    docker/build-cuda.sh --toolkit 13.0 --capabilities 90 --tests target/cuda/tests   # the toolkit whose libraries that machine has
    benches/gpu.py pack --binary target/cuda/chandler --tests target/cuda/tests --out gpu-pack
    python3 gpu-pack/gpu.py run --out report                                          # on the machine with the GPU

`run` does its steps in this order: roofs, selftest, parity, recovery, llama (8 billion parameters), whisper (large-v3-turbo), sdxl, flux.
It makes their weights of random numbers, one model at a time (35 GB of disk for the largest), and measures the program over HTTP, beside
`transformers` and `diffusers` in the Python that runs it where they are there, and `no peer` where not; and without each switch of
--cuda-tuning, in a step that it has an effect in. `recovery` is what goes wrong: memory that runs out in a batch, a full card at the start,
two processes on it, a kill, a kernel that crashes (fault.c, loaded into the unchanged program), MIG where it is enabled. Each step has its
time and ends alone; the exit code is 1 when one failed. `--only STEP,...` does some, and adds them to the report of the same program in
--out: for machines that are lent in pieces. Memory bandwidth and matrix rate, the roofs, are measured by torch on the spot.

`benches/gpu.py run --scale tiny --device cpu` is a dry run with the same steps, out of the repository: it takes target/release/chandler.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from on_gpu import packing, report
from on_gpu.place import Place, environment
from on_gpu.steps import STEPS
from on_gpu.worker import Failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="fill a folder that can be carried, of 40 MiB at most")
    pack.add_argument("--binary", type=pathlib.Path, required=True)
    pack.add_argument("--tests", type=pathlib.Path, help="folder of the compiled parity tests, each named as its crate")
    pack.add_argument("--out", type=pathlib.Path, required=True)
    pack.add_argument("--without-fixtures", action="store_true", help="for a folder in the root of a repository that travels with it")
    pack.add_argument("--preset", type=int, default=9, help="xz's, from 0 to 9 [9, which takes minutes]")
    run = commands.add_parser("run", help="do the steps, and write report.json and report.txt")
    run.add_argument("--only", metavar="STEP,...", help=f"of {', '.join(STEPS)}")
    run.add_argument("--scale", choices=("full", "tiny"), default="full")
    run.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    run.add_argument("--minutes", type=float, default=25, help="after which no step goes on")
    run.add_argument("--work", type=pathlib.Path, help="where models are made [a temporary folder]")
    run.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-report"))
    run.add_argument("--binary", type=pathlib.Path, help="another program than the one that was packed")
    run.add_argument("--tests", type=pathlib.Path, help="other compiled tests")
    step = commands.add_parser("step", help="one step in this process; `run` calls it")
    step.add_argument("name", choices=STEPS)
    step.add_argument("place", help="JSON")
    return parser.parse_args()


def place(given: argparse.Namespace, work: pathlib.Path) -> tuple[Place, dict]:
    """What is run, and what the report says of it: from the archive where there is one, else out of the repository."""
    archive = HERE / packing.ARCHIVE
    if archive.exists():
        carried = packing.unpack(archive, work)
        binary, tests, fixtures, fault = carried / "chandler", carried / "tests", carried / "fixtures", carried / "fault.so"
        if not fixtures.exists():
            fixtures = packing.beside_the_sources(work)
        about = json.loads((carried / "about.json").read_text())
    else:
        binary, tests, fixtures = packing.ROOT / "target/release/chandler", None, packing.beside_the_sources(work)
        fault = packing.fault(work) if shutil.which("cc") else None
        about = None
    binary, tests = (given.binary or binary).resolve(), given.tests or tests
    if about is None or given.binary:
        about = packing.about(binary)
    about.pop("packed", None)
    tests = tests.resolve() if tests and tests.exists() else None
    return Place(binary, fixtures, tests, fault, work, given.device, given.scale, work / "figures.jsonl", {}), about


def do(name: str, where: Place, seconds: float) -> dict:
    """One step in a process of its own, with all that it starts ended when its time is over."""
    print(f"{name} ({seconds:.0f} s at most)", flush=True)
    where.figures.unlink(missing_ok=True)
    where.figures.touch()
    errors = where.work / "stderr.txt"
    told = json.dumps({key: str(value) if isinstance(value, pathlib.Path) else value for key, value in vars(where).items()})
    began = time.monotonic()
    with errors.open("wb") as stderr:
        child = subprocess.Popen([sys.executable, str(HERE / "gpu.py"), "step", name, told], stderr=stderr, env=environment(), start_new_session=True)
        try:
            code = child.wait(seconds)
            status = "ok" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "out of time"
        finally:
            # What it started and left, too: a worker holds the GPU's memory.
            end_group(child.pid)
            child.wait()
    figures = [json.loads(line) for line in where.figures.read_text().splitlines()]
    if status == "ok" and any(str(figure["value"]).startswith(report.NOT_CARRIED) for figure in figures):
        status = report.NOT_CARRIED
    tail = errors.read_bytes()[-6000:].decode(errors="replace")
    print(f"  {status}, {time.monotonic() - began:.0f} s", flush=True)
    if status in ("failed", "out of time"):
        print(tail, flush=True)
    return {"status": status, "seconds": time.monotonic() - began, "figures": figures, "stderr_tail": tail}


def end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing of it is left


def run(given: argparse.Namespace) -> int:
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
        return measure(given, given.work.resolve())
    with tempfile.TemporaryDirectory(prefix="chandler-gpu-") as work:
        return measure(given, pathlib.Path(work))


def measure(given: argparse.Namespace, work: pathlib.Path) -> int:
    """The steps that were asked for, one after the other, and the report after each."""
    where, program = place(given, work)
    fresh = {"program": program, "machine": report.machine(), "scale": given.scale, "device": given.device}
    told = report.read(given.out / "report.json", fresh | {"began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    told["command"] = shlex.join(["gpu.py", *sys.argv[1:]])
    names = given.only.split(",") if given.only else list(STEPS)
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        raise SystemExit(f"there is no step {', '.join(unknown)}: {', '.join(STEPS)}")
    if "roofs" not in told["steps"] and "roofs" not in names:
        names.insert(0, "roofs")  # what all shares are of
    ends = time.monotonic() + 60 * given.minutes
    for name in (name for name in STEPS if name in names):
        where.roofs = report.roofs(told)
        left = min(60 * STEPS[name][1], ends - time.monotonic())
        if left < 1:
            why = f"not begun: --minutes {given.minutes:g} were over"
            told["steps"][name] = {"status": "out of time", "seconds": 0.0, "figures": [], "stderr_tail": why}
            continue
        told["steps"][name] = do(name, where, left)
        report.write(given.out, told)
    print("\n" + report.write(given.out, told))
    wrong = [name for name in names if told["steps"][name]["status"] not in ("ok", report.NOT_CARRIED)]
    if wrong:
        print(f"failed: {', '.join(wrong)}")
    return 1 if wrong else 0


def step(given: argparse.Namespace) -> int:
    told = json.loads(given.place)
    for key in ("binary", "fixtures", "tests", "fault", "work", "figures"):
        told[key] = told[key] and pathlib.Path(told[key])
    try:
        STEPS[given.name][0](Place(**told))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def main() -> int:
    given = arguments()
    if given.command == "pack":
        packing.pack(given.binary.resolve(), given.tests and given.tests.resolve(), given.out, given.preset, not given.without_fixtures)
        return 0
    return {"run": run, "step": step}[given.command](given)


if __name__ == "__main__":
    sys.exit(main())
