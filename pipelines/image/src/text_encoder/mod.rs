//! Text encoders: tokens to the states that a denoiser attends to.
