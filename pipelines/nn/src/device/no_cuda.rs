//! What a build without CUDA answers in the place of cuda.rs.

use candle_core::Device;

use super::requirements::Build;
use super::tuning::CudaTuning;
use crate::error::{NnError, Result};

pub(super) fn open(_: usize, _: CudaTuning) -> Result<Device> {
    Err(NnError::Device(
        "this build has no CUDA support: build with --features cuda, or use --device cpu"
            .to_owned(),
    ))
}

pub(super) fn build() -> Option<Build> {
    None
}

pub(super) fn name(_: &Device) -> Option<String> {
    None
}

pub(super) fn memory(_: &Device) -> Option<(u64, u64)> {
    None
}

pub(super) fn compute_capability(_: &Device) -> Option<(i32, i32)> {
    None
}

pub(super) fn left_behind(_: &Device) -> Option<String> {
    None
}

pub(super) fn give_back(_: &Device) {}
