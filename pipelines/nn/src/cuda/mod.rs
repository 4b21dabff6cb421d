//! Kernels of our own for NVIDIA's GPUs: their sources (`*.cu`), what is decided before a launch (`work`, `attention`, `layers`,
//! `sampling`), the launch (`gpu`) and its recording (`graph`); cuDNN's convolutions (`convolution`); and the ways between host and GPU
//! (`upload`, `words`). Apart from `kernels`, which are the CPU's. What is decided needs no GPU: the tests run the same work thread by
//! thread on the CPU (tests/cuda). Nothing here has run on a GPU yet.

pub(crate) mod attention;
#[cfg(feature = "cudnn")]
mod convolution;
#[cfg(not(feature = "cudnn"))]
#[path = "no_convolution.rs"]
mod convolution;
#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(feature = "cuda")]
mod graph;
pub(crate) mod layers;
#[cfg(any(test, feature = "cudnn"))]
mod plans;
mod sampling;
#[cfg(feature = "cuda")]
mod words;
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

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Shape, Tensor};

use crate::activation::Activation;
use crate::error::Result;
use crate::sampling::Draw;
pub(crate) use attention::Attention;
pub(crate) use convolution::convolve;
#[cfg(feature = "cuda")]
pub(crate) use convolution::give_up;
use gpu::Gpu;
#[cfg(not(feature = "cuda"))]
pub(crate) use gpu::{Graph, Reading, overwrite, pinned_memory, upload};
#[cfg(feature = "cuda")]
pub(crate) use gpu::{overwrite, preload};
#[cfg(feature = "cuda")]
pub(crate) use graph::Graph;
use layers::{Pairs, Picture, Planes, Rows};
#[cfg(feature = "cuda")]
pub(crate) use pinned::pinned_memory;
#[cfg(feature = "cuda")]
pub(crate) use upload::upload;
#[cfg(feature = "cuda")]
pub(crate) use words::Reading;
pub(crate) use work::{Launch, Work};

/// The switch `sampling` of `--cuda-tuning`.
static SAMPLING: AtomicBool = AtomicBool::new(true);

/// How the windows of a convolution go over planes [height, width].
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(any(test, feature = "cudnn")), expect(dead_code))] // Why: read where cuDNN is.
pub(crate) struct Convolution {
    /// From one window to the next, down and to the right.
    pub stride: [usize; 2],
    /// Zeros above and below, to the left and to the right.
    pub padding: [usize; 2],
    /// Parts that inputs and outputs are cut into.
    pub groups: usize,
}

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

/// Adds to `y` [batch, channels, ...] what is there: a number a channel, and numbers of its shape; whether it did. `y` is its caller's
/// alone, made a moment ago.
pub(crate) fn add_to_planes(
    y: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Result<bool> {
    let added: Vec<&Tensor> = bias.into_iter().chain(residual).collect();
    let all: Vec<&Tensor> = [y].into_iter().chain(added.iter().copied()).collect();
    let Some(gpu) = Gpu::of(&all)? else {
        return Ok(false);
    };
    // Anything else would be copied first, and the sums written to the copy.
    if !y.is_contiguous() || y.layout().start_offset() != 0 {
        return Ok(false);
    }
    let (batch, channels) = (y.dim(0)?, y.dim(1)?);
    let planes = Planes {
        count: y.elem_count(),
        channels,
        plane: y.elem_count() / (batch * channels),
        bias: bias.is_some(),
        residual: residual.is_some(),
    };
    let Some(work) = layers::add_to_planes(y.dtype(), &planes) else {
        return Ok(false);
    };
    let mut tensors = added;
    // What is written stands second, as in all work without an output of its own.
    tensors.insert(1, y);
    gpu.write(&work, &tensors)?;
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

/// What an attention over a cache asks of the GPU that a tensor of `dtype` is on: its launches and numbers.
pub(crate) fn attention_work(
    device: &Device,
    dtype: DType,
    attention: &Attention<'_>,
) -> Result<Option<Work>> {
    let Some(gpu) = Gpu::on(device)? else {
        return Ok(None);
    };
    if !gpu.has_matrix_units()? {
        return Ok(None);
    }
    Ok(attention.work(dtype, gpu.multiprocessors()?))
}

/// A token for each of `draws` from `logits` [rows, vocabulary], u32 [draws]; `before` are the tokens that were drawn last.
pub(crate) fn draw(
    logits: &Tensor,
    draws: &[Draw<'_>],
    before: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    if draws.is_empty() || !SAMPLING.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let Some(gpu) = Gpu::of(&[logits])? else {
        return Ok(None);
    };
    let Some(work) = sampling::draw(logits.dtype(), logits.dim(1)?, draws) else {
        return Ok(None);
    };
    let tokens = Tensor::zeros(draws.len(), DType::U32, logits.device())?;
    gpu.write(&work, &[logits, &tokens, before.unwrap_or(&tokens)])?;
    Ok(Some(tokens))
}

/// Which of all this is used, from now on.
#[cfg(feature = "cuda")]
pub(crate) fn set_up(tuning: crate::device::CudaTuning) {
    gpu::set_enabled(tuning.fused);
    upload::set_enabled(tuning.staging);
    graph::set_enabled(tuning.graphs);
    SAMPLING.store(tuning.sampling, Ordering::Relaxed);
    convolution::set_up(tuning);
}
