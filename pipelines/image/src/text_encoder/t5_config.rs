//! config.json of a T5 text encoder: its sizes, checked. Apart from the model, which only computes.
//! Mirrors `transformers` models/t5/configuration_t5.py, `T5Config`.

use chandler_nn::activation::Activation;
use chandler_nn::error::NnError;
use chandler_nn::fields::Fields;

use crate::error::Result;

/// Sizes past these are a damaged or hostile file; the largest encoder in use (XXL: 4096 wide, 24 layers) is a tenth of them or less.
const MOST_WIDTH: usize = 1 << 16;
const MOST_LAYERS: usize = 1 << 8;
const MOST_VOCAB: usize = 1 << 21;
const MOST_HEADS: usize = 1 << 8;
const MOST_BUCKETS: usize = 1 << 12;

/// What `T5Config` has for what is not written.
const DEFAULT_BUCKETS: usize = 32;
const DEFAULT_DISTANCE: usize = 128;
const DEFAULT_EPS: f64 = 1e-6;
const DEFAULT_FEED_FORWARD: &str = "relu";

/// The sizes of a T5 encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Config {
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
    /// Width of a head; all heads together may be wider than the residual stream, or narrower.
    pub head_dim: usize,
    /// Kinds of distance between two tokens, half of them for each direction.
    pub buckets: usize,
    /// Distance from which on all are of one kind.
    pub max_distance: usize,
    /// The feed-forward layers' activation.
    pub activation: Activation,
    /// Whether the activation gates a second product, as in T5 1.1.
    pub gated: bool,
    /// Added to the norms' variance.
    pub norm_eps: f64,
}

impl T5Config {
    /// Reads the fields of a config.json.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn read(fields: &Fields) -> Result<Self> {
        if fields.flag("is_decoder")? == Some(true) {
            let message = "true is not supported; a text encoder is none";
            return Err(fields.fault("is_decoder", message).into());
        }
        let (activation, gated) = feed_forward(fields)?;
        let buckets = fields
            .size("relative_attention_num_buckets", MOST_BUCKETS)?
            .unwrap_or(DEFAULT_BUCKETS);
        if !buckets.is_multiple_of(4) {
            let message = format!("{buckets} is no multiple of 4; 32 is usual");
            return Err(fields
                .fault("relative_attention_num_buckets", message)
                .into());
        }
        let max_distance = fields
            .size("relative_attention_max_distance", MOST_WIDTH)?
            .unwrap_or(DEFAULT_DISTANCE);
        if max_distance <= buckets / 4 {
            let message = format!("{max_distance} is not past the {} exact ones", buckets / 4);
            return Err(fields
                .fault("relative_attention_max_distance", message)
                .into());
        }
        let norm_eps = fields.number("layer_norm_epsilon")?.unwrap_or(DEFAULT_EPS);
        if !(norm_eps > 0.0 && norm_eps < 1.0) {
            let message = format!("{norm_eps} is not between 0 and 1; {DEFAULT_EPS} is usual");
            return Err(fields.fault("layer_norm_epsilon", message).into());
        }
        Ok(Self {
            vocab_size: fields.needed_size("vocab_size", MOST_VOCAB)?,
            width: fields.needed_size("d_model", MOST_WIDTH)?,
            feed_forward: fields.needed_size("d_ff", MOST_WIDTH * 4)?,
            layers: fields.needed_size("num_layers", MOST_LAYERS)?,
            heads: fields.needed_size("num_heads", MOST_HEADS)?,
            head_dim: fields.needed_size("d_kv", MOST_BUCKETS)?,
            buckets,
            max_distance,
            activation,
            gated,
            norm_eps,
        })
    }

    /// The kind of distance from a query to a key `distance` tokens after it: `T5Attention._relative_position_bucket`, both ways.
    pub fn bucket(&self, distance: isize) -> usize {
        let one_way = self.buckets / 2;
        let exact = one_way / 2;
        let after = if distance > 0 { one_way } else { 0 };
        let far = distance.unsigned_abs();
        if far < exact {
            return after + far;
        }
        // In f32, in the order of the reference, so that distances at an edge fall to the same side.
        let spread = (self.max_distance as f64 / exact as f64).ln() as f32;
        let share = (far as f32 / exact as f32).ln() / spread * (one_way - exact) as f32;
        after + (exact + share as usize).min(one_way - 1)
    }
}

/// `gated-gelu`, `relu`: whether it is gated, and with what.
fn feed_forward(fields: &Fields) -> Result<(Activation, bool)> {
    const NAME: &str = "feed_forward_proj";
    let written = fields.text(NAME)?.unwrap_or(DEFAULT_FEED_FORWARD);
    let (name, gated) = match written.strip_prefix("gated-") {
        // transformers' word for T5 1.1's activation, which is the tanh approximation.
        Some("gelu") => ("gelu_new", true),
        Some(name) => (name, true),
        None => (written, false),
    };
    let activation = name
        .parse()
        .map_err(|error: NnError| fields.fault(NAME, error.to_string()))?;
    Ok((activation, gated))
}
