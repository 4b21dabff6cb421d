#!/bin/sh
# Lays out below CUDAFORGE_HOME=$1 what candle-flash-attn's build takes for its clone of CUTLASS, and prints the directory that the
# headers go into. Without it that build clones from GitHub, which not every machine may do. It only asks git which commit is
# checked out there; a repository in which nothing but that is written answers as a whole one does.
set -eu
commit=7d49e6c7e2f8896c47f586706e67e1fb215529dc # v3.5.0; CUTLASS_COMMIT in candle-flash-attn's build.rs
checkout=$1/git/checkouts/cutlass-$(printf %.16s "$commit")
mkdir -p "$checkout/include" "$checkout/.git/objects" "$checkout/.git/refs"
echo "$commit" >"$checkout/.git/HEAD"
echo "$checkout/include"
