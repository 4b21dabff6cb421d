//! config.json of a CLIP text encoder: its sizes, checked, and which token it pools. Apart from the model, which only computes.
//! Mirrors `transformers` models/clip/configuration_clip.py, `CLIPTextConfig`.

use std::str::FromStr;

use chandler_nn::activation::Activation;
use chandler_nn::error::NnError;
use chandler_nn::fields::Fields;

use crate::error::{ImageError, Result};

/// Sizes past these are a damaged or hostile file; the largest model in use (OpenCLIP bigG: 1280 wide, 32 layers) is a tenth of
/// them or less.
pub(crate) const MOST_WIDTH: usize = 1 << 14;
pub(crate) const MOST_LAYERS: usize = 1 << 8;
const MOST_VOCAB: usize = 1 << 21;
const MOST_POSITIONS: usize = 1 << 12;

/// What `CLIPTextConfig` has for what is not written.
const DEFAULT_POSITIONS: usize = 77;
const DEFAULT_PROJECTION: usize = 512;
const DEFAULT_EPS: f64 = 1e-5;
const DEFAULT_ACTIVATION: &str = "quick_gelu";
const DEFAULT_EOS: u32 = 49407;
/// What configurations written before transformers' pull request 24773 say for the end of a text, whatever it is.
const LEGACY_EOS: u32 = 2;

/// Which of transformers' classes a checkpoint is of, as model_index.json says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipClass {
    /// `CLIPTextModel`: SD 1 and 2, the first encoder of SDXL, FLUX.
    Plain,
    /// `CLIPTextModelWithProjection`: the second encoder of SDXL, both of SD 3.
    Projected,
}

impl FromStr for ClipClass {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "CLIPTextModel" => Ok(Self::Plain),
            "CLIPTextModelWithProjection" => Ok(Self::Projected),
            other => Err(ImageError::Input(format!(
                "text encoder of class `{other}`; CLIPTextModel and CLIPTextModelWithProjection are CLIP's"
            ))),
        }
    }
}

/// Which token of a text its pooled embedding is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first of those with the highest id: configurations with an `eos_token_id` of 2, whatever the text ends with.
    HighestId,
    /// The first with this id; the first token of all where there is none.
    FirstOf(u32),
}

/// The sizes of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LayerSizes {
    /// Width of the residual stream.
    pub(crate) width: usize,
    /// Width inside the feed-forward layer.
    pub(crate) feed_forward: usize,
    /// Attention heads, which divide the width.
    pub(crate) heads: usize,
    /// The feed-forward layer's activation.
    pub(crate) activation: Activation,
    /// Added to the norms' variance.
    pub(crate) norm_eps: f64,
}

impl LayerSizes {
    /// Reads the fields that the configurations of both encoders have.
    pub(crate) fn read(fields: &Fields) -> Result<Self> {
        let width = fields.needed_size("hidden_size", MOST_WIDTH)?;
        let heads = fields.needed_size("num_attention_heads", MOST_WIDTH)?;
        if !width.is_multiple_of(heads) {
            let message = format!("{heads} does not divide hidden_size, {width}");
            return Err(fields.fault("num_attention_heads", message).into());
        }
        Ok(Self {
            width,
            feed_forward: fields.needed_size("intermediate_size", MOST_WIDTH * 4)?,
            heads,
            activation: activation(fields)?,
            norm_eps: norm_eps(fields)?,
        })
    }
}

/// The sizes of a CLIP text encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipConfig {
    /// Tokens that the embedding has rows for.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the feed-forward layer.
    pub feed_forward: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads of each.
    pub heads: usize,
    /// Tokens of a text, begin, end and padding included.
    pub positions: usize,
    /// The feed-forward layers' activation.
    pub activation: Activation,
    /// Added to the norms' variance.
    pub norm_eps: f64,
    /// What the pooled embedding is of.
    pub pooling: Pooling,
    /// Width of the pooled embedding's projection, where the class has one.
    pub projection: Option<usize>,
}

impl ClipConfig {
    /// Reads the fields of a config.json.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn read(fields: &Fields, class: ClipClass) -> Result<Self> {
        if fields.flag("use_attention_mask")? == Some(true) {
            let message = "true is not supported; padding is looked at in the models that are";
            return Err(fields.fault("use_attention_mask", message).into());
        }
        let LayerSizes {
            width,
            feed_forward,
            heads,
            activation,
            norm_eps,
        } = LayerSizes::read(fields)?;
        let projection = fields
            .size("projection_dim", MOST_WIDTH)?
            .unwrap_or(DEFAULT_PROJECTION);
        Ok(Self {
            vocab_size: fields.needed_size("vocab_size", MOST_VOCAB)?,
            width,
            feed_forward,
            layers: fields.needed_size("num_hidden_layers", MOST_LAYERS)?,
            heads,
            positions: positions(fields)?,
            activation,
            norm_eps,
            pooling: match fields.id("eos_token_id", u32::MAX as usize)? {
                Some(LEGACY_EOS) => Pooling::HighestId,
                other => Pooling::FirstOf(other.unwrap_or(DEFAULT_EOS)),
            },
            projection: (class == ClipClass::Projected).then_some(projection),
        })
    }
}

impl ClipConfig {
    /// Of each layer.
    pub(crate) fn layer(&self) -> LayerSizes {
        LayerSizes {
            width: self.width,
            feed_forward: self.feed_forward,
            heads: self.heads,
            activation: self.activation,
            norm_eps: self.norm_eps,
        }
    }
}

fn positions(fields: &Fields) -> Result<usize> {
    const NAME: &str = "max_position_embeddings";
    let positions = fields
        .size(NAME, MOST_POSITIONS)?
        .unwrap_or(DEFAULT_POSITIONS);
    if positions < 3 {
        let message = format!("{positions} leaves no room between begin and end; 77 is usual");
        return Err(fields.fault(NAME, message).into());
    }
    Ok(positions)
}

fn activation(fields: &Fields) -> Result<Activation> {
    const NAME: &str = "hidden_act";
    let name = fields.text(NAME)?.unwrap_or(DEFAULT_ACTIVATION);
    name.parse()
        .map_err(|error: NnError| fields.fault(NAME, error.to_string()).into())
}

fn norm_eps(fields: &Fields) -> Result<f64> {
    const NAME: &str = "layer_norm_eps";
    let eps = fields.number(NAME)?.unwrap_or(DEFAULT_EPS);
    if !(eps > 0.0 && eps < 1.0) {
        let message = format!("{eps} is not between 0 and 1; {DEFAULT_EPS} is usual");
        return Err(fields.fault(NAME, message).into());
    }
    Ok(eps)
}
