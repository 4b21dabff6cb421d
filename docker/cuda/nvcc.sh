#!/usr/bin/env bash
# Stands in for nvcc: candle's build names one capability, this compiles for all of CHANDLER_CUDA_CAPABILITIES (75,80,86,...).
#   -c     machine code for each of them in one object, and PTX of the newest for what comes after it
#   --ptx  candle embeds this text: PTX of the newest; and beside it, in CHANDLER_CUDA_MODULES, a fat binary of the same source
#          with machine code for each, which the linked program loads in its place (docker/cuda/modules.c)
# candle's products of quantised matrices, which chandler never calls (it dequantises at load), are most of the compiler's time and
# of the program's size: they become PTX of the oldest, which any GPU of the list compiles if something calls them after all.
set -euo pipefail
real=$(dirname "$(readlink -f "$0")")/nvcc.bin
[ -n "${CHANDLER_CUDA_CAPABILITIES:-}" ] || exec "$real" "$@"
IFS=, read -ra capabilities <<<"$CHANDLER_CUDA_CAPABILITIES"
oldest=${capabilities[0]} newest=${capabilities[-1]}

# Kernels for bf16 matrix instructions do not compile below 8.0, and candle leaves them out only when it compiles for nothing else.
early=()
[ "$oldest" -ge 80 ] || early=(-include "$(dirname "$(readlink -f "$0")")/../early.h")

images=()
for capability in "${capabilities[@]}"; do images+=("-gencode=arch=compute_$capability,code=sm_$capability"); done
images+=("-gencode=arch=compute_$newest,code=compute_$newest")

mode=other rest=() out= source=
for argument in "$@"; do
  case $argument in
    -gencode=*) continue ;;
    --ptx) mode=ptx; continue ;;
    -c) mode=object ;;
    *.cu) source=$argument ;;
  esac
  rest+=("$argument")
done
name=$(basename "${source:-none}" .cu)
case $name in
  mmq_* | mmvq_gguf | moe_* | quantized) uncalled=1 newest=$oldest images=("-gencode=arch=compute_$oldest,code=compute_$oldest") ;;
  *) uncalled= ;;
esac
# Below 8.0 its kernels are nothing but a trap, and PTX of that would be one on later GPUs, too.
if [ "$name" = chandler_attention ] && [ "$newest" -lt 80 ]; then
  newest=80 images[-1]=-gencode=arch=compute_80,code=compute_80
fi
# flash-attn's kernels use nothing that came within a generation, and take minutes each: code of its first capability runs on all.
case $name in flash_*)
  generation= images=("-gencode=arch=compute_$newest,code=compute_$newest")
  for capability in "${capabilities[@]}"; do
    [ "${capability%?}" = "$generation" ] || images+=("-gencode=arch=compute_$capability,code=sm_$capability")
    generation=${capability%?}
  done
  ;;
esac
case $mode in
  object) exec "$real" "${images[@]}" "${early[@]}" "${rest[@]}" ;;
  other) exec "$real" "$@" ;;
esac

# --output-directory DIRECTORY is how candle's build says where the text goes.
for ((i = 0; i < ${#rest[@]}; i++)); do [ "${rest[i]}" != --output-directory ] || out=${rest[i + 1]}; done
"$real" --ptx "-gencode=arch=compute_$newest,code=compute_$newest" "${early[@]}" "${rest[@]}"
[ -n "${CHANDLER_CUDA_MODULES:-}" ] && [ -z "$uncalled" ] || exit 0
mkdir -p "$CHANDLER_CUDA_MODULES"
cp "$out/$name.ptx" "$CHANDLER_CUDA_MODULES/"
arguments=()
for ((i = 0; i < ${#rest[@]}; i++)); do
  if [ "${rest[i]}" = --output-directory ]; then i=$((i + 1)); else arguments+=("${rest[i]}"); fi
done
exec "$real" -fatbin -o "$CHANDLER_CUDA_MODULES/$name.fatbin" "${images[@]}" "${arguments[@]}"
