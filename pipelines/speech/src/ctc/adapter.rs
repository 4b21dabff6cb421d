//! What MMS has for each language: a small layer after every layer of the encoder, and a head of the language's own characters.
//! Mirrors `transformers` modeling_wav2vec2.py (Wav2Vec2AttnAdapterLayer, `load_adapter`).

use std::sync::Arc;

use candle_core::Tensor;
use chandler_nn::linear::Linear;
use chandler_nn::norm::Norm;
use chandler_nn::weights::{Snapshot, TensorSource};

use super::config::CtcConfig;
use crate::error::{Result, SpeechError};
use crate::layers::{Loader, Placement};

/// torch's own, which these norms are left at.
const EPS: f64 = 1e-5;

/// A language's layers and head; for a model without languages the head alone.
pub struct Adapter {
    layers: Vec<Layer>,
    pub(super) head: Linear,
}

struct Layer {
    norm: Norm,
    down: Linear,
    up: Linear,
}

impl Adapter {
    /// What the file of a language's adapter is called.
    pub fn file(language: &str) -> String {
        format!("adapter.{language}.safetensors")
    }

    /// The adapter of a language, from `adapter.{language}.safetensors`.
    ///
    /// # Errors
    /// [`SpeechError::Input`] for a name that is no language's; when there is no such file, or it is not one for this model.
    pub fn of_language(
        language: &str,
        snapshot: &Snapshot,
        config: &CtcConfig,
        placement: &Placement,
    ) -> Result<Self> {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if language.is_empty() || !language.chars().all(named) {
            let message =
                format!("{language:?} is no language: letters, digits, - and _ make its name");
            return Err(SpeechError::Input(message));
        }
        let source = snapshot.weights_named(&Self::file(language))?;
        let characters = characters(source.as_ref())?;
        Self::load(config, source.as_ref(), placement, ("", characters))
    }

    /// The one among a model's own weights.
    pub(super) fn own(
        config: &CtcConfig,
        source: &dyn TensorSource,
        placement: &Placement,
        prefix: &'static str,
    ) -> Result<Self> {
        Self::load(config, source, placement, (prefix, config.vocab_size))
    }

    fn load(
        config: &CtcConfig,
        source: &dyn TensorSource,
        placement: &Placement,
        (prefix, characters): (&'static str, usize),
    ) -> Result<Self> {
        let loader = Loader {
            source,
            placement,
            prefix: "",
        };
        // Among the model's own, layers are below the model's name; in a file of their own they may or may not be.
        let below = [prefix, "wav2vec2.", ""];
        let first = |below: &&&str| {
            loader.has(&format!(
                "{below}encoder.layers.0.adapter_layer.norm.weight"
            ))
        };
        let below = below.iter().find(first).copied().unwrap_or(prefix);
        let layer = |width: usize, index: usize| {
            let base = format!("{below}encoder.layers.{index}.adapter_layer");
            Ok(Layer {
                norm: loader.norm(&format!("{base}.norm"), config.width, EPS)?,
                down: loader.linear(&format!("{base}.linear_1"), [width, config.width], true)?,
                up: loader.linear(&format!("{base}.linear_2"), [config.width, width], true)?,
            })
        };
        let layers = match config.adapter_width {
            Some(width) => (0..config.layers)
                .map(|index| layer(width, index))
                .collect::<Result<_>>()?,
            None => Vec::new(),
        };
        Ok(Self {
            layers,
            head: loader.linear("lm_head", [characters, config.width], true)?,
        })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter();
        let layers = layers.map(|layer| layer.norm.bytes() + layer.down.bytes() + layer.up.bytes());
        layers.sum::<usize>() + self.head.bytes()
    }

    /// Characters that its head knows.
    pub fn characters(&self) -> usize {
        self.head.outputs()
    }

    /// What follows layer `index`: `x` [rows, width], with what the language adds to it.
    pub(super) fn follow(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let Some(layer) = self.layers.get(index) else {
            return Ok(x.clone());
        };
        let inside = layer.down.forward(&layer.norm.forward(x)?)?.relu()?;
        Ok((layer.up.forward(&inside)? + x)?)
    }
}

fn characters(source: &dyn TensorSource) -> Result<usize> {
    let head = source.tensor("lm_head.weight")?;
    match head.shape() {
        [characters, _] if *characters > 0 => Ok(*characters),
        other => Err(SpeechError::Input(format!(
            "lm_head.weight of shape {other:?} is no head"
        ))),
    }
}

/// Whether two utterances go through the same adapter.
pub(super) fn same(a: &Arc<Adapter>, b: &Arc<Adapter>) -> bool {
    Arc::ptr_eq(a, b)
}
