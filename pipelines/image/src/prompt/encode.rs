//! Chunks to what a denoiser looks at: each chunk encoded alone, weighed, and put after the one before it. Apart from the encoder,
//! which knows no weights.

use candle_core::{DType, Tensor};
use chandler_nn::lora::AdapterRows;

use super::chunks::{Chunk, Chunks};
use crate::error::{ImageError, Result};
use crate::text_encoder::clip::{ClipTextModel, Wanted};

/// What one prompt became.
#[derive(Debug, Clone)]
pub struct PromptEmbedding {
    /// [chunks · window, width], in the activations' dtype.
    pub hidden: Tensor,
    /// [width or projection] of the first chunk, without weights; nothing when it was not wanted.
    pub pooled: Option<Tensor>,
}

/// Encodes prompts together, of as many chunks as each has, all with the same adapters. On the CPU what one prompt gives has the same bits whatever others there
/// are.
///
/// # Errors
/// As [`ClipTextModel::forward`].
pub fn encode(
    model: &ClipTextModel,
    prompts: &[&Chunks],
    wanted: Wanted,
    adapters: &AdapterRows,
) -> Result<Vec<PromptEmbedding>> {
    let chunks: Vec<&Chunk> = prompts
        .iter()
        .flat_map(|prompt| prompt.as_slice())
        .collect();
    let tokens: Vec<&[u32]> = chunks.iter().map(|chunk| chunk.tokens.as_slice()).collect();
    let encoded = model.forward(&tokens, wanted, adapters)?;
    let mut start = 0;
    let each = prompts.iter().map(|prompt| {
        let first = start;
        start += prompt.count();
        let hidden = prompt
            .as_slice()
            .iter()
            .zip(first..)
            .map(|(chunk, at)| weigh(&encoded.hidden.get(at)?, &chunk.weights))
            .collect::<Result<Vec<Tensor>>>()?;
        let pooled = encoded.pooled.as_ref();
        Ok(PromptEmbedding {
            hidden: Tensor::cat(&hidden, 0)?,
            pooled: pooled.map(|pooled| pooled.get(first)).transpose()?,
        })
    });
    each.collect()
}

/// Multiplies the rows of `hidden` [tokens, width] by `weights`, one for each, and then all by what brings their mean back to what
/// it was, as AUTOMATIC1111's web UI does (its `EmphasisOriginal`; there the mean is over a whole batch, here over the one window,
/// so that company changes nothing). With weights that are all 1 it is `hidden` itself. Where the mean cannot be brought back,
/// because it became 0, rows are only multiplied.
///
/// # Errors
/// [`ImageError::Input`] when there are not as many weights as rows.
pub fn weigh(hidden: &Tensor, weights: &[f32]) -> Result<Tensor> {
    let (tokens, _) = hidden.dims2()?;
    if tokens != weights.len() {
        return Err(ImageError::Input(format!(
            "{} weights of {tokens} tokens",
            weights.len()
        )));
    }
    if weights.iter().all(|weight| *weight == 1.0) {
        return Ok(hidden.clone());
    }
    let wide = hidden.to_dtype(DType::F32)?;
    let column = Tensor::from_slice(weights, (tokens, 1), hidden.device())?;
    let weighed = wide.broadcast_mul(&column)?;
    let mean = |x: &Tensor| x.mean_all()?.to_scalar::<f32>();
    let ratio = f64::from(mean(&wide)?) / f64::from(mean(&weighed)?);
    let restored = match ratio.is_finite() {
        true => (weighed * ratio)?,
        false => weighed,
    };
    Ok(restored.to_dtype(hidden.dtype())?)
}
