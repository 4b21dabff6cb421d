//! What families of models differ in, and nothing else: which parts they have, how their texts are put together, how their denoiser is
//! called, and what a request gets that does not say. A family is a file here that gives its [`Facts`]; all around them is shared.

mod flux;
mod pixart;
mod stable_diffusion;
mod stable_diffusion_3;
mod stable_diffusion_xl;
mod unet;

use candle_core::Tensor;
use chandler_nn::fields::Fields;
use chandler_nn::lora::AdapterRows;
use chandler_nn::weights::TensorSource;

use super::reading::Told;
use crate::error::Result;
use crate::layers::Placement;
use crate::lora::Layer;
use crate::model_index::{Family, ModelIndex};
use crate::prompt::encode::PromptEmbedding;
use crate::text_encoder::clip::HiddenState;
use crate::unet::{ContractingConfig, Residuals};

const CLIP: &str = "CLIPTextModel";
const CLIP_PROJECTED: &str = "CLIPTextModelWithProjection";
/// The class of T5's encoder.
pub(super) const T5: &str = "T5EncoderModel";

/// A family's facts.
pub(super) fn facts(family: Family) -> &'static Facts {
    match family {
        Family::StableDiffusion => &stable_diffusion::FACTS,
        Family::StableDiffusionXl => &stable_diffusion_xl::FACTS,
        Family::StableDiffusion3 => &stable_diffusion_3::FACTS,
        Family::Flux => &flux::FACTS,
        Family::PixArt => &pixart::FACTS,
    }
}

/// What is true of all models of a family.
pub(super) struct Facts {
    /// Its text encoders, in the order in which their texts are put together.
    pub(super) texts: &'static [TextPart],
    /// What is looked at of CLIP's encoders.
    pub(super) clip: Clip,
    /// Its denoiser.
    pub(super) denoiser: DenoiserPart,
    /// Whether its texts are read in small letters, without space around them.
    pub(super) small_letters: bool,
    /// Reads the denoiser's configuration.
    pub(super) design: fn(&Fields, &About<'_>) -> Result<Design>,
}

/// A text encoder, with its tokenizer.
pub(super) struct TextPart {
    pub(super) folder: &'static str,
    pub(super) tokenizer: &'static str,
    pub(super) class: &'static str,
    /// Which of a request's prompts is its own, counted from 0; the first where that one is not given.
    pub(super) prompt: usize,
    /// Whether a model may be without it.
    pub(super) optional: bool,
}

/// What is looked at of CLIP's encoders.
#[derive(Clone, Copy)]
pub(super) enum Clip {
    /// Hidden states, of which some layers may be left out; the pooled text besides or not.
    Hidden(fn(usize) -> HiddenState, bool),
    /// The pooled text alone, which is of the first window.
    Pooled,
}

/// The part that takes the noise away.
pub(super) struct DenoiserPart {
    pub(super) folder: &'static str,
    /// Its class, and what else checkpoints call it.
    pub(super) classes: &'static [&'static str],
    /// A tensor whose dtype is the model's.
    pub(super) probe: &'static str,
}

/// What a denoiser's configuration is read beside.
pub(super) struct About<'a> {
    pub(super) index: &'a ModelIndex,
    /// Channels of the autoencoder's latents.
    pub(super) latents: usize,
    /// Width of T5's hidden states, where the model has one.
    pub(super) t5: Option<usize>,
}

impl About<'_> {
    /// Refuses a denoiser that wants another width of T5's hidden states than there is; `field` says what it wants.
    fn check_t5(&self, fields: &Fields, field: &str, wanted: usize) -> Result<()> {
        match self.t5 {
            Some(width) if width != wanted => {
                let message = format!("{wanted}, and d_model of the text encoder is {width}");
                Err(fields.fault(field, message).into())
            }
            _ => Ok(()),
        }
    }
}

/// What is true of one model.
pub(super) struct Design {
    /// Whether the denoiser takes a mask and what it leaves of a picture besides the latents.
    pub(super) takes_mask: bool,
    /// Latents along each side of a token; both sides of a picture are whole tokens.
    pub(super) patch: usize,
    /// Latents along the sides of the pictures that it was made for, rows and columns.
    pub(super) usual: [usize; 2],
    /// Latents along a side at most, where the model has an end.
    pub(super) most: Option<usize>,
    /// Bytes that a row takes for each element of the latents' plane, roughly.
    pub(super) row_bytes: u64,
    /// What becomes of the guidance that a request asks for.
    pub(super) guided: Guided,
    /// Whether it can be guided by pairs of rows besides (`true_cfg_scale`).
    pub(super) true_guidance: bool,
    /// What it is told of sizes.
    pub(super) told: Told,
    /// How long T5's texts are.
    pub(super) text_lengths: TextLengths,
    /// Noise levels for so many steps, where they are not the scheduler's own.
    pub(super) sigmas: Option<fn(usize) -> Vec<f64>>,
    /// What a request gets that does not say.
    pub(super) defaults: Defaults,
    /// The half of a UNet that ControlNets copy, of models that they steer.
    pub(super) steered: Option<ContractingConfig>,
    /// Builds it.
    pub(super) load: Box<Load>,
}

/// How long T5's texts are, in tokens, their ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextLengths {
    /// They are padded to the least of these that has room, and the padding is looked at.
    Padded(&'static [usize]),
    /// As long as they are, up to so many.
    Own(usize),
}

impl TextLengths {
    /// The most that a text may have.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Padded(lengths) => lengths.last().copied().unwrap_or(0),
            Self::Own(most) => most,
        }
    }
}

/// Builds a denoiser of its weights.
pub(super) type Load =
    dyn Fn(&dyn TensorSource, &Placement) -> Result<Box<dyn Denoiser>> + Send + Sync;

/// What becomes of the guidance that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guided {
    /// Two rows for each picture, between which is extrapolated.
    ByPairs,
    /// The denoiser was distilled to be told it.
    ByTelling,
    /// The denoiser was distilled to go without.
    Never,
}

/// What a request gets that does not say, after the signatures of `__call__` in diffusers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// Steps, without and with a picture to begin with.
    pub(super) steps: [u32; 2],
    /// Guidance, without and with a picture to begin with.
    pub(super) guidance: [f64; 2],
    /// How much of a picture may change, without and with a mask.
    pub(super) strength: [f64; 2],
}

/// What the text encoders made of one text.
pub(super) struct Encoded {
    /// Of CLIP's, in their order.
    pub(super) clip: Vec<PromptEmbedding>,
    /// [tokens, width] of T5's.
    pub(super) t5: Option<Tensor>,
}

/// What a row of the denoiser is told of its text.
pub(super) struct Context {
    /// [1, tokens, width]
    pub(super) words: Tensor,
    /// [1, width of the pooled text]
    pub(super) pooled: Option<Tensor>,
}

/// Rows of one size.
pub(super) struct Batch {
    /// [rows, channels, height, width], where and as activations are.
    pub(super) latents: Tensor,
    /// One for each row, as the scheduler has it.
    pub(super) timesteps: Vec<f64>,
    /// Each row's text, [1, tokens, width]; of one length but where [`TextLengths::Own`] is said.
    pub(super) words: Vec<Tensor>,
    /// [rows, width]
    pub(super) pooled: Option<Tensor>,
    /// The numbers of sizes that each row is told; none of models that are told nothing.
    pub(super) ids: Vec<Vec<f64>>,
    /// What each row is told of guidance; none for models that are told nothing.
    pub(super) guidance: Vec<f64>,
    /// What ControlNets add to a UNet.
    pub(super) residuals: Option<Residuals>,
    /// Each row's adapters (LoRA).
    pub(super) adapters: AdapterRows,
}

impl Batch {
    /// Texts of one length: [rows, tokens, width].
    fn text(&self) -> Result<Tensor> {
        Ok(Tensor::cat(&self.words, 0)?)
    }

    /// Each row's timestep, as transformers have it.
    fn times(&self) -> Vec<f32> {
        self.timesteps.iter().map(|time| *time as f32).collect()
    }
}

/// A denoiser, loaded.
pub(super) trait Denoiser: Send {
    /// Puts the texts of its encoders together.
    fn context(&self, texts: &Encoded) -> Result<Context>;

    /// What the rows lose next, [rows, latents' channels, height, width].
    fn predict(&self, batch: &Batch) -> Result<Tensor>;

    /// Its layers that adapters may stand beside.
    fn layers(&mut self) -> Vec<Layer<'_>>;

    /// Bytes of its weights.
    fn bytes(&self) -> u64;
}

/// A model whose parts do not go together.
fn lacking(what: &str) -> crate::error::ImageError {
    crate::error::ImageError::Input(format!("{what} is missing, which this denoiser is told"))
}

/// The pooled texts of all CLIP encoders.
fn pooled(texts: &Encoded) -> Result<Vec<&Tensor>> {
    let each = texts.clip.iter().map(|text| text.pooled.as_ref());
    each.map(|pooled| pooled.ok_or_else(|| lacking("a pooled text")))
        .collect()
}
