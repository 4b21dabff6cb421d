//! Denoisers that are transformers: Stable Diffusion 3 and FLUX.
