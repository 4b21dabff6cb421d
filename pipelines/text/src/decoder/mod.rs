//! The decoder that every family is a setting of: embedding, layers of attention and feed-forward, norm, head; over ragged
//! rows of many sequences. Which norms a layer has, what turns its queries and which feed-forward follows is its own data:
//! nothing here asks for a family. Mirrors `transformers` modeling_llama.py, and the files named in `config::families`.

mod attention;
mod experts;
mod feed_forward;
mod load;
mod projection;
mod recorded;

use candle_core::{DType, Device, Tensor};
use chandler_nn::activation::soft_cap;
use chandler_nn::attention::Span;
use chandler_nn::embedding::Embedding;
use chandler_nn::kv_cache::KvCache;
use chandler_nn::lora::{AdapterRows, Projection};
use chandler_nn::norm::Norm;
use chandler_nn::rope::{Rope, Rotation};
use chandler_nn::weights::TensorSource;

use crate::config::DecoderConfig;
use crate::error::Result;
use attention::{At, Attention};
use feed_forward::FeedForward;
use load::Loader;
pub(crate) use recorded::Recordings;

/// The tokens of a pass.
#[derive(Debug, Clone, Copy)]
pub enum Tokens<'a> {
    /// Told by the host.
    Known(&'a [u32]),
    /// On the device, u32 [rows]: drawn there, each one of the vocabulary.
    There(&'a Tensor),
}

/// Rows that go through the model together: every sequence's new tokens, one sequence after the other.
pub struct Pass<'a> {
    /// Token of each row.
    pub tokens: Tokens<'a>,
    /// Position of each row in its sequence.
    pub positions: &'a [u32],
    /// Cache slot of each row.
    pub slots: &'a [u32],
    /// The sequences.
    pub spans: &'a [Span<'a>],
    /// Each sequence's adapter, by its place in what was attached; may be empty when no sequence has one.
    pub adapters: &'a [Option<u32>],
    /// Rows whose logits are wanted, ascending.
    pub wanted: &'a [u32],
}

impl Pass<'_> {
    /// Whether the logits of every row are wanted.
    fn wants_all(&self) -> bool {
        let rows = 0..self.positions.len() as u32;
        self.wanted.iter().copied().eq(rows)
    }

    /// Whether every sequence has one row, wants its logits, and goes through the model itself.
    fn is_steady(&self) -> bool {
        self.wants_all()
            && self.spans.iter().all(|span| span.rows.len() == 1)
            && self.adapters.iter().all(Option::is_none)
    }
}

/// The model.
pub struct Decoder {
    embedding: Embedding,
    embedding_scale: Option<f64>,
    /// The table of learned positions.
    positions: Option<Embedding>,
    layers: Vec<Layer>,
    norm: Norm,
    head: Projection,
    /// Whether the head's bytes are the embedding's.
    tied: bool,
    final_softcap: Option<f32>,
    ropes: Vec<Rope>,
    /// Whether it was built of candle tensors where kernels could do it.
    plain: bool,
    device: Device,
    /// What it computes in.
    dtype: DType,
}

/// Attention and feed-forward, with a norm on either side of each where the family has one.
struct Layer {
    before_attention: Option<Norm>,
    attention: Attention,
    after_attention: Option<Norm>,
    before_feed_forward: Option<Norm>,
    feed_forward: FeedForward,
    after_feed_forward: Option<Norm>,
}

/// The residual stream, and what the last block adds to it: kept apart so that a norm can do the addition on its way.
struct Stream {
    residual: Tensor,
    update: Option<Tensor>,
}

impl Stream {
    /// The sum, and what the next block reads of it.
    fn enter(self, norm: Option<&Norm>) -> Result<(Tensor, Tensor)> {
        match (norm, self.update) {
            (Some(norm), Some(update)) => Ok(norm.forward_residual(&update, &self.residual)?),
            (Some(norm), None) => {
                let normed = norm.forward(&self.residual)?;
                Ok((self.residual, normed))
            }
            (None, Some(update)) => {
                let sum = (update + self.residual)?;
                Ok((sum.clone(), sum))
            }
            (None, None) => Ok((self.residual.clone(), self.residual)),
        }
    }

    /// The same of some rows.
    fn rows(&self, rows: &Tensor) -> Result<Self> {
        let update = self.update.as_ref();
        Ok(Self {
            residual: self.residual.index_select(rows, 0)?,
            update: update.map(|u| u.index_select(rows, 0)).transpose()?,
        })
    }
}

/// What a block adds to the stream, normed where the family does so.
fn leave(norm: Option<&Norm>, update: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => Ok(norm.forward(&update)?),
        None => Ok(update),
    }
}

impl Layer {
    fn forward(&self, stream: Stream, at: &At<'_>, cache: &mut KvCache) -> Result<Stream> {
        let (residual, x) = stream.enter(self.before_attention.as_ref())?;
        let attended = self.attention.forward(&x, at, cache)?;
        let update = Some(leave(self.after_attention.as_ref(), attended)?);
        let (residual, x) = Stream { residual, update }.enter(self.before_feed_forward.as_ref())?;
        let fed = self.feed_forward.forward(&x, at.adapters)?;
        let update = Some(leave(self.after_feed_forward.as_ref(), fed)?);
        Ok(Stream { residual, update })
    }

    fn bytes(&self) -> usize {
        let norms = [
            &self.before_attention,
            &self.after_attention,
            &self.before_feed_forward,
            &self.after_feed_forward,
        ];
        let norms: usize = norms.into_iter().flatten().map(Norm::bytes).sum();
        norms + self.attention.bytes() + self.feed_forward.bytes()
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
        Loader::new(config, source, device, dtype).decoder()
    }

    /// The same model in candle operations, on any device: what [`load`](Self::load) builds off the CPU. For a cache made with
    /// [`KvCache::plain`]. It is here so that what other devices compute can be held against references on the CPU.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_plain(
        config: &DecoderConfig,
        source: &dyn TensorSource,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        Loader::new(config, source, device, dtype).plain().decoder()
    }

    /// The dtype in which a checkpoint has its embedding, and so its weights.
    ///
    /// # Errors
    /// When it has none.
    pub fn stored_dtype(config: &DecoderConfig, source: &dyn TensorSource) -> Result<DType> {
        // Which device and dtype it is for makes no difference to a name.
        let loader = Loader::new(config, source, &Device::Cpu, DType::F32);
        Ok(source.tensor(&loader.embedding_name())?.dtype())
    }

    /// Bytes of the weights and the adapters, each counted once.
    pub fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let positions = self.positions.as_ref().map_or(0, Embedding::bytes);
        let head = match self.tied {
            true => self.head.adapter_bytes(),
            false => self.head.bytes(),
        };
        self.embedding.bytes() + positions + layers + self.norm.bytes() + head
    }

    /// Logits [wanted rows, vocab_size] after all rows have gone through; their keys and values are in the cache then.
    ///
    /// # Errors
    /// What the device says; running out of memory above all.
    pub fn forward(&self, pass: &Pass<'_>, cache: &mut KvCache) -> Result<Option<Tensor>> {
        let rotations = self.ropes.iter().map(|rope| match self.plain {
            true => rope.plain_rotation(pass.positions),
            false => rope.rotation(pass.positions),
        });
        let rotations = rotations.collect::<Result<Vec<Rotation>, _>>()?;
        self.through(pass, &rotations, cache)
    }

    /// [`forward`](Self::forward), with the rotations of the pass's positions.
    fn through(
        &self,
        pass: &Pass<'_>,
        rotations: &[Rotation],
        cache: &mut KvCache,
    ) -> Result<Option<Tensor>> {
        let adapters = self.adapters_of(pass)?;
        let mut stream = Stream {
            residual: self.embed(pass)?,
            update: None,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            let at = At {
                index,
                pass,
                rotations,
                adapters: &adapters,
            };
            stream = layer.forward(stream, &at, cache)?;
        }
        if pass.wanted.is_empty() {
            return Ok(None);
        }
        if !pass.wants_all() {
            let wanted = Tensor::new(pass.wanted, &self.device)?;
            stream = stream.rows(&wanted)?;
        }
        let (_, normed) = stream.enter(Some(&self.norm))?;
        let adapters = adapters.select(pass.wanted, &self.device)?;
        let logits = self.head.forward(&normed, &adapters)?;
        Ok(Some(match self.final_softcap {
            Some(cap) => soft_cap(&logits, cap)?,
            None => logits,
        }))
    }

    fn adapters_of(&self, pass: &Pass<'_>) -> Result<AdapterRows> {
        let spans = pass.spans.iter().zip(pass.adapters);
        let rows = spans.map(|(span, adapter)| (span.rows.clone(), *adapter));
        Ok(AdapterRows::new(rows, &self.device)?)
    }

    fn embed(&self, pass: &Pass<'_>) -> Result<Tensor> {
        let mut x = match pass.tokens {
            Tokens::Known(ids) => self.embedding.forward(ids)?,
            Tokens::There(ids) => self.embedding.forward_there(ids)?,
        };
        if let Some(scale) = self.embedding_scale {
            x = (x * scale)?;
        }
        match &self.positions {
            Some(table) => Ok((x + table.forward(pass.positions)?)?),
            None => Ok(x),
        }
    }
}
