//! What several text encoders made of one prompt, as one text for the denoiser. Apart from `encode`, which knows one encoder.
//! Mirrors `encode_prompt` of diffusers' `StableDiffusionXLPipeline` and `StableDiffusion3Pipeline`. (FLUX needs nothing of it: T5's hidden
//! states and CLIP's pooled embedding go in by themselves.)

use candle_core::{D, Tensor};

use crate::error::{ImageError, Result};

/// What encoders of as many tokens, or of pooled embeddings, gave, each beside the one before it: [.., width of all]. The hidden states
/// of SDXL, and of SD 3's two CLIP encoders; the pooled embeddings of those two.
///
/// # Errors
/// [`ImageError::Candle`] when they have other tokens.
pub fn beside(parts: &[&Tensor]) -> Result<Tensor> {
    Ok(Tensor::cat(parts, D::Minus1)?)
}

/// SD 3's text: `clip` [tokens, width of both CLIP encoders], made as wide as T5's by zeros, and then `t5` [tokens, width].
///
/// # Errors
/// [`ImageError::Input`] when `clip` is wider.
pub fn before_t5(clip: &Tensor, t5: &Tensor) -> Result<Tensor> {
    let ((_, narrow), (_, wide)) = (clip.dims2()?, t5.dims2()?);
    let Some(zeros) = wide.checked_sub(narrow) else {
        return Err(ImageError::Input(format!(
            "CLIP's hidden states are {narrow} wide, more than T5's {wide}"
        )));
    };
    let clip = clip.to_dtype(t5.dtype())?.pad_with_zeros(1, 0, zeros)?;
    Ok(Tensor::cat(&[&clip, t5], 0)?)
}

/// What stands for T5's hidden states in SD 3 where its encoder is left out: zeros [tokens, width], 256 tokens in diffusers. `like` says
/// dtype and device.
///
/// # Errors
/// [`ImageError::Candle`] when the device is out of memory.
pub fn no_t5((tokens, width): (usize, usize), like: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros((tokens, width), like.dtype(), like.device())?)
}
