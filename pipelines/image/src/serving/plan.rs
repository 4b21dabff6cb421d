//! What a snapshot in the diffusers layout says of its pipeline, before any weight is read: which parts it has, and their configurations.
//! Apart from `load`, which opens and builds them.

use chandler_nn::error::NnError;
use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;

use super::families::{self, About, Design, Facts, T5, TextPart};
use super::reading::{Reader, TextReader, Tokenizer};
use crate::autoencoder::AutoencoderConfig;
use crate::error::Result;
use crate::model_index::ModelIndex;
use crate::prompt::clip_tokenizer::ClipTokenizer;
use crate::prompt::t5_tokenizer::T5Tokenizer;
use crate::schedulers::SchedulerConfig;
use crate::text_encoder::clip_config::ClipConfig;
use crate::text_encoder::t5_config::T5Config;

const SCHEDULER_FILE: &str = "scheduler/scheduler_config.json";
/// Parts that are not needed for drawing.
const PASSED_OVER: [&str; 1] = ["image_encoder"];

/// A pipeline that may be built.
pub(super) struct Plan {
    pub(super) index: ModelIndex,
    pub(super) facts: &'static Facts,
    /// In the family's order, without those that the model is without.
    pub(super) texts: Vec<TextPlan>,
    pub(super) design: Design,
    pub(super) vae: AutoencoderConfig,
    pub(super) scheduler: SchedulerConfig,
}

/// A text encoder that the model has.
pub(super) struct TextPlan {
    pub(super) part: &'static TextPart,
    pub(super) config: TextConfig,
}

pub(super) enum TextConfig {
    Clip(ClipConfig),
    T5(T5Config),
}

impl Plan {
    /// Reads a snapshot's small files.
    ///
    /// # Errors
    /// Names the file and field at fault, and parts that are missing or of another class.
    pub(super) fn read(snapshot: &Snapshot) -> Result<Self> {
        let index = ModelIndex::read(snapshot)?;
        let facts = families::facts(index.family);
        index.needed_part(facts.denoiser.folder, facts.denoiser.classes)?;
        index.needed_part("vae", &["AutoencoderKL"])?;
        let mut texts = Vec::with_capacity(facts.texts.len());
        for part in facts.texts {
            if part.optional && index.part(part.folder)?.is_none() {
                continue;
            }
            index.needed_part(part.folder, &[part.class])?;
            texts.push(TextPlan::read(snapshot, part)?);
        }
        for name in PASSED_OVER {
            if let Some(class) = index.part(name)? {
                tracing::warn!(part = name, class, "this part of the model is not run");
            }
        }
        let vae = AutoencoderConfig::of(&config(snapshot, "vae")?)?;
        let about = About {
            index: &index,
            latents: vae.latent_channels,
            t5: texts.iter().find_map(TextPlan::t5_width),
        };
        let design = (facts.design)(&config(snapshot, facts.denoiser.folder)?, &about)?;
        let scheduler = SchedulerConfig::load(snapshot, SCHEDULER_FILE)?;
        Ok(Self {
            facts,
            texts,
            design,
            vae,
            scheduler: scheduler.ok_or_else(|| missing(snapshot, SCHEDULER_FILE))?,
            index,
        })
    }

    /// What reads texts for it.
    pub(super) fn reader(&self, snapshot: &Snapshot) -> Result<Reader> {
        let tokenizers = self.texts.iter().map(|text| text.reader(snapshot));
        Ok(Reader {
            clip: self.facts.clip,
            tokenizers: tokenizers.collect::<Result<_>>()?,
            layers: self.clip_layers(),
            force_zeros: self.index.flag("force_zeros_for_empty_prompt")?,
            told: self.design.told,
            lengths: self.design.text_lengths,
            small_letters: self.facts.small_letters,
        })
    }

    /// Layers of the shallowest of CLIP's encoders.
    fn clip_layers(&self) -> usize {
        let layers = self.texts.iter().filter_map(|text| match &text.config {
            TextConfig::Clip(config) => Some(config.layers),
            TextConfig::T5(_) => None,
        });
        layers.min().unwrap_or(0)
    }
}

impl TextPlan {
    fn t5_width(&self) -> Option<usize> {
        match &self.config {
            TextConfig::T5(config) => Some(config.width),
            TextConfig::Clip(_) => None,
        }
    }

    fn read(snapshot: &Snapshot, part: &'static TextPart) -> Result<Self> {
        let fields = config(snapshot, part.folder)?;
        let config = match part.class == T5 {
            true => TextConfig::T5(T5Config::read(&fields)?),
            false => TextConfig::Clip(ClipConfig::read(&fields, part.class.parse()?)?),
        };
        Ok(Self { part, config })
    }

    /// Its tokenizer.
    pub(super) fn reader(&self, snapshot: &Snapshot) -> Result<TextReader> {
        let folder = self.part.tokenizer;
        Ok(TextReader {
            prompt: self.part.prompt,
            tokenizer: match &self.config {
                TextConfig::Clip(config) => Tokenizer::Clip(ClipTokenizer::from_snapshot(
                    snapshot,
                    folder,
                    config.positions,
                )?),
                TextConfig::T5(_) => Tokenizer::T5(T5Tokenizer::from_snapshot(snapshot, folder)?),
            },
        })
    }
}

/// A part's config.json.
fn config(snapshot: &Snapshot, folder: &str) -> Result<Fields> {
    let file = format!("{folder}/config.json");
    let fields = Fields::read(snapshot, &file)?;
    fields.ok_or_else(|| missing(snapshot, &file))
}

fn missing(snapshot: &Snapshot, file: &str) -> crate::error::ImageError {
    let message = format!("{snapshot} has none; a pipeline in the diffusers layout does");
    NnError::config(file, message).into()
}
