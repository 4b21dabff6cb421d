#!/usr/bin/env bash
# Builds chandler with CUDA, without a GPU: toolchain, kernels, program; prints sizes and checks what is inside.
#
#   docker/build-cuda.sh [--toolkit 12.4|13.0] [--capabilities 75,80,86,89,90] [--features text,speech,image,kubernetes] \
#                        [--cudnn] [--flash-attn] [--profile release|dist] [--target DIRECTORY] [--out FILE] [--tests DIRECTORY]
#
# --features is what Cargo gets besides `cuda`; `cudnn` and `flash-attn` may stand there as well.
# --tests also makes the pipelines' parity tests there, each named as its crate: what benches/gpu.py carries to a GPU.
# With two cores reckon a quarter of an hour for the kernels of five capabilities, and as much for the program. The toolchain and all
# that was built stays in DIRECTORY (target/cuda), so that a second run only builds what changed.
set -euo pipefail
cd "$(dirname "$0")/.."
toolkit=12.4 capabilities=75,80,86,89,90 features=text,speech,image,kubernetes more= profile=release target=$PWD/target/cuda out= tests=
while [ $# -gt 0 ]; do
  case $1 in
    --toolkit) toolkit=${2:?}; shift 2 ;;
    --capabilities) capabilities=${2:?}; shift 2 ;;
    --profile) profile=${2:?}; shift 2 ;;
    --target) target=${2:?}; shift 2 ;;
    --out) out=${2:?}; shift 2 ;;
    --tests) tests=${2:?}; shift 2 ;;
    --features) features=${2:?}; shift 2 ;;
    --cudnn | --flash-attn) more+=,${1#--}; shift ;;
    *) echo "build-cuda: unknown option $1" >&2; exit 2 ;;
  esac
done
features=$features$more,cuda
cudnn=0 link=() flash=()
case ,$features, in *,cudnn,*) cudnn=1 link=(--cudnn) ;; esac
case ,$features, in *,flash-attn,*) flash=(--flash-attn) ;; esac
build=(cargo build --locked --profile "$profile" --no-default-features --features "$features" -p chandler)
python=${PYTHON:-python3}
mkdir -p "$target"
target=$(cd "$target" && pwd)
out=${out:-$target/chandler}

toolchain=$(docker/cuda-toolchain.sh --toolkit "$toolkit" --capabilities "$capabilities" "${flash[@]}" "$target/toolchain-$toolkit")
. "$toolchain"
# Code for other capabilities is other code: each set has its directory, and the kernels in it are as a set.
export CARGO_TARGET_DIR="$target/$toolkit-${CHANDLER_CUDA_CAPABILITIES//,/-}-$cudnn"
export CHANDLER_CUDA_MODULES="$CARGO_TARGET_DIR/modules"
# Outside Cargo's own directories, so that another profile does not compile them again.
export CANDLE_FLASH_ATTN_BUILD_DIR="$CARGO_TARGET_DIR/flash-attn"
mkdir -p "$CANDLE_FLASH_ATTN_BUILD_DIR"

# Everything but the last link first: the kernels that it needs are made on the way.
"${build[@]}" --lib
cudarc=$(cargo metadata --locked --format-version 1 --no-default-features --features "$features" |
  "$python" -c 'import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*[os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"])')
"$python" docker/cuda/lazy_link.py --cudarc "$cudarc" --major "${toolkit%.*}" --modules "$CHANDLER_CUDA_MODULES" "${link[@]}" \
  "$CARGO_TARGET_DIR/link"
export LIBRARY_PATH="$CARGO_TARGET_DIR/link:$CUDA_HOME/lib"
"${build[@]}" --bin chandler
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
modules=("$CHANDLER_CUDA_MODULES"/*.fatbin)
for own in chandler_attention chandler_layers chandler_sampling; do
  [ -f "$CHANDLER_CUDA_MODULES/$own.fatbin" ] || { echo "build-cuda: $own was compiled without docker/cuda/nvcc.sh" >&2; exit 1; }
done
for capability in ${CHANDLER_CUDA_CAPABILITIES//,/ }; do
  for module in "${modules[@]}"; do
    [[ $(cuobjdump --list-elf "$module") == *".sm_$capability.cubin"* ]] || { echo "build-cuda: no code for $capability in $module" >&2; exit 1; }
  done
done
echo "kernels: ${#modules[@]} modules with machine code for $CHANDLER_CUDA_CAPABILITIES, PTX for later ones"
printf 'size: %d bytes stripped, %d as xz\n' "$(stat -c %s "$out")" "$(xz -T0 -c "$out" | wc -c)"
"$out" --version

if [ -n "$tests" ]; then
  mkdir -p "$tests"
  pipelines=(text speech image) packages=() kinds=
  for pipeline in "${pipelines[@]}"; do
    packages+=(-p "chandler-$pipeline")
    for kind in cuda ${more//,/ }; do kinds+=,chandler-$pipeline/$kind; done
  done
  cargo test --locked --no-run --profile "$profile" "${packages[@]}" --features "${kinds#,}" --test main --message-format json |
    "$python" -c 'import json, os, sys
for built in map(json.loads, sys.stdin):
    if built.get("executable"):
        # .../pipelines/text, whose crate is chandler-text
        print(built["executable"], "chandler-" + os.path.basename(os.path.dirname(built["manifest_path"])))' |
    while read -r executable crate; do strip -o "$tests/$crate" "$executable"; done
  ls -l "$tests"
fi
echo "$out"
