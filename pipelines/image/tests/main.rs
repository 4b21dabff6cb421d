//! Image models against diffusers and transformers, on tiny checkpoints of random weights.

mod schedulers;
