//! Passes that write one token a row, recorded on a GPU: one graph for each number of rows and shape of their attention, in the place of
//! a few hundred launches, which take the host longer than a small model takes the GPU. Apart from the decoder, of which a recording is
//! one pass more. What changes from pass to pass is written to tensors that all recordings share: tokens, and in one piece angles, slots and
//! what the attention is told of sequences and blocks. Not run on a GPU yet.

use candle_core::{DType, Tensor};
use chandler_nn::attention::AttentionConfig;
use chandler_nn::error::NnError;
use chandler_nn::graph::{Fed, Graph, Shape, attention_shape, overwrite};
use chandler_nn::kv_cache::KvCache;
use chandler_nn::rope::Rotation;

use super::feed_forward::FeedForward;
use super::{Decoder, Pass, Tokens};
use crate::error::{Result, TextError};

/// Graphs that are kept; each takes about a megabyte of the GPU's memory.
const MOST: usize = 128;
/// Rows of the largest pass that is recorded: a larger one keeps the GPU busy for longer than the host takes to launch it.
const MOST_ROWS: usize = 64;
/// Words of what an attention is told: 64 sequences of 16,000 tokens in blocks of 16.
const MOST_NUMBERS: usize = 1 << 16;

/// What makes two passes the same but for their numbers: their rows, and what the attention of each kind of layer launches.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    rows: usize,
    attention: Vec<Shape>,
}

/// The recordings of a decoder over a cache. Dropped with either, and when either moves: they know where everything lies.
#[derive(Default)]
pub(crate) struct Recordings {
    feeds: Option<Feeds>,
    /// The one that was used last is the last.
    graphs: Vec<(Key, Graph)>,
    /// Passes that have come once. What never comes again is not worth recording, which takes as long as a few passes.
    seen: Vec<Key>,
    /// Once it has failed it is not tried again.
    failed: bool,
}

/// Where a recorded pass finds what it is told, and leaves what it has found.
struct Feeds {
    /// u32 [rows]
    tokens: Tensor,
    /// What the host knows, one part after the other as [`Parts`] has them: numbers of 32 bits, f32 or u32.
    told: Tensor,
    /// [rows, vocabulary]
    logits: Tensor,
}

/// Where the parts lie of what a pass of so many rows is told, each at a multiple of 16 bytes: cosines and sines of each of the model's
/// rotations, f32 [rows, half], then slots and what attention is told, u32.
struct Parts {
    words: Vec<u32>,
    /// Where each begins, and how long it is.
    places: Vec<(usize, usize)>,
}

/// What a pass is told.
struct Told {
    key: Key,
    /// The same for the attention of every layer.
    numbers: Vec<u32>,
}

impl Recordings {
    /// All of them go; what they know is not true any more.
    pub(crate) fn clear(&mut self) {
        self.graphs.clear();
        self.seen.clear();
        self.feeds = None;
    }

    /// [`Decoder::forward`], by a recording where there is one. The logits are good until the next pass.
    pub(crate) fn forward(
        &mut self,
        decoder: &Decoder,
        pass: &Pass<'_>,
        cache: &mut KvCache,
    ) -> Result<Option<Tensor>> {
        let Some(told) = self.told(decoder, pass, cache)? else {
            return decoder.forward(pass, cache);
        };
        if let Some(at) = self.graphs.iter().position(|(key, _)| *key == told.key) {
            let (key, graph) = self.graphs.remove(at);
            self.graphs.push((key, graph));
            return self.replay(decoder, pass, &told.numbers).map(Some);
        }
        if !self.seen.contains(&told.key) {
            if self.seen.len() >= MOST {
                self.seen.remove(0);
            }
            self.seen.push(told.key);
            return decoder.forward(pass, cache);
        }
        self.record(decoder, pass, told, cache)
    }

    /// What the pass would be told as a recording; none when it cannot be one.
    fn told(&self, decoder: &Decoder, pass: &Pass<'_>, cache: &KvCache) -> Result<Option<Told>> {
        let fits = !self.failed
            && pass.is_steady()
            && (1..=MOST_ROWS).contains(&pass.positions.len())
            && decoder.is_recordable();
        if !fits {
            return Ok(None);
        }
        let mut told: Option<Told> = None;
        for (heads, config) in decoder.attentions() {
            let place = (cache, &decoder.device, decoder.dtype);
            let Some((shape, numbers)) = attention_shape(place, heads, pass.spans, &config)? else {
                return Ok(None);
            };
            if numbers.len() > MOST_NUMBERS {
                return Ok(None);
            }
            let all = told.get_or_insert_with(|| Told {
                key: Key {
                    rows: pass.positions.len(),
                    attention: Vec::new(),
                },
                numbers: numbers.clone(),
            });
            if all.numbers != numbers {
                return Ok(None);
            }
            all.key.attention.push(shape);
        }
        Ok(told)
    }

    /// Launches the recording that was used last.
    fn replay(&mut self, decoder: &Decoder, pass: &Pass<'_>, numbers: &[u32]) -> Result<Tensor> {
        let feeds = feeds(&mut self.feeds, decoder)?;
        feeds.take(decoder, pass)?;
        overwrite(&feeds.told, &Parts::new(decoder, pass, numbers).words)?;
        if let Some((_, graph)) = self.graphs.last_mut() {
            graph.launch()?;
        }
        Ok(feeds.logits.narrow(0, 0, pass.positions.len())?)
    }

    /// The pass as it is, and a recording of it, unless that fails.
    fn record(
        &mut self,
        decoder: &Decoder,
        pass: &Pass<'_>,
        told: Told,
        cache: &mut KvCache,
    ) -> Result<Option<Tensor>> {
        let feeds = match feeds(&mut self.feeds, decoder) {
            Ok(feeds) => feeds,
            // Of all that a pass needs this is what it can do without.
            Err(error) => {
                self.give_up(&error);
                return decoder.forward(pass, cache);
            }
        };
        feeds.take(decoder, pass)?;
        let parts = Parts::new(decoder, pass, &told.numbers);
        overwrite(&feeds.told, &parts.words)?;
        let rows = pass.positions.len();
        let tokens = feeds.tokens.narrow(0, 0, rows)?;
        let (rotations, [slots, numbers]) = parts.of(&feeds.told, decoder, rows)?;
        let fed = Pass {
            tokens: Tokens::There(&tokens),
            ..*pass
        };
        let layers = decoder.layers.len();
        let numbers: [Fed<'_>; 2] = [
            (pass.slots, 2 * layers, &slots),
            (&told.numbers, layers, &numbers),
        ];
        let mut work = || -> Result<()> {
            if let Some(logits) = decoder.through(&fed, &rotations, cache)? {
                feeds.logits.slice_set(&logits.contiguous()?, 0, 0)?;
            }
            Ok(())
        };
        let ((), graph) = Graph::record(&decoder.device, &numbers, &mut work)?;
        let logits = Some(feeds.logits.narrow(0, 0, rows)?);
        match graph {
            Ok(graph) => {
                if self.graphs.len() >= MOST {
                    self.graphs.remove(0);
                }
                self.graphs.push((told.key, graph));
            }
            Err(error) => self.give_up(&error),
        }
        Ok(logits)
    }

    fn give_up(&mut self, error: &TextError) {
        tracing::warn!(%error, "passes of this model are not recorded: they are launched one kernel at a time, which is slower");
        self.clear();
        self.failed = true;
    }
}

fn feeds<'a>(feeds: &'a mut Option<Feeds>, decoder: &Decoder) -> Result<&'a Feeds> {
    let made = match feeds.take() {
        Some(made) => made,
        None => Feeds::new(decoder)?,
    };
    Ok(feeds.insert(made))
}

impl Feeds {
    fn new(decoder: &Decoder) -> Result<Self> {
        let device = &decoder.device;
        let pairs = decoder
            .ropes
            .iter()
            .map(|rope| rope.inverse_frequencies().len());
        let angles: usize = pairs.map(|half| 2 * padded(MOST_ROWS * half)).sum();
        let told = angles + padded(MOST_ROWS) + MOST_NUMBERS;
        let logits = (MOST_ROWS, decoder.embedding.rows());
        Ok(Self {
            tokens: Tensor::zeros(MOST_ROWS, DType::U32, device)?,
            told: Tensor::zeros(told, DType::F32, device)?,
            logits: Tensor::zeros(logits, decoder.dtype, device)?,
        })
    }

    /// Takes the tokens from where they are.
    fn take(&self, decoder: &Decoder, pass: &Pass<'_>) -> Result<()> {
        match pass.tokens {
            Tokens::Known(ids) => {
                decoder.embedding.check(ids)?;
                overwrite(&self.tokens, ids)?;
            }
            Tokens::There(ids) => self.tokens.slice_set(ids, 0, 0)?,
        }
        Ok(())
    }
}

impl Parts {
    fn new(decoder: &Decoder, pass: &Pass<'_>, numbers: &[u32]) -> Self {
        let mut parts = Self {
            words: Vec::new(),
            places: Vec::new(),
        };
        for rope in &decoder.ropes {
            let (cos, sin) = rope.angles(pass.positions);
            for angles in [cos, sin] {
                parts.add(angles.iter().map(|angle| angle.to_bits()));
            }
        }
        parts.add(pass.slots.iter().copied());
        parts.add(numbers.iter().copied());
        parts
    }

    fn add(&mut self, words: impl Iterator<Item = u32>) {
        let start = self.words.len();
        self.words.extend(words);
        self.places.push((start, self.words.len() - start));
        self.words.resize(padded(self.words.len()), 0);
    }

    /// The parts as they lie in `told`: rotations, slots, and what attention is told.
    fn of(
        &self,
        told: &Tensor,
        decoder: &Decoder,
        rows: usize,
    ) -> Result<(Vec<Rotation>, [Tensor; 2])> {
        let mut parts = Vec::with_capacity(self.places.len());
        for (start, len) in &self.places {
            parts.push(told.narrow(0, *start, *len)?);
        }
        let (Some(numbers), Some(slots)) = (parts.pop(), parts.pop()) else {
            return Err(NnError::Device("a pass that is told nothing".to_owned()).into());
        };
        let mut angles = parts.into_iter();
        let mut rotations = Vec::with_capacity(decoder.ropes.len());
        for rope in &decoder.ropes {
            if let (Some(cos), Some(sin)) = (angles.next(), angles.next()) {
                rotations
                    .push(rope.rotation_by(cos.reshape((rows, ()))?, sin.reshape((rows, ()))?)?);
            }
        }
        Ok((rotations, [slots, numbers]))
    }
}

fn padded(words: usize) -> usize {
    words.next_multiple_of(4)
}

impl Decoder {
    /// Whether a pass is the same launches whatever its tokens are. Experts are chosen by the host, and learned positions looked up.
    fn is_recordable(&self) -> bool {
        let routed = |layer: &super::Layer| matches!(layer.feed_forward, FeedForward::Experts(_));
        self.positions.is_none()
            && !self.layers.iter().any(routed)
            && Graph::is_possible(&self.device)
    }

    /// The kinds of attention that its layers have: heads, and what the model says.
    fn attentions(&self) -> Vec<(usize, AttentionConfig)> {
        let mut kinds = Vec::new();
        for layer in &self.layers {
            let kind = (layer.attention.heads, layer.attention.config);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }
}
