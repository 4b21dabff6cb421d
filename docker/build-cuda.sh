#!/usr/bin/env bash
# Builds chandler with CUDA, without a GPU: toolchain, kernels, program; prints sizes and checks what is inside.
#
#   docker/build-cuda.sh [--toolkit 12.4|13.0] [--capabilities 75,80,86,89,90] [--cudnn] [--profile release|dist] [--out FILE] [--tests DIRECTORY]
#
# --tests also makes the pipelines' parity tests there, each named as its crate: what benches/gpu.py carries to a GPU.
# The kernels take the time: with two cores reckon a quarter of an hour for each capability. To carry the program, `xz -9e` makes
# it a fifth smaller than what is printed here, in two minutes. The toolchain and all that was built
# stays in target/cuda, so that a second run only builds what changed.
set -euo pipefail
cd "$(dirname "$0")/.."
toolkit=12.4 capabilities=75,80,86,89,90 profile=release out= tests= cudnn=0 features=cuda extra=()
while [ $# -gt 0 ]; do
  case $1 in
    --toolkit) toolkit=${2:?}; shift 2 ;;
    --capabilities) capabilities=${2:?}; shift 2 ;;
    --profile) profile=${2:?}; shift 2 ;;
    --out) out=${2:?}; shift 2 ;;
    --tests) tests=${2:?}; shift 2 ;;
    --cudnn) cudnn=1 features=cudnn extra=(--cudnn); shift ;;
    *) echo "build-cuda: unknown option $1" >&2; exit 2 ;;
  esac
done
python=${PYTHON:-python3} target=$PWD/target/cuda
out=${out:-$target/chandler}

toolchain=$(docker/cuda-toolchain.sh --toolkit "$toolkit" --capabilities "$capabilities" "$target/toolchain-$toolkit")
. "$toolchain"
# Code for other capabilities is other code: each set has its directory, and the kernels in it are as a set.
export CARGO_TARGET_DIR="$target/$toolkit-${CHANDLER_CUDA_CAPABILITIES//,/-}-$cudnn"
export CHANDLER_CUDA_MODULES="$CARGO_TARGET_DIR/modules"

# Everything but the last link first: the kernels that it needs are made on the way.
cargo build --locked --profile "$profile" --features "$features" -p chandler --lib
cudarc=$(cargo metadata --locked --format-version 1 --features "$features" |
  "$python" -c 'import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*[os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"])')
"$python" docker/cuda/lazy_link.py --cudarc "$cudarc" --major "${toolkit%.*}" --modules "$CHANDLER_CUDA_MODULES" "${extra[@]}" \
  "$CARGO_TARGET_DIR/link"
export LIBRARY_PATH="$CARGO_TARGET_DIR/link:$CUDA_HOME/lib"
cargo build --locked --profile "$profile" --features "$features" -p chandler --bin chandler
built=$CARGO_TARGET_DIR/$profile/chandler
strip -o "$out" "$built"

# What the image has to hold, and what must not be needed to start.
needed=$(readelf -d "$out" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | paste -sd' ')
echo "needs to start: $needed"
if grep -qE 'lib(cu|nv)' <<<"$needed"; then
  echo "build-cuda: a library of CUDA's is needed to start" >&2
  exit 1
fi
echo "looks for when used: $(strings -a "$out" | grep -xE 'lib(cuda|cublas|cublasLt|curand|nvrtc|cudnn)\.so\.[0-9]+' | sort -u | paste -sd' ')"
if command -v cuobjdump >/dev/null; then
  linked=$(cuobjdump --list-elf --list-ptx "$out" | grep -oE 'sm_[0-9]+\.(cubin|ptx)' | sort | uniq -c | awk '{ print $2 " x" $1 }' | paste -sd' ')
  echo "linked kernels: $linked"
  for capability in ${CHANDLER_CUDA_CAPABILITIES//,/ }; do
    grep -q "sm_$capability.cubin" <<<"$linked" || { echo "build-cuda: no machine code for $capability" >&2; exit 1; }
  done
fi
printf 'size: %d bytes stripped, %d as xz\n' "$(stat -c %s "$out")" "$(xz -T0 -c "$out" | wc -c)"
"$out" --version

if [ -n "$tests" ]; then
  mkdir -p "$tests"
  pipelines=(-p chandler-text -p chandler-speech -p chandler-image)
  cargo test --locked --no-run --profile "$profile" "${pipelines[@]}" --features "chandler-text/$features,chandler-speech/$features,chandler-image/$features" \
    --test main --message-format json |
    "$python" -c 'import json, os, sys
for built in map(json.loads, sys.stdin):
    if built.get("executable"):
        # .../pipelines/text, whose crate is chandler-text
        crate = "chandler-" + os.path.basename(os.path.dirname(built["manifest_path"]))
        print(built["executable"], crate)' |
    while read -r executable crate; do strip -o "$tests/$crate" "$executable"; done
  ls -l "$tests"
fi
echo "$out"
