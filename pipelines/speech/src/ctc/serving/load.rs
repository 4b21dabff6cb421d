//! From a snapshot to a pipeline: read the small files, bring the weights in.

use std::sync::{Arc, Mutex};

use chandler_nn::weights::{LoadStep, Snapshot, TensorSource};

use super::adapters::{Adapters, here};
use super::pipeline::CtcPipeline;
use super::prepare::CtcPreparer;
use crate::ctc::config::ARCHITECTURE;
use crate::ctc::model::quantize_role;
use crate::ctc::{Ctc, CtcConfig, Vocabularies};
use crate::error::{Result, SpeechError};
use crate::failure;
use crate::features::Wav2Vec2Config;
use crate::listening::Ear;
use crate::load::{SpeechOptions, open};
use chandler_nn::fields::Fields;

/// Utterances that go through together.
const TOGETHER: usize = 8;
/// Seconds of audio that a CPU takes at once, which keeps a step short, and a GPU.
const SECONDS: (usize, usize) = (30, 240);

impl CtcPipeline {
    /// Loads a CTC model.
    ///
    /// # Errors
    /// Names the file and field, tensor or device at fault.
    pub fn load(
        snapshot: &Snapshot,
        options: &SpeechOptions,
        progress: &(dyn Fn(LoadStep) + Sync),
    ) -> Result<Self> {
        let config = CtcConfig::from_snapshot(snapshot)?;
        let vocabularies = Vocabularies::from_snapshot(snapshot)?;
        let hears = hears(snapshot)?;
        let opened = open(snapshot, options, (stored_dtype, &quantize_role), progress)?;
        let languages = here(&vocabularies, snapshot);
        let info = opened.info(ARCHITECTURE, languages);
        let (needed, device) = (opened.weight_bytes(), opened.device().clone());
        let (placement, parking) = (opened.placement.clone(), opened.parking());
        let model = Ctc::load(config, opened.weights.as_ref(), opened.placement)
            .map_err(|error| failure::while_loading(error, needed, &device))?;
        let seconds = if device.is_cpu() {
            SECONDS.0
        } else {
            SECONDS.1
        };
        let preparer = CtcPreparer {
            adapters: Adapters {
                own: model.own_adapter(),
                vocabularies,
                snapshot: snapshot.clone(),
                config: Arc::clone(&model.config),
                placement,
                kept: Mutex::default(),
            },
            ear: Ear::samples(hears.sampling_rate, hears.do_normalize),
            info,
        };
        Ok(Self {
            model,
            preparer: Arc::new(preparer),
            running: Vec::new(),
            underway: None,
            most: options.max_rows.max(1),
            together: (
                TOGETHER.min(options.max_rows).max(1),
                seconds * hears.sampling_rate as usize,
            ),
            turn: 0,
            parking,
        })
    }
}

/// preprocessor_config.json; a checkpoint without one hears as transformers' default does.
fn hears(snapshot: &Snapshot) -> Result<Wav2Vec2Config> {
    const FILE: &str = "preprocessor_config.json";
    let json = match Fields::read(snapshot, FILE)? {
        Some(fields) => fields.into_value(),
        None => serde_json::json!({}),
    };
    Wav2Vec2Config::from_json(&json).map_err(|error| SpeechError::config(FILE, error.to_string()))
}

/// The dtype of the first matrix is the checkpoint's.
fn stored_dtype(source: &dyn TensorSource) -> Result<candle_core::DType> {
    Ok(source
        .tensor("wav2vec2.feature_projection.projection.weight")?
        .dtype())
}
