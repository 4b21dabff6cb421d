//! The decoder that every family is a setting of: embedding, layers of attention and gated feed-forward, norm, head.
//! Mirrors `transformers` modeling_llama.py (LlamaForCausalLM) and modeling_qwen2.py, over ragged rows of many sequences.

use candle_core::{DType, Device, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::attention::{AttentionConfig, Span, paged_attention};
use chandler_nn::embedding::Embedding;
use chandler_nn::kv_cache::KvCache;
use chandler_nn::linear::Linear;
use chandler_nn::norm::RmsNorm;
use chandler_nn::rope::{Rope, Rotation};
use chandler_nn::weights::{HostTensor, TensorSource};

use crate::config::DecoderConfig;
use crate::error::Result;

/// Rows that go through the model together: every sequence's new tokens, one sequence after the other.
pub struct Pass<'a> {
    /// Token of each row.
    pub tokens: &'a [u32],
    /// Position of each row in its sequence.
    pub positions: &'a [u32],
    /// Cache slot of each row.
    pub slots: &'a [u32],
    /// The sequences.
    pub spans: &'a [Span<'a>],
    /// Rows whose logits are wanted, ascending.
    pub wanted: &'a [u32],
}

/// The model.
pub struct Decoder {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    rope: Rope,
    attention: AttentionConfig,
    device: Device,
}

struct Layer {
    input_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    post_attention_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// Where in a pass a layer works.
#[derive(Clone, Copy)]
struct At<'a> {
    index: usize,
    pass: &'a Pass<'a>,
    rotation: &'a Rotation,
}

/// Takes tensors by name and checks their shapes before anything is built from them.
struct Loader<'a> {
    source: &'a dyn TensorSource,
    device: &'a Device,
    dtype: DType,
}

impl Loader<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let tensor = self.source.tensor(name)?;
        tensor.expect_shape(shape)?;
        Ok(tensor)
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = match bias {
            true => Some(self.tensor(&format!("{name}.bias"), &[outputs])?),
            false => None,
        };
        Ok(Linear::new(weight, bias, self.device, self.dtype)?)
    }

    fn norm(&self, name: &str, config: &DecoderConfig) -> Result<RmsNorm> {
        let weight = self.tensor(&format!("{name}.weight"), &[config.hidden_size])?;
        Ok(RmsNorm::new(
            weight,
            config.norm_eps,
            self.device,
            self.dtype,
        )?)
    }

    fn layer(&self, index: usize, config: &DecoderConfig) -> Result<Layer> {
        let at = |name: &str| format!("model.layers.{index}.{name}");
        let (hidden, ffn) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        Ok(Layer {
            input_norm: self.norm(&at("input_layernorm"), config)?,
            query: self.linear(&at("self_attn.q_proj"), queries, hidden, config.qkv_bias)?,
            key: self.linear(&at("self_attn.k_proj"), keys, hidden, config.qkv_bias)?,
            value: self.linear(&at("self_attn.v_proj"), keys, hidden, config.qkv_bias)?,
            output: self.linear(&at("self_attn.o_proj"), hidden, queries, config.output_bias)?,
            post_attention_norm: self.norm(&at("post_attention_layernorm"), config)?,
            gate: self.linear(&at("mlp.gate_proj"), ffn, hidden, config.mlp_bias)?,
            up: self.linear(&at("mlp.up_proj"), ffn, hidden, config.mlp_bias)?,
            down: self.linear(&at("mlp.down_proj"), hidden, ffn, config.mlp_bias)?,
            activation: config.activation,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        })
    }
}

impl Decoder {
    /// Builds the model from a source of tensors, in the order in which a pass needs them.
    ///
    /// # Errors
    /// A tensor that is missing, or whose shape or dtype is not what config.json says.
    pub fn load(
        config: &DecoderConfig,
        source: &dyn TensorSource,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let loader = Loader {
            source,
            device,
            dtype,
        };
        let table = loader.tensor(
            "model.embed_tokens.weight",
            &[config.vocab_size, config.hidden_size],
        )?;
        let embedding = Embedding::new(table, device, dtype)?;
        let layers = (0..config.layers)
            .map(|index| loader.layer(index, config))
            .collect::<Result<_>>()?;
        let norm = loader.norm("model.norm", config)?;
        // A checkpoint that says "tied" and carries a head all the same is tied in transformers, too.
        let head = if config.tied {
            embedding.tied_head()?
        } else {
            loader.linear("lm_head", config.vocab_size, config.hidden_size, false)?
        };
        Ok(Self {
            embedding,
            layers,
            norm,
            head,
            rope: Rope::new(&config.rope, device)?,
            attention: AttentionConfig::causal(config.head_dim),
            device: device.clone(),
        })
    }

    /// Bytes of the weights, each counted once.
    pub fn bytes(&self, config: &DecoderConfig) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let head = if config.tied { 0 } else { self.head.bytes() };
        self.embedding.bytes() + layers + self.norm.bytes() + head
    }

    /// Logits [wanted rows, vocab_size] after all rows have gone through; their keys and values are in the cache then.
    ///
    /// # Errors
    /// What the device says; running out of memory above all.
    pub fn forward(&self, pass: &Pass<'_>, cache: &mut KvCache) -> Result<Option<Tensor>> {
        let rotation = self.rope.rotation(pass.positions)?;
        let mut residual = self.embedding.forward(pass.tokens)?;
        let mut update: Option<Tensor> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let (sum, normed) = add_norm(&layer.input_norm, update, residual)?;
            let attended = layer.attend(
                &normed,
                &At {
                    index,
                    pass,
                    rotation: &rotation,
                },
                &self.attention,
                cache,
            )?;
            let (sum, normed) = layer
                .post_attention_norm
                .forward_residual(&attended, &sum)?;
            update = Some(layer.feed_forward(&normed)?);
            residual = sum;
        }
        if pass.wanted.is_empty() {
            return Ok(None);
        }
        let wanted = Tensor::new(pass.wanted, &self.device)?;
        let residual = residual.index_select(&wanted, 0)?;
        let update = update.map(|u| u.index_select(&wanted, 0)).transpose()?;
        let (_, normed) = add_norm(&self.norm, update, residual)?;
        Ok(Some(self.head.forward(&normed)?))
    }
}

/// The residual stream with the last layer's update, and its norm.
fn add_norm(norm: &RmsNorm, update: Option<Tensor>, residual: Tensor) -> Result<(Tensor, Tensor)> {
    match update {
        Some(update) => Ok(norm.forward_residual(&update, &residual)?),
        None => {
            let normed = norm.forward(&residual)?;
            Ok((residual, normed))
        }
    }
}

impl Layer {
    fn bytes(&self) -> usize {
        let linears = [
            &self.query,
            &self.key,
            &self.value,
            &self.output,
            &self.gate,
            &self.up,
            &self.down,
        ];
        linears.iter().map(|linear| linear.bytes()).sum::<usize>()
            + self.input_norm.bytes()
            + self.post_attention_norm.bytes()
    }

    fn attend(
        &self,
        x: &Tensor,
        at: &At<'_>,
        attention: &AttentionConfig,
        cache: &mut KvCache,
    ) -> Result<Tensor> {
        let At {
            index,
            pass,
            rotation,
        } = *at;
        let rows = pass.tokens.len();
        let projected = Linear::forward_many(&[&self.query, &self.key, &self.value], x)?;
        let [query, key, value] = projected.as_slice() else {
            return Err(candle_core::Error::msg("three projections give three tensors").into());
        };
        let query = rotation.apply(&query.reshape((rows, self.heads, self.head_dim))?)?;
        let key = rotation.apply(&key.reshape((rows, self.kv_heads, self.head_dim))?)?;
        let value = value.reshape((rows, self.kv_heads, self.head_dim))?;
        cache.write(index, &key, &value, pass.slots)?;
        let attended = paged_attention(&query, cache, index, pass.spans, attention)?;
        Ok(self.output.forward(&attended)?)
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let both = Linear::forward_many(&[&self.gate, &self.up], x)?;
        let [gate, up] = both.as_slice() else {
            return Err(candle_core::Error::msg("two projections give two tensors").into());
        };
        Ok(self.down.forward(&self.activation.gated(gate, up)?)?)
    }
}
