//! T5's encoder: every token looks at every other, with a bias by distance that the first layer has for all.
//! Mirrors `transformers` models/t5/modeling_t5.py, `T5EncoderModel`.

use candle_core::{DType, Tensor};
use chandler_nn::dense_attention::dense_attention;
use chandler_nn::embedding::Embedding;
use chandler_nn::linear::Linear;
use chandler_nn::norm::{Norm, NormConfig, NormKind};

use super::t5_config::T5Config;
use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::sequences::{exactly, linear, linears};

/// Tokens of a text: four times what any model in use reads, and the bias is as large as heads times this twice, for each text where some are
/// padded with what is not looked at.
const MOST_TOKENS: usize = 1 << 11;

/// The encoder. Padding is looked at as in SD 3 and FLUX, which give no mask, or not, as in PixArt.
pub struct T5Encoder {
    config: T5Config,
    tokens: Embedding,
    /// [buckets, heads], row by row.
    distances: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: Norm,
    activations: DType,
}

struct Layer {
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    feed_norm: Norm,
    /// What the activation goes over.
    gate: Linear,
    /// What it multiplies, in a gated layer.
    up: Option<Linear>,
    down: Linear,
}

/// Texts on their way through the layers.
pub struct Passing {
    /// [texts, tokens, width], in f32: the residual outgrows f16.
    x: Tensor,
    /// [1 or texts, heads, tokens, tokens]
    bias: Tensor,
    done: usize,
}

impl Layer {
    fn load(config: &T5Config, at: &Loader<'_>) -> Result<Self> {
        let (width, inner) = (config.width, config.heads * config.head_dim);
        let (attention, feed) = (at.at("layer").at(0), at.at("layer").at(1));
        let heads = attention.at("SelfAttention");
        let dense = feed.at("DenseReluDense");
        let gate = if config.gated { "wi_0" } else { "wi" };
        Ok(Self {
            attention_norm: wide_norm(config, &attention, "layer_norm")?,
            query: heads.linear("q", width, inner)?,
            key: heads.linear("k", width, inner)?,
            value: heads.linear("v", width, inner)?,
            out: heads.linear("o", inner, width)?,
            feed_norm: wide_norm(config, &feed, "layer_norm")?,
            gate: dense.linear(gate, width, config.feed_forward)?,
            up: match config.gated {
                true => Some(dense.linear("wi_1", width, config.feed_forward)?),
                false => None,
            },
            down: wide_linear(&dense, "wo", (config.feed_forward, width))?,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor, encoder: &T5Encoder) -> Result<Tensor> {
        let T5Encoder {
            config,
            activations,
            ..
        } = encoder;
        let normed = self.attention_norm.forward(x)?.to_dtype(*activations)?;
        let [q, k, v] = exactly(linears(&[&self.query, &self.key, &self.value], &normed)?)?;
        // No scale: T5 has it in its weights.
        let attended = dense_attention((&q, &k, &v), config.heads, 1.0, Some(bias))?;
        let x = (x + linear(&self.out, &attended)?.to_dtype(DType::F32)?)?;
        let normed = self.feed_norm.forward(&x)?.to_dtype(*activations)?;
        let fed = match &self.up {
            Some(up) => {
                let [gate, up] = exactly(linears(&[&self.gate, up], &normed)?)?;
                config.activation.gated(&gate, &up)?
            }
            None => config.activation.forward(&linear(&self.gate, &normed)?)?,
        };
        let wide = linear(&self.down, &fed.to_dtype(wide_dtype(*activations))?)?;
        Ok((x + wide.to_dtype(DType::F32)?)?)
    }

    fn bytes(&self) -> usize {
        let linears = [
            &self.query,
            &self.key,
            &self.value,
            &self.out,
            &self.gate,
            &self.down,
        ];
        let linears: usize = linears.into_iter().map(Linear::bytes).sum();
        let norms = self.attention_norm.bytes() + self.feed_norm.bytes();
        linears + self.up.as_ref().map_or(0, Linear::bytes) + norms
    }
}

impl T5Encoder {
    /// Takes the encoder out of a checkpoint, which may hold a decoder, too.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(config: T5Config, weights: &Loader<'_>) -> Result<Self> {
        const DISTANCES: &str = "layer.0.SelfAttention.relative_attention_bias.weight";
        let encoder = weights.at("encoder");
        // The same table has both names, and a checkpoint one of them or both.
        let tokens = match weights.has("shared.weight") {
            true => weights.embedding("shared", config.vocab_size, config.width)?,
            false => encoder.embedding("embed_tokens", config.vocab_size, config.width)?,
        };
        let block = encoder.at("block");
        let distances = block
            .at(0)
            .stored(DISTANCES, &[config.buckets, config.heads])?;
        Ok(Self {
            tokens,
            distances: distances.to_f32()?,
            layers: (0..config.layers)
                .map(|number| Layer::load(&config, &block.at(number)))
                .collect::<Result<_>>()?,
            final_norm: wide_norm(&config, &encoder, "final_layer_norm")?,
            activations: weights.placement().activations(),
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Bytes of all weights, mapped ones included.
    pub fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let distances = self.distances.len() * size_of::<f32>();
        self.tokens.bytes() + distances + layers + self.final_norm.bytes()
    }

    /// Encodes `texts`, all of as many tokens: [texts, tokens, width], in the activations' dtype. On the CPU what one text gives has
    /// the same bits whatever others there are.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn forward(&self, texts: &[&[u32]]) -> Result<Tensor> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let mut passing = self.begin(texts, &lengths)?;
        while !self.advance(&mut passing)? {}
        self.finish(&passing)
    }

    /// [`forward`](Self::forward) in pieces, so that nobody waits for a whole one: first this, then
    /// [`advance`](Self::advance) until it says so, then [`finish`](Self::finish). `seen` are the tokens of each text that are looked at; what
    /// becomes of the others says nothing.
    ///
    /// # Errors
    /// [`ImageError::Input`] for texts of other lengths, an error of the embedding for an id past the vocabulary.
    pub fn begin(&self, texts: &[&[u32]], seen: &[usize]) -> Result<Passing> {
        let length = texts.first().map_or(0, |text| text.len());
        let fits = (1..=MOST_TOKENS).contains(&length)
            && texts.iter().all(|text| text.len() == length)
            && seen.len() == texts.len()
            && seen.iter().all(|seen| (1..=length).contains(seen));
        if !fits {
            let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
            return Err(ImageError::Input(format!(
                "texts of {lengths:?} tokens, of which {seen:?} are looked at; all of one length from 1 to {MOST_TOKENS} are wanted"
            )));
        }
        let x = self.tokens.forward(&texts.concat())?;
        let x = x.reshape((texts.len(), length, self.config.width))?;
        Ok(Passing {
            bias: self.bias(length, seen, &x)?,
            x: x.to_dtype(DType::F32)?,
            done: 0,
        })
    }

    /// Takes texts through one more layer; true when it was the last.
    ///
    /// # Errors
    /// [`ImageError::Candle`] when the device is out of memory.
    pub fn advance(&self, passing: &mut Passing) -> Result<bool> {
        if let Some(layer) = self.layers.get(passing.done) {
            passing.x = layer.forward(&passing.x, &passing.bias, self)?;
            passing.done += 1;
        }
        Ok(passing.done >= self.layers.len())
    }

    /// The hidden states of texts that are through all layers.
    ///
    /// # Errors
    /// [`ImageError::Input`] when they are not.
    pub fn finish(&self, passing: &Passing) -> Result<Tensor> {
        if passing.done < self.layers.len() {
            return Err(ImageError::Input(format!(
                "texts that are through {} of {} layers",
                passing.done,
                self.layers.len()
            )));
        }
        let normed = self.final_norm.forward(&passing.x)?;
        Ok(normed.to_dtype(self.activations)?)
    }

    /// What is added to scores: [1 or texts, heads, queries, keys], a number for each kind of distance and head, and for keys that are not
    /// looked at the least there is, as in the reference.
    fn bias(&self, length: usize, seen: &[usize], like: &Tensor) -> Result<Tensor> {
        let heads = self.config.heads;
        // One for each distance, from a key `length - 1` before its query on.
        let reach = length as isize - 1;
        let rows: Vec<usize> = (-reach..=reach)
            .map(|distance| self.config.bucket(distance) * heads)
            .collect();
        let mut bias: Vec<f32> = Vec::with_capacity(heads * length * length);
        for head in 0..heads {
            let of_distance: Vec<f32> = rows
                .iter()
                .map(|row| self.distances.get(row + head).copied().unwrap_or_default())
                .collect();
            for query in 0..length {
                let first = length - 1 - query;
                bias.extend(of_distance.iter().skip(first).take(length));
            }
        }
        if seen.iter().all(|seen| *seen == length) {
            let shape = (1, heads, length, length);
            return Ok(Tensor::from_vec(bias, shape, like.device())?);
        }
        let of_text = |seen: &usize| {
            let mut bias = bias.clone();
            for keys in bias.chunks_exact_mut(length) {
                keys.iter_mut().skip(*seen).for_each(|key| *key = f32::MIN);
            }
            bias
        };
        let bias: Vec<f32> = seen.iter().flat_map(of_text).collect();
        let shape = (seen.len(), heads, length, length);
        Ok(Tensor::from_vec(bias, shape, like.device())?)
    }
}

/// A norm that computes in f32 wherever it is: its input is the residual, which outgrows f16.
fn wide_norm(config: &T5Config, at: &Loader<'_>, name: &str) -> Result<Norm> {
    let weight = at.at(name).stored("weight", &[config.width])?;
    let kind = NormConfig {
        kind: NormKind::Rms,
        eps: config.norm_eps,
    };
    Ok(Norm::new(kind, weight, &at.placement().device, DType::F32)?)
}

/// What the last product of a feed-forward layer is computed in: f32 where others are in f16, whose range XXL's outgrow
/// (transformers' `_keep_in_fp32_modules = ["wo"]`).
fn wide_dtype(activations: DType) -> DType {
    match activations {
        DType::F16 => DType::F32,
        other => other,
    }
}

/// A linear layer in [`wide_dtype`]. On the CPU weights stay as they are stored, and activations are f32 anyway.
fn wide_linear(at: &Loader<'_>, name: &str, (inputs, outputs): (usize, usize)) -> Result<Linear> {
    let placement = at.placement();
    if placement.device.is_cpu() {
        return at.linear(name, inputs, outputs);
    }
    let weight = at.at(name).stored("weight", &[outputs, inputs])?;
    let dtype = wide_dtype(placement.activations());
    Ok(Linear::new(weight, None, &placement.device, dtype)?)
}
