//! wav2vec2's encoder: a convolution that tells positions, and layers of attention over whole utterances of any length side by side,
//! with norms before or after their parts. Mirrors `transformers` modeling_wav2vec2.py (Wav2Vec2Encoder and its StableLayerNorm twin).

use std::ops::Range;

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::attention::Span;
use chandler_nn::conv::{Conv1d, Conv1dConfig};
use chandler_nn::full_attention::full_attention;
use chandler_nn::kv_cache::{CacheShape, KvCache};
use chandler_nn::linear::Linear;
use chandler_nn::norm::Norm;
use chandler_nn::weights::HostTensor;

use super::config::CtcConfig;
use crate::error::Result;
use crate::layers::{Loader, Placement};

/// Frames of a block of keys: a multiple of the kernel's tiles.
const BLOCK_SIZE: usize = 64;

/// The encoder.
pub struct Encoder {
    positions: Conv1d,
    activation: Activation,
    norm: Norm,
    layers: Vec<Layer>,
    norm_first: bool,
    heads: usize,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: Norm,
    up: Linear,
    down: Linear,
    final_norm: Norm,
    activation: Activation,
}

/// Where keys and values of one layer lie while it is at work: blocks of every utterance, one after the other.
pub(super) struct Scratch {
    cache: KvCache,
    blocks: Vec<Vec<u32>>,
    slots: Vec<u32>,
}

impl Scratch {
    /// Room for utterances with these rows.
    pub(super) fn new(
        config: &CtcConfig,
        rows: &[Range<usize>],
        placement: &Placement,
    ) -> Result<Self> {
        let mut next = 0u32;
        let (mut blocks, mut slots) = (Vec::new(), Vec::new());
        for rows in rows {
            let first = next * BLOCK_SIZE as u32;
            slots.extend(first..first + rows.len() as u32);
            let end = next + rows.len().div_ceil(BLOCK_SIZE) as u32;
            blocks.push((next..end).collect());
            next = end;
        }
        let shape = CacheShape {
            layers: 1,
            blocks: next.max(1) as usize,
            block_size: BLOCK_SIZE,
            kv_heads: config.heads,
            head_dim: config.width / config.heads,
        };
        let make = match placement.plain {
            true => KvCache::plain,
            false => KvCache::new,
        };
        Ok(Self {
            cache: make(shape, &placement.device, placement.activations())?,
            blocks,
            slots,
        })
    }
}

impl Encoder {
    pub(super) fn load(config: &CtcConfig, loader: &Loader<'_>) -> Result<Self> {
        let settings = Conv1dConfig {
            stride: 1,
            padding: config.position_kernel / 2,
            groups: config.position_groups,
        };
        let bias = loader.tensor("encoder.pos_conv_embed.conv.bias", &[config.width])?;
        let weight = position_weight(config, loader)?;
        let layers = (0..config.layers)
            .map(|index| Layer::load(config, loader, &format!("encoder.layers.{index}")))
            .collect::<Result<_>>()?;
        Ok(Self {
            positions: loader.conv_of(weight, Some(bias), settings)?,
            activation: config.extractor_activation,
            norm: loader.norm("encoder.layer_norm", config.width, config.norm_eps)?,
            layers,
            norm_first: config.norm_first,
            heads: config.heads,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        self.positions.bytes() + self.norm.bytes() + layers
    }

    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Adds positions to utterances [rows, width], whose rows are listed.
    pub(super) fn place(&self, x: &Tensor, utterances: &[Range<usize>]) -> Result<Tensor> {
        let placed = utterances
            .iter()
            .map(|rows| {
                let one = x.narrow(0, rows.start, rows.len())?;
                let seen = self.positions.forward(&one.unsqueeze(0)?)?.squeeze(0)?;
                // An even kernel sees one window more than there are frames; the last is left out.
                let seen = seen.narrow(0, 0, rows.len())?;
                Ok((one + self.activation.forward(&seen.contiguous()?)?)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let x = Tensor::cat(&placed, 0)?;
        match self.norm_first {
            true => Ok(x),
            false => Ok(self.norm.forward(&x)?),
        }
    }

    /// One layer.
    pub(super) fn layer(
        &self,
        index: usize,
        x: &Tensor,
        utterances: &[Range<usize>],
        scratch: &mut Scratch,
    ) -> Result<Tensor> {
        let Some(layer) = self.layers.get(index) else {
            return Ok(x.clone());
        };
        if self.norm_first {
            let attended =
                layer.attend(&layer.norm.forward(x)?, self.heads, utterances, scratch)?;
            let (sum, normed) = layer.final_norm.forward_residual(&attended, x)?;
            return Ok((sum + layer.feed(&normed)?)?);
        }
        let attended = layer.attend(x, self.heads, utterances, scratch)?;
        let (_, normed) = layer.norm.forward_residual(&attended, x)?;
        let (_, normed) = layer
            .final_norm
            .forward_residual(&layer.feed(&normed)?, &normed)?;
        Ok(normed)
    }

    /// What the head reads.
    pub(super) fn finish(&self, x: &Tensor) -> Result<Tensor> {
        match self.norm_first {
            true => Ok(self.norm.forward(x)?),
            false => Ok(x.clone()),
        }
    }
}

/// The weight of the convolution that tells positions. It is stored as directions `v` and lengths `g`, a length for each place of the
/// kernel (torch's weight_norm over dimension 2): by torch's older names, its newer ones, or multiplied out.
fn position_weight(config: &CtcConfig, loader: &Loader<'_>) -> Result<HostTensor> {
    const NAMES: [[&str; 2]; 2] = [
        [
            "parametrizations.weight.original0",
            "parametrizations.weight.original1",
        ],
        ["weight_g", "weight_v"],
    ];
    let base = "encoder.pos_conv_embed.conv";
    let (width, kernel) = (config.width, config.position_kernel);
    let shape = [width, width / config.position_groups, kernel];
    let there = |names: &&[&str; 2]| loader.has(&format!("{base}.{}", names[0]));
    let Some([lengths, directions]) = NAMES.iter().find(there) else {
        return loader.tensor(&format!("{base}.weight"), &shape);
    };
    let lengths = loader
        .tensor(&format!("{base}.{lengths}"), &[1, 1, kernel])?
        .to_f32()?;
    let tensor = loader.tensor(&format!("{base}.{directions}"), &shape)?;
    let mut weight = tensor.to_f32()?;
    let mut squares = vec![0.0f64; kernel];
    for row in weight.chunks_exact(kernel) {
        for (square, x) in squares.iter_mut().zip(row) {
            *square += f64::from(*x) * f64::from(*x);
        }
    }
    for row in weight.chunks_exact_mut(kernel) {
        for ((x, square), length) in row.iter_mut().zip(&squares).zip(&lengths) {
            *x = (f64::from(*x) / square.sqrt() * f64::from(*length)) as f32;
        }
    }
    let bytes = weight.iter().flat_map(|x| x.to_le_bytes()).collect();
    let made = HostTensor::from_bytes(
        tensor.name(),
        candle_core::DType::F32,
        shape.to_vec(),
        bytes,
    )?;
    Ok(made.with_roster(tensor.roster().cloned()))
}

impl Layer {
    fn load(config: &CtcConfig, loader: &Loader<'_>, base: &str) -> Result<Self> {
        let (width, inside) = (config.width, config.feed_forward);
        let linear =
            |name: &str| loader.linear(&format!("{base}.attention.{name}"), [width, width], true);
        let norm = |name: &str| loader.norm(&format!("{base}.{name}"), width, config.norm_eps);
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            output: linear("out_proj")?,
            norm: norm("layer_norm")?,
            up: loader.linear(
                &format!("{base}.feed_forward.intermediate_dense"),
                [inside, width],
                true,
            )?,
            down: loader.linear(
                &format!("{base}.feed_forward.output_dense"),
                [width, inside],
                true,
            )?,
            final_norm: norm("final_layer_norm")?,
            activation: config.activation,
        })
    }

    fn bytes(&self) -> usize {
        let linears = [
            &self.query,
            &self.key,
            &self.value,
            &self.output,
            &self.up,
            &self.down,
        ];
        let linears: usize = linears.into_iter().map(Linear::bytes).sum();
        linears + self.norm.bytes() + self.final_norm.bytes()
    }

    fn attend(
        &self,
        x: &Tensor,
        heads: usize,
        utterances: &[Range<usize>],
        scratch: &mut Scratch,
    ) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let made = Linear::forward_many(&[&self.query, &self.key, &self.value], x)?;
        let parted = made
            .into_iter()
            .map(|y| y.reshape((rows, heads, ())))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let [query, key, value] = parted.as_slice() else {
            return Err(candle_core::Error::msg("three projections gave another number").into());
        };
        scratch.cache.write(0, key, value, &scratch.slots)?;
        let spans: Vec<Span<'_>> = utterances
            .iter()
            .zip(&scratch.blocks)
            .map(|(rows, blocks)| Span {
                rows: rows.clone(),
                context: rows.len(),
                blocks,
            })
            .collect();
        let scale = 1.0 / (query.dim(2)? as f32).sqrt();
        let attended = full_attention(query, &scratch.cache, 0, &spans, scale)?;
        Ok(self.output.forward(&attended)?)
    }

    fn feed(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.activation.forward(&self.up.forward(x)?)?;
        Ok(self.down.forward(&x)?)
    }
}
