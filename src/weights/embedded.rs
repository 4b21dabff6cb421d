//! The demo models, compiled into the binary so that a worker can be tried with nothing else at hand.
//! Their cards, and the scripts that made them, are in `pipelines/demo`.

use chandler_nn::weights::Snapshot;

use super::{Demo, WeightsError};

/// Files of a demo model, by name.
macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../pipelines/demo/", $folder, "/", $name)))),*]
    };
}

#[cfg(feature = "text")]
const CHAT: &[(&str, &[u8])] = files!["chat":
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
];
#[cfg(feature = "speech")]
const SPEECH: &[(&str, &[u8])] = files!["speech":
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "model.safetensors",
];
#[cfg(feature = "image")]
const IMAGE: &[(&str, &[u8])] = files!["image":
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Files by their names.
pub type Files = &'static [(&'static str, &'static [u8])];

/// A demo model's files.
///
/// # Errors
/// [`WeightsError::NoPipelines`] in a build that cannot run it, and does not have it.
pub fn files(demo: Demo) -> Result<Files, WeightsError> {
    match demo {
        #[cfg(feature = "text")]
        Demo::Chat => Ok(CHAT),
        #[cfg(feature = "speech")]
        Demo::Speech => Ok(SPEECH),
        #[cfg(feature = "image")]
        Demo::Image => Ok(IMAGE),
        #[allow(unreachable_patterns)] // Why: with all modalities there is no other.
        other => Err(WeightsError::NoPipelines(format!("{other:?}"))),
    }
}

/// A demo model as pipelines read it.
///
/// # Errors
/// As [`files`].
pub fn demo(demo: Demo) -> Result<Snapshot, WeightsError> {
    let name = match demo {
        Demo::Chat => "the embedded demo model",
        Demo::Speech => "the embedded speech model",
        Demo::Image => "the embedded image model",
    };
    files(demo).map(|files| Snapshot::embedded(name, files))
}
