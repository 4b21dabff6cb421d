//! config.json of FLUX's transformer: its sizes, checked. Apart from the model, which only computes.
//! Mirrors the arguments of `diffusers` transformer_flux.py, `FluxTransformer2DModel`.

use chandler_nn::fields::Fields;

use super::config::{Heads, MOST_CHANNELS, MOST_LAYERS, MOST_PATCH, MOST_WIDTH, numbers};
use crate::error::Result;

/// The sizes of a FLUX transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct FluxConfig {
    /// Width of a packed latent: 64.
    pub inputs: usize,
    /// Width of what is given for one, `patch_size²` times `out_channels`.
    pub outputs: usize,
    /// Blocks of two sequences.
    pub joint_layers: usize,
    /// Blocks of one sequence.
    pub single_layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Width of T5's hidden states.
    pub text_width: usize,
    /// Width of CLIP's pooled embedding.
    pub pooled_width: usize,
    /// Whether the guidance scale is an input: dev, not schnell.
    pub guided: bool,
    /// Numbers of a head that turn with each axis; together the whole head.
    pub axes: [usize; 3],
}

impl FluxConfig {
    /// Reads the fields of a config.json.
    ///
    /// # Errors
    /// Names the field that is absurd or asks for something that is not supported.
    pub fn read(fields: &Fields) -> Result<Self> {
        const AXES: &str = "axes_dims_rope";
        let size = |name: &str, most, default| -> Result<usize> {
            Ok(fields.size(name, most)?.unwrap_or(default))
        };
        let heads = Heads::read(
            fields,
            Heads {
                count: 24,
                dim: 128,
            },
        )?;
        let listed = numbers(fields, AXES, MOST_WIDTH)?.unwrap_or_else(|| vec![16, 56, 56]);
        let axes = <[usize; 3]>::try_from(listed.as_slice())
            .ok()
            .filter(|axes| {
                axes.iter().all(|dim| dim.is_multiple_of(2))
                    && axes.iter().sum::<usize>() == heads.dim
            });
        let Some(axes) = axes else {
            let message = format!(
                "{listed:?} are not three even numbers whose sum is attention_head_dim, {}",
                heads.dim
            );
            return Err(fields.fault(AXES, message).into());
        };
        let inputs = size("in_channels", MOST_CHANNELS, 64)?;
        let patch = size("patch_size", MOST_PATCH, 1)?;
        Ok(Self {
            inputs,
            outputs: patch * patch * size("out_channels", MOST_CHANNELS, inputs)?,
            joint_layers: size("num_layers", MOST_LAYERS, 19)?,
            single_layers: size("num_single_layers", MOST_LAYERS, 38)?,
            heads,
            text_width: size("joint_attention_dim", MOST_WIDTH, 4096)?,
            pooled_width: size("pooled_projection_dim", MOST_WIDTH, 768)?,
            guided: fields.flag("guidance_embeds")?.unwrap_or(false),
            axes,
        })
    }
}
