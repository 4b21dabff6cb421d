//! From a checkpoint to the decoder: tensors by the family's names, in the layouts that checkpoints have.
//! Apart from the layers so that they do not know what anything was called or how it was packed.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use chandler_nn::embedding::Embedding;
use chandler_nn::linear::Linear;
use chandler_nn::lora::{Module, Part, Projection};
use chandler_nn::norm::{Norm, NormKind};
use chandler_nn::rope::Rope;
use chandler_nn::weights::{HostTensor, TensorSource};

use super::attention::{Attention, QueryKeyNorms};
use super::experts::Experts;
use super::feed_forward::{FeedForward, Gated};
use super::{Decoder, Layer};
use crate::config::{
    DecoderConfig, ExpertsConfig, FeedForwardConfig, LayerConfig, LayerNames, Packing, QueryKeyNorm,
};
use crate::error::{Result, TextError};

/// Where a layer keeps its experts, and what an expert's gate, up and down are called.
const EXPERT_BLOCKS: [&str; 2] = ["mlp", "block_sparse_moe"];
const EXPERT_PARTS: [[&str; 3]; 2] = [["gate_proj", "up_proj", "down_proj"], ["w1", "w3", "w2"]];

/// Takes tensors by name and checks their shapes before anything is built from them.
pub(super) struct Loader<'a> {
    config: &'a DecoderConfig,
    source: &'a dyn TensorSource,
    device: &'a Device,
    dtype: DType,
    /// What the names in this checkpoint begin with.
    prefix: &'static str,
    /// Whether layers are candle tensors on the CPU, too.
    plain: bool,
}

/// What linear layers of one input are read as.
struct Wanted<'a> {
    packing: Packing,
    /// Outputs of each.
    outputs: &'a [usize],
    inputs: usize,
    bias: bool,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        config: &'a DecoderConfig,
        source: &'a dyn TensorSource,
        device: &'a Device,
        dtype: DType,
    ) -> Self {
        let names = &config.names;
        let holds =
            |prefix: &&&str| source.contains(&format!("{prefix}{}.weight", names.embedding));
        let prefix = names.prefixes.iter().find(holds).or(names.prefixes.first());
        Self {
            config,
            source,
            device,
            dtype,
            prefix: prefix.copied().unwrap_or_default(),
            plain: false,
        }
    }

    /// The same in candle tensors on any device.
    pub(super) fn plain(self) -> Self {
        Self {
            plain: true,
            ..self
        }
    }

    pub(super) fn embedding_name(&self) -> String {
        format!("{}{}.weight", self.prefix, self.config.names.embedding)
    }

    pub(super) fn decoder(&self) -> Result<Decoder> {
        let config = self.config;
        let table = self.tensor(
            &self.embedding_name(),
            &[config.vocab_size, config.hidden_size],
        )?;
        let embedding = self.embedding(table)?;
        let positions = self.positions()?;
        let layers = config.layers.iter().enumerate();
        let layers = layers
            .map(|(index, layer)| self.layer(index, layer))
            .collect::<Result<_>>()?;
        let final_norm = format!("{}{}", self.prefix, config.names.final_norm);
        let norm = self.norm(&final_norm, config.hidden_size)?;
        // A checkpoint that says "tied" and carries a head all the same is tied in transformers, too.
        let head = match config.tied {
            true => embedding.tied_head()?,
            false => self.head()?,
        };
        let ropes = config.ropes.iter().map(|rope| Rope::new(rope, self.device));
        Ok(Decoder {
            embedding_scale: config
                .embedding_scale
                .map(|scale| rounded(scale, self.dtype))
                .transpose()?,
            embedding,
            positions,
            layers,
            norm,
            head: self.adaptable_head(head),
            tied: config.tied,
            final_softcap: config.final_softcap,
            plain: self.plain,
            ropes: ropes.collect::<Result<_, _>>()?,
            device: self.device.clone(),
            dtype: self.dtype,
        })
    }

    fn positions(&self) -> Result<Option<Embedding>> {
        let config = self.config;
        let (Some(name), Some(rows)) = (config.names.positions, config.learned_positions) else {
            return Ok(None);
        };
        let name = format!("{}{name}.weight", self.prefix);
        let table = self.tensor(&name, &[rows, config.hidden_size])?;
        Ok(Some(self.embedding(table)?))
    }

    fn adaptable_head(&self, head: Linear) -> Projection {
        let names = self.config.names.heads.iter();
        let module = Module {
            names: names.map(|name| (*name).to_owned()).collect(),
            inputs: head.inputs(),
            outputs: head.outputs(),
            head: true,
        };
        let part = Part {
            outputs: 0..module.outputs,
            module: Arc::new(module),
        };
        Projection::new(head, part)
    }

    fn head(&self) -> Result<Linear> {
        let heads = self.config.names.heads;
        let there = |name: &&&str| self.source.contains(&format!("{name}.weight"));
        let name = heads.iter().find(there).or(heads.first());
        let name = format!("{}.weight", name.copied().unwrap_or_default());
        let shape = [self.config.vocab_size, self.config.hidden_size];
        self.linear(self.tensor(&name, &shape)?, None)
    }

    fn layer(&self, index: usize, layer: &LayerConfig) -> Result<Layer> {
        let base = format!("{}{}.{index}.", self.prefix, self.config.names.layers);
        let names = &self.config.names.layer;
        let norm = |name: Option<&str>| {
            name.map(|name| self.norm(&format!("{base}{name}"), self.config.hidden_size))
                .transpose()
        };
        Ok(Layer {
            before_attention: norm(names.before_attention)?,
            attention: self.attention(&base, layer)?,
            after_attention: norm(names.after_attention)?,
            before_feed_forward: norm(names.before_feed_forward)?,
            feed_forward: self.feed_forward(&base, layer)?,
            after_feed_forward: norm(names.after_feed_forward)?,
        })
    }

    fn attention(&self, base: &str, layer: &LayerConfig) -> Result<Attention> {
        let config = self.config;
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let wanted = Wanted {
            packing: self.names().query_key_value,
            outputs: &[queries, keys, keys],
            inputs: config.hidden_size,
            bias: config.qkv_bias,
        };
        let [query, key, value] = self.linears(base, &wanted)?;
        let wanted = Wanted {
            packing: Packing::Together(self.names().output),
            outputs: &[config.hidden_size],
            inputs: queries,
            bias: config.output_bias,
        };
        let [output] = self.linears(base, &wanted)?;
        let norms = config.query_key_norm.map(|over| {
            let (of_queries, of_keys) = match over {
                QueryKeyNorm::Head => (config.head_dim, config.head_dim),
                QueryKeyNorm::All => (queries, keys),
            };
            Ok::<_, TextError>(QueryKeyNorms {
                over,
                query: self.norm(&format!("{base}{}", self.names().query_norm), of_queries)?,
                key: self.norm(&format!("{base}{}", self.names().key_norm), of_keys)?,
            })
        });
        Ok(Attention {
            query,
            key,
            value,
            output,
            norms: norms.transpose()?,
            rope: layer.rope,
            config: layer.attention,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        })
    }

    fn feed_forward(&self, base: &str, layer: &LayerConfig) -> Result<FeedForward> {
        let (hidden, bias) = (self.config.hidden_size, self.config.mlp_bias);
        let names = self.names();
        let down = |width| {
            let [down] = self.linears(
                base,
                &Wanted {
                    packing: Packing::Together(names.down),
                    outputs: &[hidden],
                    inputs: width,
                    bias,
                },
            )?;
            Ok::<_, TextError>(down)
        };
        let up = |outputs| Wanted {
            packing: names.up,
            outputs,
            inputs: hidden,
            bias,
        };
        match layer.feed_forward {
            FeedForwardConfig::Gated { width } => {
                let [gate, up] = self.linears(base, &up(&[width, width]))?;
                Ok(FeedForward::Gated(Gated {
                    gate,
                    up,
                    down: down(width)?,
                    activation: self.config.activation,
                }))
            }
            FeedForwardConfig::Plain { width } => {
                let [up] = self.linears(base, &up(&[width]))?;
                Ok(FeedForward::Plain {
                    up,
                    down: down(width)?,
                    activation: self.config.activation,
                })
            }
            FeedForwardConfig::Experts(experts) => {
                Ok(FeedForward::Experts(self.experts(base, &experts)?))
            }
        }
    }

    /// Experts as checkpoints are published, a tensor for each projection of each, and as transformers 5 has them in memory, a
    /// tensor for all: gate_up_proj [experts, gate and up, hidden] and down_proj [experts, hidden, width].
    fn experts(&self, base: &str, config: &ExpertsConfig) -> Result<Experts> {
        let router = |block: &str| format!("{base}{block}.gate.weight");
        let there = |block: &&&str| self.source.contains(&router(block));
        let blocks = EXPERT_BLOCKS.iter().find(there).or(EXPERT_BLOCKS.first());
        let block = blocks.copied().unwrap_or_default();
        let hidden = self.config.hidden_size;
        let weight = self.tensor(&router(block), &[config.count, hidden])?;
        let all = format!("{base}{block}.experts");
        let experts = match self.source.contains(&format!("{all}.gate_up_proj")) {
            true => self.stacked(&all, config)?,
            false => (0..config.count)
                .map(|expert| self.expert(&format!("{all}.{expert}."), config))
                .collect::<Result<_>>()?,
        };
        Ok(Experts {
            router: self.linear(weight, None)?.into(),
            experts,
            per_token: config.per_token,
            normalised: config.normalised,
        })
    }

    fn expert(&self, base: &str, config: &ExpertsConfig) -> Result<Gated> {
        let there =
            |parts: &&[&str; 3]| self.source.contains(&format!("{base}{}.weight", parts[0]));
        let [first, _] = &EXPERT_PARTS;
        let [gate, up, down] = *EXPERT_PARTS.iter().find(there).unwrap_or(first);
        let hidden = self.config.hidden_size;
        let weight = |part: &str, shape: &[usize]| {
            let weight = self.tensor(&format!("{base}{part}.weight"), shape)?;
            Ok::<Projection, TextError>(self.linear(weight, None)?.into())
        };
        Ok(Gated {
            gate: weight(gate, &[config.width, hidden])?,
            up: weight(up, &[config.width, hidden])?,
            down: weight(down, &[hidden, config.width])?,
            activation: self.config.activation,
        })
    }

    fn stacked(&self, all: &str, config: &ExpertsConfig) -> Result<Vec<Gated>> {
        let (hidden, width) = (self.config.hidden_size, config.width);
        let up = self.tensor(
            &format!("{all}.gate_up_proj"),
            &[config.count, 2 * width, hidden],
        )?;
        let down = self.tensor(&format!("{all}.down_proj"), &[config.count, hidden, width])?;
        (0..config.count)
            .map(|expert| {
                let both = up.at(expert)?;
                Ok(Gated {
                    gate: self.linear(both.rows(0, width)?, None)?.into(),
                    up: self.linear(both.rows(width, width)?, None)?.into(),
                    down: self.linear(down.at(expert)?, None)?.into(),
                    activation: self.config.activation,
                })
            })
            .collect()
    }

    fn names(&self) -> &LayerNames {
        &self.config.names.layer
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let tensor = self.source.tensor(name)?;
        tensor.expect_shape(shape)?;
        Ok(tensor)
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        let make = match self.plain {
            true => Linear::plain,
            false => Linear::new,
        };
        Ok(make(weight, bias, self.device, self.dtype)?)
    }

    fn embedding(&self, table: HostTensor) -> Result<Embedding> {
        let make = match self.plain {
            true => Embedding::plain,
            false => Embedding::new,
        };
        Ok(make(table, self.device, self.dtype)?)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        let weight = self.tensor(&format!("{name}.weight"), &[width])?;
        let make = match self.plain {
            true => Norm::plain,
            false => Norm::new,
        };
        let norm = make(self.config.norm, weight, self.device, self.dtype)?;
        match self.config.norm.kind {
            NormKind::Layer => Ok(norm.with_bias(self.tensor(&format!("{name}.bias"), &[width])?)?),
            NormKind::Rms | NormKind::RmsUnitOffset => Ok(norm),
        }
    }

    /// Linear layers of one input, however they are packed and turned.
    fn linears<const N: usize>(&self, base: &str, wanted: &Wanted<'_>) -> Result<[Projection; N]> {
        let layers = match wanted.packing {
            Packing::Apart(names) => {
                let layers = names.iter().zip(wanted.outputs);
                let layers =
                    layers.map(|(name, outputs)| self.parts(base, name, &[*outputs], wanted));
                layers.collect::<Result<Vec<_>>>()?.concat()
            }
            Packing::Together(name) => self.parts(base, name, wanted.outputs, wanted)?,
        };
        layers.try_into().map_err(|layers: Vec<Projection>| {
            candle_core::Error::msg(format!("{} layers where {N} are wanted", layers.len())).into()
        })
    }

    /// A tensor with the rows of one layer or more, as so many layers.
    fn parts(
        &self,
        base: &str,
        name: &str,
        outputs: &[usize],
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Projection>> {
        let all = outputs.iter().sum();
        let (weight, bias) = self.matrix(&format!("{base}{name}"), all, wanted)?;
        let module = Arc::new(Module {
            names: self.paths(base, name),
            inputs: wanted.inputs,
            outputs: all,
            head: false,
        });
        let mut start = 0;
        let layers = outputs.iter().map(|outputs| {
            let rows = start..start + outputs;
            let weight = weight.rows(rows.start, rows.len())?;
            let bias = bias.as_ref().map(|bias| bias.rows(rows.start, rows.len()));
            start = rows.end;
            let linear = self.linear(weight, bias.transpose()?)?;
            let module = Arc::clone(&module);
            Ok(Projection::new(
                linear,
                Part {
                    module,
                    outputs: rows,
                },
            ))
        });
        layers.collect()
    }

    /// What classes call a layer, whatever this checkpoint does: the one in use now first.
    fn paths(&self, base: &str, name: &str) -> Vec<String> {
        let rest = base.strip_prefix(self.prefix).unwrap_or(base);
        let prefixes = self.config.names.prefixes.iter();
        prefixes
            .map(|prefix| format!("{prefix}{rest}{name}"))
            .collect()
    }

    /// A weight as [out, in], and its bias.
    fn matrix(
        &self,
        name: &str,
        outputs: usize,
        wanted: &Wanted<'_>,
    ) -> Result<(HostTensor, Option<HostTensor>)> {
        let weight = format!("{name}.weight");
        let weight = match self.names().transposed {
            true => self
                .tensor(&weight, &[wanted.inputs, outputs])?
                .transposed()?,
            false => self.tensor(&weight, &[outputs, wanted.inputs])?,
        };
        let bias = match wanted.bias {
            true => Some(self.tensor(&format!("{name}.bias"), &[outputs])?),
            false => None,
        };
        Ok((weight, bias))
    }
}

/// As transformers rounds √hidden_size: to the dtype of the embedding that it multiplies.
fn rounded(scale: f64, dtype: DType) -> Result<f64> {
    let scale = Tensor::new(scale as f32, &Device::Cpu)?.to_dtype(dtype)?;
    Ok(scale.to_dtype(DType::F64)?.to_scalar()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedding_scale_is_rounded_to_the_dtype_of_the_embedding() {
        // modeling_gemma2.py has this example in a comment.
        let of = |dtype| rounded(3072f64.sqrt(), dtype).unwrap();
        assert_eq!(of(DType::BF16), 55.5);
        assert!((of(DType::F32) - 55.4256).abs() < 1e-4);
    }
}
