#!/bin/sh
# Gathers below $1 what the images are made of: common/ (program, certificates, SBOM, licence, an empty cache) and cuda/
# (the CUDA libraries that the program loads). Run by docker/Dockerfile in the repository's root; its ARGs are the variables.
set -eu
image=$1
: "${BINARY:=}" "${SBOM:=}" "${LIBRARIES:=}" "${FEATURES:=text,speech,image,kubernetes}" "${PROFILE:=dist}" "${CUDA_TOOLKIT:=12.4}" "${CUDA_CAPABILITIES:=75,80,86,89,90}" "${COMMIT:=unknown}" "${BUILD:=target}"

common=$image/common
mkdir -p "$common/usr/local/bin" "$common/usr/share/chandler" "$common/etc/ssl/certs" "$common/cache" "$image/cuda"
# Anyone may write into the cache: which user that will be is the platform's choice.
chmod 1777 "$common/cache"

has_cuda() {
  case ",$FEATURES," in *,cuda,* | *,cudnn,* | *,flash-attn,*) true ;; *) false ;; esac
}

if [ -z "$BINARY" ]; then
  export CHANDLER_COMMIT="$COMMIT" CARGO_TERM_COLOR=never
  if has_cuda; then
    # pip, and the package lists that the toolkit's compiler comes by.
    apt-get update -q && apt-get install -qy --no-install-recommends binutils python3-pip xz-utils
    BINARY=/tmp/chandler-cuda
    bash docker/build-cuda.sh --toolkit "$CUDA_TOOLKIT" --capabilities "$CUDA_CAPABILITIES" --features "$FEATURES" \
      --profile "$PROFILE" --target "$BUILD/cuda" --out "$BINARY"
    LIBRARIES=/tmp/cuda-libraries
    case ",$FEATURES," in *,cudnn,*) cudnn=--cudnn ;; *) cudnn= ;; esac
    bash docker/cuda-libraries.sh --toolkit "$CUDA_TOOLKIT" $cudnn "$LIBRARIES"
  else
    export CARGO_TARGET_DIR="$BUILD"
    cargo build --locked --profile "$PROFILE" --bin chandler --no-default-features --features "$FEATURES"
    BINARY=$BUILD/$PROFILE/chandler
  fi
fi
install -m 755 "$BINARY" "$common/usr/local/bin/chandler"

if [ -z "$SBOM" ]; then
  SBOM=/tmp/sbom.cdx.json
  python3 docker/sbom.py --features "$FEATURES" >"$SBOM"
fi
install -m 644 "$SBOM" "$common/usr/share/chandler/sbom.cdx.json"
install -m 644 LICENSE "$common/usr/share/chandler/LICENSE"

# The bundle alone, not the package: nothing in the image runs update-ca-certificates.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ ! -s "$bundle" ]; then
  apt-get update -q && apt-get install -qy --no-install-recommends ca-certificates
fi
install -m 644 "$bundle" "$common$bundle"

if [ -n "$LIBRARIES" ]; then
  mkdir -p "$image/cuda/usr/local/lib/chandler"
  cp "$LIBRARIES"/lib*.so.* "$image/cuda/usr/local/lib/chandler/"
fi
