//! Whisper's encoder: two convolutions over the spectrogram, learned or computed positions as stored, layers of attention over the
//! whole window, a norm. Several windows go through together, one stage at a time, so that nobody waits for a whole encoder.
//! Mirrors `transformers` modeling_whisper.py (WhisperEncoder).

use candle_core::{Device, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::attention::Span;
use chandler_nn::conv::{Conv1d, Conv1dConfig};
use chandler_nn::full_attention::full_attention;
use chandler_nn::kv_cache::{CacheShape, KvCache};
use chandler_nn::linear::Linear;
use chandler_nn::norm::Norm;

use super::config::{INPUT_STRIDE, WhisperConfig};
use super::stack::{EPS, FeedForward, Stream};
use crate::error::{Result, SpeechError};
use crate::layers::{Loader, Placement};

/// Frames that a convolution sees for each of its outputs.
const KERNEL: usize = 3;

/// The encoder.
pub struct Encoder {
    convolutions: [Conv1d; 2],
    activation: Activation,
    /// [1, positions, width]
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    heads: usize,
    mel_bins: usize,
    placement: Placement,
}

struct Layer {
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_forward: FeedForward,
}

/// Windows on their way through the encoder.
pub struct Encoding {
    windows: usize,
    /// Stages that are done, of [`Encoder::stages`].
    done: usize,
    stream: Stream,
    /// Keys and values of the layer that is at work, a block for each window.
    scratch: KvCache,
}

impl Encoding {
    /// How many windows there are.
    pub fn windows(&self) -> usize {
        self.windows
    }
}

impl Encoder {
    pub(crate) fn load(config: &WhisperConfig, loader: &Loader<'_>) -> Result<Self> {
        let width = config.width;
        let convolution = |name: &str, inputs: usize, stride: usize| {
            let settings = Conv1dConfig {
                stride,
                padding: 1,
                groups: 1,
            };
            loader.conv(name, [width, inputs, KERNEL], settings, true)
        };
        let table = loader.tensor(
            "encoder.embed_positions.weight",
            &[config.source_positions, width],
        )?;
        let dtype = loader.placement.activations();
        let layers = (0..config.encoder.layers)
            .map(|index| layer(config, loader, index))
            .collect::<Result<_>>()?;
        Ok(Self {
            convolutions: [
                convolution("encoder.conv1", config.mel_bins, 1)?,
                convolution("encoder.conv2", width, INPUT_STRIDE)?,
            ],
            activation: config.activation,
            positions: table
                .to_tensor(&loader.placement.device, dtype)?
                .unsqueeze(0)?,
            layers,
            norm: loader.norm("encoder.layer_norm", width, EPS)?,
            heads: config.encoder.heads,
            mel_bins: config.mel_bins,
            placement: loader.placement.clone(),
        })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let convolutions: usize = self.convolutions.iter().map(Conv1d::bytes).sum();
        let positions = self.positions.elem_count() * self.positions.dtype().size_in_bytes();
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        convolutions + positions + layers + self.norm.bytes()
    }

    /// Steps from [`begin`](Self::begin) to the end.
    pub fn stages(&self) -> usize {
        self.layers.len() + 1
    }

    /// Takes up windows: log-mel frames [frames, mel bins] of each, at most a window's; what a window lacks is zeros, as
    /// openai-whisper pads.
    ///
    /// # Errors
    /// [`SpeechError::Input`] for no window, or numbers that are no whole frames or more than a window's.
    pub fn begin(&self, mels: &[&[f32]]) -> Result<Encoding> {
        let (_, positions, width) = self.positions.dims3()?;
        let frames = positions * INPUT_STRIDE;
        let mut all = vec![0.0f32; mels.len() * frames * self.mel_bins];
        for (to, from) in all.chunks_exact_mut(frames * self.mel_bins).zip(mels) {
            let whole = from.len().is_multiple_of(self.mel_bins);
            match to.get_mut(..from.len()).filter(|_| whole) {
                Some(to) => to.copy_from_slice(from),
                None => {
                    return Err(SpeechError::Input(format!(
                        "a window of {} numbers; at most {frames} frames of {} mel bins are wanted",
                        from.len(),
                        self.mel_bins
                    )));
                }
            }
        }
        if mels.is_empty() {
            return Err(SpeechError::Input("no window to encode".into()));
        }
        let Placement { device, plain, .. } = &self.placement;
        let dtype = self.placement.activations();
        let x = Tensor::from_vec(all, (mels.len(), frames, self.mel_bins), &Device::Cpu)?;
        let shape = CacheShape {
            layers: 1,
            blocks: mels.len(),
            block_size: positions,
            kv_heads: self.heads,
            head_dim: width / self.heads,
        };
        let make = match plain {
            true => KvCache::plain,
            false => KvCache::new,
        };
        Ok(Encoding {
            windows: mels.len(),
            done: 0,
            stream: Stream::new(x.to_device(device)?.to_dtype(dtype)?),
            scratch: make(shape, device, dtype)?,
        })
    }

    /// Does the next stage: the convolutions first, then a layer at a time. Whether that was the last.
    ///
    /// # Errors
    /// What the device says; running out of memory above all.
    pub fn advance(&self, encoding: &mut Encoding) -> Result<bool> {
        let stream = encoding.stream.clone();
        encoding.stream = match encoding.done.checked_sub(1) {
            None => Stream::new(self.stem(&stream.into_sum()?)?),
            Some(index) => match self.layers.get(index) {
                Some(layer) => layer.forward(stream, encoding, self.heads)?,
                None => stream,
            },
        };
        encoding.done += 1;
        Ok(encoding.done >= self.stages())
    }

    /// What the decoder looks at: [windows · positions, width].
    ///
    /// # Errors
    /// [`SpeechError::Input`] before the last stage is done.
    pub fn finish(&self, encoding: &Encoding) -> Result<Tensor> {
        if encoding.done < self.stages() {
            return Err(SpeechError::Input("windows are not encoded yet".into()));
        }
        let (_, normed) = encoding.stream.clone().enter(&self.norm)?;
        Ok(normed)
    }

    fn stem(&self, frames: &Tensor) -> Result<Tensor> {
        let mut x = frames.clone();
        for convolution in &self.convolutions {
            x = self.activation.forward(&convolution.forward(&x)?)?;
        }
        let x = x.broadcast_add(&self.positions)?;
        Ok(x.flatten(0, 1)?)
    }
}

fn layer(config: &WhisperConfig, loader: &Loader<'_>, index: usize) -> Result<Layer> {
    let (base, width) = (format!("encoder.layers.{index}"), config.width);
    let linear = |name: &str, bias: bool| {
        loader.linear(&format!("{base}.self_attn.{name}"), [width, width], bias)
    };
    Ok(Layer {
        attention_norm: loader.norm(&format!("{base}.self_attn_layer_norm"), width, EPS)?,
        query: linear("q_proj", true)?,
        key: linear("k_proj", false)?,
        value: linear("v_proj", true)?,
        output: linear("out_proj", true)?,
        feed_forward: FeedForward::load(
            loader,
            &base,
            [config.encoder.feed_forward, width],
            config.activation,
        )?,
    })
}

impl Layer {
    fn bytes(&self) -> usize {
        let linears = [&self.query, &self.key, &self.value, &self.output];
        let linears: usize = linears.into_iter().map(Linear::bytes).sum();
        linears + self.attention_norm.bytes() + self.feed_forward.bytes()
    }

    fn forward(&self, stream: Stream, encoding: &mut Encoding, heads: usize) -> Result<Stream> {
        let (residual, x) = stream.enter(&self.attention_norm)?;
        let made = Linear::forward_many(&[&self.query, &self.key, &self.value], &x)?;
        let rows = x.dim(0)?;
        let head_dim = x.dim(1)? / heads;
        let parted = made
            .into_iter()
            .map(|part| part.reshape((rows, heads, head_dim)))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let [query, key, value] = parted.as_slice() else {
            return Err(candle_core::Error::msg("three projections gave another number").into());
        };
        let slots: Vec<u32> = (0..rows as u32).collect();
        let scratch = &mut encoding.scratch;
        scratch.write(0, key, value, &slots)?;
        let blocks: Vec<u32> = (0..encoding.windows as u32).collect();
        let positions = scratch.shape().block_size;
        let spans: Vec<Span<'_>> = blocks
            .chunks(1)
            .enumerate()
            .map(|(window, blocks)| Span {
                rows: window * positions..(window + 1) * positions,
                context: positions,
                blocks,
            })
            .collect();
        let scale = 1.0 / (head_dim as f32).sqrt();
        let attended = full_attention(query, scratch, 0, &spans, scale)?;
        let stream = Stream {
            residual,
            update: Some(self.output.forward(&attended)?),
        };
        self.feed_forward.forward(stream)
    }
}
