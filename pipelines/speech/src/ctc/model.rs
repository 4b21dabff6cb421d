//! A CTC model as it is loaded, and utterances on their way through it: together, each of its own length and language, one stage at a
//! time.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use chandler_nn::reduce::{argmax, log_sum_exp};
use chandler_nn::weights::quantize::Role;
use chandler_nn::weights::{Snapshot, TensorSource};

use super::adapter::{self, Adapter};
use super::config::CtcConfig;
use super::encoder::{Encoder, Scratch};
use super::extractor::Extractor;
use crate::error::{Result, SpeechError};
use crate::layers::{Loader, Placement};

/// What names of tensors begin with, but for the head's.
const PREFIX: &str = "wav2vec2.";

/// A loaded model.
pub struct Ctc {
    /// Its sizes.
    pub config: Arc<CtcConfig>,
    /// Where it is.
    pub placement: Placement,
    extractor: Extractor,
    encoder: Encoder,
    /// The head that it comes with, and the layers of the language that it is for.
    own: Arc<Adapter>,
}

/// Utterances on their way.
pub struct Hearing {
    /// In the order in which they were given.
    adapters: Vec<Arc<Adapter>>,
    done: usize,
    at: At,
}

enum At {
    /// Samples or frames of each, [time, channels].
    Convolutions(Vec<Tensor>),
    /// Frames of all, [rows, width].
    Layers {
        x: Tensor,
        utterances: Vec<Range<usize>>,
        scratch: Box<Scratch>,
    },
}

/// What is said in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spoken {
    /// The likeliest character.
    pub id: u32,
    /// The natural logarithm of its probability.
    pub log_probability: f32,
}

impl Ctc {
    /// Builds the model from a source of tensors.
    ///
    /// # Errors
    /// A tensor that is missing, or whose shape or dtype is not what config.json says.
    pub fn load(
        config: CtcConfig,
        source: &dyn TensorSource,
        placement: Placement,
    ) -> Result<Self> {
        let loader = Loader {
            source,
            placement: &placement,
            prefix: PREFIX,
        };
        let extractor = Extractor::load(&config, &loader)?;
        let encoder = Encoder::load(&config, &loader)?;
        let own = Adapter::own(&config, source, &placement, PREFIX)?;
        Ok(Self {
            extractor,
            encoder,
            own: Arc::new(own),
            config: Arc::new(config),
            placement,
        })
    }

    /// The head that the model comes with.
    pub fn own_adapter(&self) -> Arc<Adapter> {
        Arc::clone(&self.own)
    }

    /// A language's adapter.
    ///
    /// # Errors
    /// As [`Adapter::of_language`]; [`SpeechError::Input`] for a model that has no languages.
    pub fn adapter(&self, language: &str, snapshot: &Snapshot) -> Result<Arc<Adapter>> {
        if self.config.adapter_width.is_none() {
            let message =
                format!("{language:?} is asked for, and the model has no languages to choose from");
            return Err(SpeechError::Input(message));
        }
        let adapter = Adapter::of_language(language, snapshot, &self.config, &self.placement)?;
        Ok(Arc::new(adapter))
    }

    /// Bytes of the weights, other languages' apart.
    pub fn bytes(&self) -> usize {
        self.extractor.bytes() + self.encoder.bytes() + self.own.bytes()
    }

    /// Steps from [`begin`](Self::begin) to the end.
    pub fn stages(&self) -> usize {
        self.extractor.layers() + self.encoder.layers() + 1
    }

    /// Takes up utterances: samples, normed as preprocessor_config.json says, and the language of each.
    ///
    /// # Errors
    /// [`SpeechError::Input`] for none, or one that is too short to make a frame.
    pub fn begin(&self, utterances: &[(&[f32], Arc<Adapter>)]) -> Result<Hearing> {
        let Placement { device, .. } = &self.placement;
        if utterances.is_empty() {
            return Err(SpeechError::Input("no utterance to hear".into()));
        }
        let tensors = utterances
            .iter()
            .map(|(samples, _)| {
                if self.config.frames(samples.len()) == 0 {
                    let message = format!(
                        "an utterance of {} samples is too short to make a frame",
                        samples.len()
                    );
                    return Err(SpeechError::Input(message));
                }
                let samples = Tensor::new(*samples, device)?.reshape((samples.len(), 1))?;
                Ok(samples.to_dtype(self.placement.activations())?)
            })
            .collect::<Result<_>>()?;
        Ok(Hearing {
            adapters: utterances
                .iter()
                .map(|(_, adapter)| Arc::clone(adapter))
                .collect(),
            done: 0,
            at: At::Convolutions(tensors),
        })
    }

    /// Does the next stage: a convolution, the positions, or a layer. Whether that was the last.
    ///
    /// # Errors
    /// What the device says; running out of memory above all.
    pub fn advance(&self, hearing: &mut Hearing) -> Result<bool> {
        let convolutions = self.extractor.layers();
        match &mut hearing.at {
            At::Convolutions(frames) if hearing.done < convolutions => {
                let made = frames
                    .iter()
                    .map(|x| self.extractor.convolve(hearing.done, x));
                *frames = made.collect::<Result<_>>()?;
            }
            At::Convolutions(frames) => {
                let mut end = 0;
                let mut utterances = Vec::with_capacity(frames.len());
                for frames in frames.iter() {
                    let start = end;
                    end += frames.dim(0)?;
                    utterances.push(start..end);
                }
                let x = self.extractor.project(&Tensor::cat(frames, 0)?)?;
                hearing.at = At::Layers {
                    x: self.encoder.place(&x, &utterances)?,
                    scratch: Box::new(Scratch::new(&self.config, &utterances, &self.placement)?),
                    utterances,
                };
            }
            At::Layers {
                x,
                utterances,
                scratch,
            } => {
                let index = hearing.done - convolutions - 1;
                let made = self.encoder.layer(index, x, utterances, scratch)?;
                let follow = |x: &Tensor, adapter: &Adapter| adapter.follow(index, x);
                *x = by_adapter(&made, utterances, &hearing.adapters, follow)?;
            }
        }
        hearing.done += 1;
        Ok(hearing.done >= self.stages())
    }

    /// Logits of every utterance, [frames, characters of its language] in f32.
    ///
    /// # Errors
    /// [`SpeechError::Input`] before the last stage is done.
    pub fn logits(&self, hearing: &Hearing) -> Result<Vec<Tensor>> {
        let At::Layers { x, utterances, .. } = &hearing.at else {
            return Err(SpeechError::Input("utterances are not heard yet".into()));
        };
        if hearing.done < self.stages() {
            return Err(SpeechError::Input("utterances are not heard yet".into()));
        }
        let x = self.encoder.finish(x)?;
        utterances
            .iter()
            .zip(&hearing.adapters)
            .map(|(rows, adapter)| {
                let logits = adapter
                    .head
                    .forward(&x.narrow(0, rows.start, rows.len())?)?;
                Ok(logits.to_dtype(DType::F32)?)
            })
            .collect()
    }

    /// The likeliest character of every frame, of every utterance.
    ///
    /// # Errors
    /// As for [`logits`](Self::logits), and when the model gave no numbers.
    pub fn spoken(&self, hearing: &Hearing) -> Result<Vec<Vec<Spoken>>> {
        let logits = self.logits(hearing)?;
        logits.iter().map(spoken).collect()
    }
}

/// Runs each stretch of utterances of one language through its adapter.
fn by_adapter(
    x: &Tensor,
    utterances: &[Range<usize>],
    adapters: &[Arc<Adapter>],
    follow: impl Fn(&Tensor, &Adapter) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut parts = Vec::new();
    let mut all = utterances.iter().zip(adapters).peekable();
    while let Some((rows, adapter)) = all.next() {
        let mut rows = rows.clone();
        while let Some((more, _)) = all.next_if(|(_, other)| adapter::same(adapter, other)) {
            rows.end = more.end;
        }
        parts.push(follow(&x.narrow(0, rows.start, rows.len())?, adapter)?);
    }
    Ok(Tensor::cat(&parts, 0)?)
}

fn spoken(logits: &Tensor) -> Result<Vec<Spoken>> {
    let characters = logits.dim(1)?;
    let numbers: Vec<f32> = logits.flatten_all()?.to_vec1()?;
    let of = |row: &[f32]| {
        let (id, most) = argmax(row)?;
        Some(Spoken {
            id: id as u32,
            log_probability: most - log_sum_exp(row, most),
        })
    };
    let found: Option<Vec<Spoken>> = numbers.chunks_exact(characters).map(of).collect();
    found.ok_or_else(|| SpeechError::Input("the model gave no numbers".into()))
}

/// What a tensor is to quantise-on-load.
pub fn quantize_role(name: &str) -> Role {
    let Some(stem) = name.strip_suffix(".weight") else {
        return Role::Kept;
    };
    match stem.rsplit('.').next().unwrap_or(stem) {
        "q_proj" | "k_proj" | "v_proj" | "out_proj" | "intermediate_dense" | "output_dense" => {
            Role::Matrix
        }
        _ => Role::Kept,
    }
}
