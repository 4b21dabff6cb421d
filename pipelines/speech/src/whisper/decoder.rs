//! Whisper's decoder over ragged rows: tokens of many sequences, and the windows that they are about, in one pass.
//! Mirrors `transformers` modeling_whisper.py (WhisperDecoder).

use candle_core::{Device, Tensor};
use chandler_nn::attention::{AttentionConfig, Span, paged_attention};
use chandler_nn::embedding::Embedding;
use chandler_nn::full_attention::{full_attention, full_attention_scores};
use chandler_nn::kv_cache::KvCache;
use chandler_nn::linear::Linear;
use chandler_nn::norm::Norm;

use super::caches::Caches;
use super::config::WhisperConfig;
use super::stack::{EPS, FeedForward, Stream};
use crate::error::{Result, SpeechError};
use crate::layers::Loader;

/// Rows that go through the decoder together: sequence after sequence, and the sequences of one window beside each other.
pub struct Pass<'a> {
    /// Token of each row.
    pub tokens: &'a [u32],
    /// Its position in its sequence.
    pub positions: &'a [u32],
    /// Its slot in the decoder's own cache.
    pub slots: &'a [u32],
    /// The sequences.
    pub sequences: &'a [Span<'a>],
    /// The windows: rows of all sequences about one, the positions that they see, and its block.
    pub windows: &'a [Span<'a>],
    /// Rows whose logits are wanted, ascending.
    pub wanted: &'a [u32],
}

/// The attention of some heads on one window, taken down while a pass goes by.
pub struct Probe<'a> {
    /// Layers and heads.
    pub heads: &'a [(usize, usize)],
    /// The window's rows, the positions that are looked at, and its block.
    pub span: Span<'a>,
    /// For each of `heads`, in their order: scores before the softmax [rows, positions].
    pub scores: Vec<Option<Tensor>>,
}

impl<'a> Probe<'a> {
    /// Nothing taken down yet.
    pub fn new(heads: &'a [(usize, usize)], span: Span<'a>) -> Self {
        Self {
            heads,
            span,
            scores: vec![None; heads.len()],
        }
    }
}

/// The decoder.
pub struct Decoder {
    embedding: Embedding,
    positions: Embedding,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    tied: bool,
    device: Device,
}

struct Layer {
    own: Attention,
    cross: Attention,
    feed_forward: FeedForward,
}

struct Attention {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

impl Decoder {
    pub(crate) fn load(config: &WhisperConfig, loader: &Loader<'_>) -> Result<Self> {
        let width = config.width;
        let embedding = loader.embedding("decoder.embed_tokens", [config.vocab_size, width])?;
        let layers = (0..config.decoder.layers)
            .map(|index| {
                let base = format!("decoder.layers.{index}");
                Ok(Layer {
                    own: Attention::load(config, loader, &format!("{base}.self_attn"))?,
                    cross: Attention::load(config, loader, &format!("{base}.encoder_attn"))?,
                    feed_forward: FeedForward::load(
                        loader,
                        &base,
                        [config.decoder.feed_forward, width],
                        config.activation,
                    )?,
                })
            })
            .collect::<Result<_>>()?;
        let head = match config.tied {
            true => embedding.tied_head()?,
            false => {
                let outer = Loader {
                    prefix: "",
                    ..*loader
                };
                outer.linear("proj_out", [config.vocab_size, width], false)?
            }
        };
        Ok(Self {
            embedding,
            positions: loader
                .embedding("decoder.embed_positions", [config.target_positions, width])?,
            layers,
            norm: loader.norm("decoder.layer_norm", width, EPS)?,
            head,
            tied: config.tied,
            device: loader.placement.device.clone(),
        })
    }

    /// Bytes of the weights, each counted once.
    pub fn bytes(&self) -> usize {
        let head = match self.tied {
            true => 0,
            false => self.head.bytes(),
        };
        let layers = self
            .layers
            .iter()
            .map(|layer| layer.own.bytes() + layer.cross.bytes() + layer.feed_forward.bytes());
        let tables = self.embedding.bytes() + self.positions.bytes();
        tables + layers.sum::<usize>() + self.norm.bytes() + head
    }

    /// Layers, which is how many times [`look_at`](Self::look_at) is called for a window.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Keeps what layer `index` sees of some windows: `encoded` [windows · positions, width], as the encoder gave it.
    ///
    /// # Errors
    /// For a layer, a window or a shape that is not there.
    pub fn look_at(
        &self,
        index: usize,
        encoded: &Tensor,
        windows: &[u32],
        caches: &mut Caches,
    ) -> Result<()> {
        let layer = self
            .layers
            .get(index)
            .ok_or_else(|| SpeechError::Input(format!("no decoder layer {index}")))?;
        let positions = caches.cross.shape().block_size as u32;
        let [key, value] = layer
            .cross
            .project([&layer.cross.key, &layer.cross.value], encoded)?;
        let slots: Vec<u32> = windows
            .iter()
            .flat_map(|window| window * positions..(window + 1) * positions)
            .collect();
        Ok(caches.cross.write(index, &key, &value, &slots)?)
    }

    /// Logits [wanted rows, vocabulary] after all rows have gone through; their keys and values are in the cache then, and the
    /// probes have what they look for.
    ///
    /// # Errors
    /// [`SpeechError::Input`] for a position past the model's; what the device says.
    pub fn forward(
        &self,
        pass: &Pass<'_>,
        caches: &mut Caches,
        probes: &mut [Probe<'_>],
    ) -> Result<Tensor> {
        let rows = self.embedding.forward(pass.tokens)?;
        let mut stream = Stream::new((rows + self.positions.forward(pass.positions)?)?);
        for (index, layer) in self.layers.iter().enumerate() {
            stream = layer.own_attention(stream, index, pass, &mut caches.own)?;
            stream = layer.cross_attention(stream, index, pass, (&caches.cross, &mut *probes))?;
            stream = layer.feed_forward.forward(stream)?;
        }
        if pass.wanted.is_empty() {
            let none = (0, self.head.outputs());
            return Ok(Tensor::zeros(none, stream.residual.dtype(), &self.device)?);
        }
        let wanted = Tensor::new(pass.wanted, &self.device)?;
        let (_, normed) = stream.rows(&wanted)?.enter(&self.norm)?;
        Ok(self.head.forward(&normed)?)
    }
}

impl Attention {
    fn load(config: &WhisperConfig, loader: &Loader<'_>, base: &str) -> Result<Self> {
        let width = config.width;
        let linear =
            |name: &str, bias| loader.linear(&format!("{base}.{name}"), [width, width], bias);
        Ok(Self {
            norm: loader.norm(&format!("{base}_layer_norm"), width, EPS)?,
            query: linear("q_proj", true)?,
            key: linear("k_proj", false)?,
            value: linear("v_proj", true)?,
            output: linear("out_proj", true)?,
            heads: config.decoder.heads,
        })
    }

    fn bytes(&self) -> usize {
        let linears = [&self.query, &self.key, &self.value, &self.output];
        self.norm.bytes() + linears.into_iter().map(Linear::bytes).sum::<usize>()
    }

    fn scale(&self) -> f32 {
        1.0 / ((self.query.outputs() / self.heads) as f32).sqrt()
    }

    /// Several projections of one input, each as [rows, heads, head_dim].
    fn project<const N: usize>(&self, layers: [&Linear; N], x: &Tensor) -> Result<[Tensor; N]> {
        let rows = x.dim(0)?;
        let made = Linear::forward_many(&layers, x)?;
        let parted = made
            .into_iter()
            .map(|y| y.reshape((rows, self.heads, ())))
            .collect::<candle_core::Result<Vec<_>>>()?;
        parted.try_into().map_err(|parted: Vec<Tensor>| {
            candle_core::Error::msg(format!("{N} projections gave {} tensors", parted.len())).into()
        })
    }
}

impl Layer {
    fn own_attention(
        &self,
        stream: Stream,
        index: usize,
        pass: &Pass<'_>,
        cache: &mut KvCache,
    ) -> Result<Stream> {
        let own = &self.own;
        let (residual, x) = stream.enter(&own.norm)?;
        let [query, key, value] = own.project([&own.query, &own.key, &own.value], &x)?;
        cache.write(index, &key, &value, pass.slots)?;
        let config = AttentionConfig {
            scale: own.scale(),
            window: None,
            softcap: None,
        };
        let attended = paged_attention(&query, cache, index, pass.sequences, &config)?;
        Ok(Stream {
            residual,
            update: Some(own.output.forward(&attended)?),
        })
    }

    fn cross_attention(
        &self,
        stream: Stream,
        index: usize,
        pass: &Pass<'_>,
        (cache, probes): (&KvCache, &mut [Probe<'_>]),
    ) -> Result<Stream> {
        let cross = &self.cross;
        let (residual, x) = stream.enter(&cross.norm)?;
        let [query] = cross.project([&cross.query], &x)?;
        for probe in probes {
            probe.take(&query, cache, index, cross.scale())?;
        }
        let attended = full_attention(&query, cache, index, pass.windows, cross.scale())?;
        Ok(Stream {
            residual,
            update: Some(cross.output.forward(&attended)?),
        })
    }
}

impl Probe<'_> {
    fn take(&mut self, query: &Tensor, cache: &KvCache, layer: usize, scale: f32) -> Result<()> {
        let here = |(_, (of, _)): &(usize, &(usize, usize))| *of == layer;
        let heads: Vec<(usize, usize)> = self
            .heads
            .iter()
            .enumerate()
            .filter(here)
            .map(|(place, (_, head))| (place, *head))
            .collect();
        if heads.is_empty() {
            return Ok(());
        }
        let scores = full_attention_scores(query, cache, layer, &self.span, scale)?;
        for (place, head) in heads {
            if let Some(slot) = self.scores.get_mut(place) {
                *slot = Some(scores.get(head)?.to_device(&Device::Cpu)?);
            }
        }
        Ok(())
    }
}
