//! Kernels of our own for NVIDIA's GPUs: their sources (`*.cu`), what is decided before a launch (`work`, `attention`, `layers`), and
//! the launch (`gpu`). Apart from `kernels`, which are the CPU's. What is decided needs no GPU: the tests run the same work thread by
//! thread on the CPU (tests/cuda). Nothing here has run on a GPU yet.

pub(crate) mod attention;
pub(crate) mod layers;
mod work;

#[cfg(feature = "cuda")]
mod gpu;
#[cfg(not(feature = "cuda"))]
#[path = "no_gpu.rs"]
mod gpu;
#[cfg(feature = "cuda")]
mod pinned;
#[cfg(test)]
mod tests;
#[cfg(feature = "cuda")]
mod upload;

use candle_core::{Shape, Tensor};

use crate::activation::Activation;
use crate::error::Result;
pub(crate) use attention::Attention;
use gpu::Gpu;
#[cfg(feature = "cuda")]
pub(crate) use gpu::preload;
#[cfg(not(feature = "cuda"))]
pub(crate) use gpu::{pinned_memory, upload};
use layers::{Pairs, Picture, Rows};
#[cfg(feature = "cuda")]
pub(crate) use pinned::pinned_memory;
#[cfg(feature = "cuda")]
pub(crate) use upload::upload;

// Each of these gives none where no kernel here computes it: on another device, in another dtype, for other sizes; and fails with what
// the device says. Shapes are checked by those who call.

/// softmax(q·kᵀ)·v as `attention` says, shaped as `q`.
pub(crate) fn attend(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    attention: &Attention<'_>,
) -> Result<Option<Tensor>> {
    let Some(gpu) = Gpu::of(&[q, k, v])? else {
        return Ok(None);
    };
    if !gpu.has_matrix_units()? {
        return Ok(None);
    }
    match attention.work(q.dtype(), gpu.multiprocessors()?) {
        Some(work) => gpu.compute(&work, &[q, k, v], q.shape()).map(Some),
        None => Ok(None),
    }
}

/// `x` normed over its last dimension, with `residual` added first: (sum, normed), or normed alone without one.
pub(crate) fn norm(
    x: &Tensor,
    residual: Option<&Tensor>,
    (weight, bias): (&Tensor, Option<&Tensor>),
    (eps, centred): (f32, bool),
) -> Result<Option<(Option<Tensor>, Tensor)>> {
    let alike: Vec<&Tensor> = [x].into_iter().chain(residual).collect();
    let gain: Vec<&Tensor> = [weight].into_iter().chain(bias).collect();
    let (Some(gpu), Some(_)) = (Gpu::of(&alike)?, Gpu::of(&gain)?) else {
        return Ok(None);
    };
    let width = weight.elem_count();
    let rows = Rows {
        rows: x.elem_count() / width,
        width,
        eps,
        centred,
        residual: residual.is_some(),
        bias: bias.is_some(),
    };
    let Some(work) = layers::norm(x.dtype(), weight.dtype(), &rows) else {
        return Ok(None);
    };
    let tensors: Vec<&Tensor> = alike.into_iter().chain(gain).collect();
    let count = x.elem_count();
    let at = rows.normed_at(x.dtype());
    let both = gpu.compute(&work, &tensors, &Shape::from(at + count))?;
    let part = |start| both.narrow(0, start, count)?.reshape(x.shape());
    let sum = residual.map(|_| part(0)).transpose()?;
    Ok(Some((sum, part(at)?)))
}

/// activation(gate) · up, of one shape.
pub(crate) fn gated(activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Option<Tensor>> {
    let Some(gpu) = Gpu::of(&[gate, up])? else {
        return Ok(None);
    };
    let work = layers::gated(gate.dtype(), activation, gate.elem_count());
    gpu.compute(&work, &[gate, up], gate.shape()).map(Some)
}

/// `x` [rows, heads, head_dim] turned by `cos` and `sin` [rows, rotary / 2] in f32.
pub(crate) fn rotate(
    x: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    interleaved: bool,
) -> Result<Option<Tensor>> {
    let Some(gpu) = Gpu::of(&[x])? else {
        return Ok(None);
    };
    let (rows, heads, head_dim) = x.dims3()?;
    if !head_dim.is_multiple_of(2) {
        return Ok(None);
    }
    let pairs = Pairs {
        rows,
        heads,
        head_dim,
        rotary: 2 * cos.dim(1)?,
        interleaved,
    };
    match layers::rotate(x.dtype(), &pairs) {
        Some(work) => gpu.compute(&work, &[x, cos, sin], x.shape()).map(Some),
        None => Ok(None),
    }
}

/// Writes the rows of `from` to those rows of `to` that `slots` says; whether it did.
pub(crate) fn into_slots(from: &Tensor, to: &Tensor, slots: &[u32]) -> Result<bool> {
    let Some(gpu) = Gpu::of(&[from, to])? else {
        return Ok(false);
    };
    // Anything else would be copied first, and the rows written to the copy.
    if !to.is_contiguous() || to.layout().start_offset() != 0 {
        return Ok(false);
    }
    let bytes = from.elem_count() / slots.len().max(1) * from.dtype().size_in_bytes();
    gpu.write(&layers::into_slots(slots, bytes), &[from, to])?;
    Ok(true)
}

/// GroupNorm of `x` [batch, channels, height, width] and an activation after it.
pub(crate) fn group_norm(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (groups, eps): (usize, f32),
    activation: Option<Activation>,
) -> Result<Option<Tensor>> {
    let Some(gpu) = Gpu::of(&[x, weight, bias])? else {
        return Ok(None);
    };
    let (batch, channels, height, width) = x.dims4()?;
    let picture = Picture {
        batch,
        channels,
        plane: height * width,
        groups,
        eps,
        activation,
    };
    match layers::group_norm(x.dtype(), &picture, gpu.multiprocessors()?) {
        Some(work) => gpu.compute(&work, &[x, weight, bias], x.shape()).map(Some),
        None => Ok(None),
    }
}

/// Which of all this is used, from now on.
#[cfg(feature = "cuda")]
pub(crate) fn set_up(tuning: crate::device::CudaTuning) {
    gpu::set_enabled(tuning.fused);
    upload::set_enabled(tuning.staging);
}
