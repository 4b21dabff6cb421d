//! What a speech model is loaded with, and the steps that all of them share. The models' own are beside them.

use std::sync::Arc;

use candle_core::{DType, Device};
use chandler_core::{ModelInfo, Task};
use chandler_nn::device::{self, DTypeChoice, DeviceOptions};
use chandler_nn::parking::{Parking, Roster, listed};
use chandler_nn::weights::quantize::{Quantize, Role};
use chandler_nn::weights::{Activations, LoadStep, Snapshot, TensorSource, parameters};

use crate::error::Result;
use crate::layers::Placement;

/// How a model is to be run.
pub struct SpeechOptions {
    /// Where, and what is set up there.
    pub device: DeviceOptions,
    /// In which numeric type.
    pub dtype: DTypeChoice,
    /// Transcripts at once: beams and samples of all windows together.
    pub max_rows: usize,
    /// Tokens of prompts per step.
    pub prefill_chunk: usize,
    /// Bytes of caches; 2 GiB when not given.
    pub cache_bytes: Option<u64>,
    /// Whether matrices are quantised first, and where the result is kept.
    pub quantize: Option<Quantize>,
    /// What quantised weights are multiplied with.
    pub activations: Activations,
}

/// What caches take when nobody says.
pub(crate) const DEFAULT_CACHE_BYTES: u64 = 2 << 30;

/// Weights, and where they are to be.
pub(crate) struct Opened {
    pub(crate) weights: Arc<dyn TensorSource>,
    pub(crate) placement: Placement,
    pub(crate) dtype: DType,
}

/// Opens a snapshot's weights and the device; `stored` tells the checkpoint's dtype, `role` what a tensor is to quantise-on-load.
pub(crate) fn open(
    snapshot: &Snapshot,
    options: &SpeechOptions,
    (stored, role): (
        impl Fn(&dyn TensorSource) -> Result<DType>,
        &dyn Fn(&str) -> Role,
    ),
    progress: &(dyn Fn(LoadStep) + Sync),
) -> Result<Opened> {
    let device = options.device.open()?;
    let weights = snapshot.weights()?;
    let stored = stored(weights.as_ref())?;
    options.dtype.check(&device)?;
    let dtype = options.dtype.resolve(stored, &device);
    let weights = match &options.quantize {
        Some(quantize) => {
            let report = |done, total| progress(LoadStep::Quantizing { done, total });
            quantize.apply(weights, role, &report)?
        }
        None => weights,
    };
    let weights = options.activations.apply(weights, &device)?;
    let plain = options.device.plain;
    let weights = listed(weights, Roster::of_model(&device, plain).as_ref());
    weights.prefetch(&|done, total| progress(LoadStep::Weights { done, total }))?;
    progress(LoadStep::Building);
    Ok(Opened {
        weights,
        placement: Placement {
            device,
            dtype,
            plain,
        },
        dtype,
    })
}

impl Opened {
    /// Where it is.
    pub(crate) fn device(&self) -> &Device {
        &self.placement.device
    }

    /// The weights as they leave their device and come back.
    pub(crate) fn parking(&self) -> Parking {
        Parking::new(self.weights.roster().cloned())
    }

    /// Bytes of the weights as they will be held, roughly.
    pub(crate) fn weight_bytes(&self) -> u64 {
        parameters(self.weights.as_ref()) * self.dtype.size_in_bytes() as u64
    }

    /// What front doors show.
    pub(crate) fn info(&self, architecture: &str, languages: Vec<String>) -> ModelInfo {
        ModelInfo {
            task: Task::AutomaticSpeechRecognition,
            architecture: architecture.to_owned(),
            context_length: 0,
            vocab_size: 0,
            parameters: parameters(self.weights.as_ref()),
            device: device::name(self.device()),
            dtype: self.dtype.as_str().to_owned(),
            chat: false,
            refiner: false,
            adapters: Vec::new(),
            languages,
            cache: None,
        }
    }
}
