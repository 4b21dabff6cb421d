"""One archive of all that a run needs on a machine without a network: the program, fault.c and the parity tests compiled, their fixtures, and what
was built of which commit. The programs hold the same kernels, so that one dictionary over all of them is worth more than xz of each."""

import hashlib
import json
import lzma
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CRATES = {"chandler-text": "text", "chandler-speech": "speech", "chandler-image": "image"}
MOST = 40 << 20
ARCHIVE = "carried.tar.xz"


def fixtures(crate: str) -> pathlib.Path:
    return ROOT / "pipelines" / CRATES[crate] / "tests/fixtures"


def version(binary: pathlib.Path) -> str:
    return subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    """The commit of the sources here, with a mark where they were changed since."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    found = subprocess.run(asked, check=False, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def about(binary: pathlib.Path) -> dict:
    """What a report says of the program."""
    return {"version": version(binary), "sources": commit(), "sha256": hashlib.sha256(binary.read_bytes()).hexdigest(),
            "packed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def executables(binary: pathlib.Path, tests: pathlib.Path | None) -> list[tuple[pathlib.Path, str]]:
    """Programs, each with its name in the archive."""
    found = [(binary, "chandler")]
    for crate in CRATES if tests else ():
        if not (tests / crate).is_file():
            raise SystemExit(f"{tests} has no {crate}: docker/build-cuda.sh --tests {tests} makes it")
        found.append((tests / crate, f"tests/{crate}"))
    return found


def stripped(file: pathlib.Path, into: pathlib.Path) -> pathlib.Path:
    """A copy without symbols, which are half of a program that was just linked; docker/build-cuda.sh has left them out already."""
    into.mkdir(exist_ok=True)
    subprocess.run(["strip", "-o", into / file.name, file], check=True)
    return into / file.name


def fault(into: pathlib.Path) -> pathlib.Path:
    """fault.c as a library, which recovery.py loads into the program."""
    made = into / "fault.so"
    source = pathlib.Path(__file__).resolve().parent / "fault.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", made, source, "-lpthread", "-ldl"], check=True)
    return made


def pack(binary: pathlib.Path, tests: pathlib.Path | None, out: pathlib.Path, preset: int, with_fixtures: bool) -> None:
    """Fills a folder that can be carried: the archive, and the script that unpacks and runs it."""
    out.mkdir(parents=True, exist_ok=True)
    here = pathlib.Path(__file__).resolve().parent
    shutil.copy(here.parent / "gpu.py", out / "gpu.py")
    shutil.copytree(here, out / here.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="chandler-pack-"))
    programs = [(stripped(file, scratch), name) for file, name in executables(binary, tests)]
    programs.append((fault(scratch), "fault.so"))
    size = sum(file.stat().st_size for file, _ in programs)
    # The dictionary reaches over all programs; the filter writes jumps in them as the places that they go to.
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": min(max(size, 1 << 20), 1 << 29)}]
    archive, manifest = out / ARCHIVE, out / "about.json"
    manifest.write_text(json.dumps(about(binary), indent=1) + "\n")
    with lzma.open(archive, "wb", filters=filters) as compressed, tarfile.open(fileobj=compressed, mode="w") as tar:
        for file, name in programs:
            entry = tar.gettarinfo(file, name)
            entry.mode = 0o755
            with file.open("rb") as source:
                tar.addfile(entry, source)
        for crate in CRATES if with_fixtures else ():
            tar.add(fixtures(crate), f"fixtures/{crate}", filter=lambda entry: None if entry.name.endswith((".py", "__pycache__")) else entry)
        tar.add(manifest, "about.json")
    shutil.rmtree(scratch)
    packed = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {packed / (1 << 20):.1f} MiB, of {size / (1 << 20):.1f} MiB of programs{' and their fixtures' if with_fixtures else ''}")
    if packed > MOST:
        raise SystemExit(f"that is more than {MOST >> 20} MiB: build for fewer capabilities, or pack --without-fixtures where the repository travels too")


def unpack(archive: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    """The archive's content, unpacked once for each archive."""
    folder = to / f"carried-{hashlib.sha256(archive.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        unfinished = to / f"{folder.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with lzma.open(archive) as compressed, tarfile.open(fileobj=compressed) as tar:
            tar.extractall(unfinished, filter="data")
        unfinished.rename(folder)
    return folder


def beside_the_sources(to: pathlib.Path) -> pathlib.Path:
    """The same layout out of the repository, where nothing was packed: fixtures as they are tracked."""
    folder = to / "fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    for crate in CRATES:
        link = folder / crate
        if not link.is_symlink():
            link.symlink_to(fixtures(crate))
    return folder
