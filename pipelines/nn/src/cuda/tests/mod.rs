//! The kernels, thread by thread on the CPU, against candle's operations in f32 on the same rounded numbers.
#![allow(clippy::unwrap_used)]

mod attention;
mod emulator;
mod layers;
mod sampling;
