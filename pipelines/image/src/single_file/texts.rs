//! The text encoders of each family: where each lies in the file, which model it is, and so which tensors and which configuration it
//! has. Apart from `kind`, which tells families, and from the tables of names, one for each model.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::view::Pieces;
use super::{clip, open_clip, t5};
use crate::error::Result;

/// A text encoder of a family.
pub(super) struct Texts {
    /// Its folder in the diffusers layout.
    pub(super) folder: &'static str,
    /// Its tokenizer's.
    pub(super) tokenizer: &'static str,
    /// Its class.
    pub(super) class: &'static str,
    /// What its tensors' names begin with.
    pub(super) prefix: &'static str,
    /// Which it is.
    pub(super) model: Model,
    /// Whether a model may be without it.
    pub(super) optional: bool,
}

/// A model that reads texts, and whose names its tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// CLIP L, in transformers' names.
    Clip,
    /// OpenCLIP H or bigG, in its own.
    OpenClip,
    /// OpenCLIP bigG in transformers'.
    OpenClipRenamed,
    /// T5's encoder, in transformers'.
    T5,
}

const PLAIN: &str = "CLIPTextModel";
const PROJECTED: &str = "CLIPTextModelWithProjection";

const fn first(class: &'static str, model: Model, prefix: &'static str) -> Texts {
    Texts {
        folder: "text_encoder",
        tokenizer: "tokenizer",
        class,
        prefix,
        model,
        optional: false,
    }
}

const fn second(class: &'static str, model: Model, prefix: &'static str) -> Texts {
    Texts {
        folder: "text_encoder_2",
        tokenizer: "tokenizer_2",
        ..first(class, model, prefix)
    }
}

const CLIP_L: &str = "text_encoders.clip_l.transformer.";
const CLIP_G: &str = "text_encoders.clip_g.transformer.";
const T5_XXL: &str = "text_encoders.t5xxl.transformer.";

pub(super) static ONE: [Texts; 1] = [first(PLAIN, Model::Clip, "cond_stage_model.transformer.")];
pub(super) static TWO: [Texts; 1] = [first(PLAIN, Model::OpenClip, "cond_stage_model.model.")];
pub(super) static XL: [Texts; 2] = [
    first(PLAIN, Model::Clip, "conditioner.embedders.0.transformer."),
    second(PROJECTED, Model::OpenClip, "conditioner.embedders.1.model."),
];
pub(super) static REFINER: [Texts; 1] = [second(
    PROJECTED,
    Model::OpenClip,
    "conditioner.embedders.0.model.",
)];
pub(super) static THREE: [Texts; 3] = [
    first(PROJECTED, Model::Clip, CLIP_L),
    second(PROJECTED, Model::OpenClipRenamed, CLIP_G),
    Texts {
        folder: "text_encoder_3",
        tokenizer: "tokenizer_3",
        class: T5_CLASS,
        prefix: T5_XXL,
        model: Model::T5,
        optional: true,
    },
];
pub(super) static FLUX: [Texts; 2] = [
    first(PLAIN, Model::Clip, CLIP_L),
    second(T5_CLASS, Model::T5, T5_XXL),
];

const T5_CLASS: &str = "T5EncoderModel";

impl Texts {
    /// Whether its pooled text is projected.
    pub(super) fn projected(&self) -> bool {
        self.class == PROJECTED
    }

    /// What fills the room behind one of CLIP's texts.
    pub(super) fn pad(&self) -> &'static str {
        match self.model {
            Model::OpenClip | Model::OpenClipRenamed => "!",
            Model::Clip | Model::T5 => "<|endoftext|>",
        }
    }

    /// All tensors.
    pub(super) fn pieces(&self, checkpoint: &Checkpoint) -> Result<Pieces> {
        match self.model {
            Model::Clip | Model::OpenClipRenamed => clip::pieces(checkpoint, self),
            Model::OpenClip => Ok(open_clip::pieces(checkpoint, self)),
            Model::T5 => Ok(t5::pieces(checkpoint, self.prefix)),
        }
    }

    /// config.json.
    pub(super) fn config(&self, checkpoint: &Checkpoint) -> Result<Value> {
        match self.model {
            Model::Clip | Model::OpenClipRenamed => clip::config(checkpoint, self),
            Model::OpenClip => open_clip::config(checkpoint, self),
            Model::T5 => t5::config(checkpoint, self.prefix),
        }
    }
}

/// Of one of CLIP's encoders.
pub(super) struct TextSizes {
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) width: usize,
    pub(super) feed_forward: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) projection: usize,
}

/// CLIP's text encoders are the same to both of their layouts but for names.
pub(super) fn text_config(text: &Texts, sizes: &TextSizes) -> Value {
    json!({
        "architectures": [text.class],
        "model_type": "clip_text_model",
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.feed_forward,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "projection_dim": sizes.projection,
        "hidden_act": if text.model == Model::Clip { "quick_gelu" } else { "gelu" },
        // As all published configurations have it, whatever the tokenizer's is: the highest id of a text ends it.
        "eos_token_id": 2,
    })
}
