//! The text encoders of a model, and what they make of a request's texts: in pieces, so that nobody waits for a whole T5. Apart from
//! `reading`, which is done off the engine's thread.

use candle_core::Tensor;
use chandler_nn::lora::AdapterRows;

use super::families::{Clip, Context, Denoiser, Encoded};
use super::reading::{Negative, Reading, Text};
use crate::error::Result;
use crate::layers::Placement;
use crate::prompt::chunks::Chunks;
use crate::prompt::encode::{PromptEmbedding, encode};
use crate::prompt::t5_text::T5Text;
use crate::text_encoder::clip::{ClipTextModel, HiddenState, Wanted};
use crate::text_encoder::t5::{Passing, T5Encoder};

/// T5's layers of one step: XXL has 24.
const LAYERS_A_STEP: usize = 6;

/// What a denoiser is told of one request.
pub(super) struct Conditions {
    towards: Side,
    away: Option<Side>,
}

/// A row of what it is told.
pub(super) struct Side {
    pub(super) context: Context,
    pub(super) ids: Option<Vec<f64>>,
}

impl Conditions {
    /// The rows of a picture: what it is guided away from, and the prompt.
    pub(super) fn sides(&self) -> impl Iterator<Item = &Side> {
        self.away.iter().chain([&self.towards])
    }
}

/// Texts on their way: CLIP is through with them, and T5 is not.
pub(super) struct Encoding {
    /// The prompt, and what is guided away from where that is a text.
    clip: Vec<Vec<PromptEmbedding>>,
    t5: Option<Passing>,
}

/// The text encoders of a model.
pub(super) struct TextEncoders {
    pub(super) placement: Placement,
    /// Where T5 is: on the host where the device has no room for it.
    pub(super) t5_at: Placement,
    /// What is looked at of CLIP's.
    pub(super) clip: Clip,
    pub(super) models: Vec<Encoder>,
}

/// One of them.
pub(super) enum Encoder {
    Clip(ClipTextModel),
    /// Where `t5_at` says.
    T5(T5Encoder),
}

impl TextEncoders {
    /// Bytes of CLIP's encoders, and of T5.
    pub(super) fn bytes(&self) -> [u64; 2] {
        let mut bytes = [0; 2];
        let [clip, t5] = &mut bytes;
        for model in &self.models {
            match model {
                Encoder::Clip(model) => *clip += model.bytes() as u64,
                Encoder::T5(model) => *t5 += model.bytes() as u64,
            }
        }
        bytes
    }

    fn t5(&self) -> Option<&T5Encoder> {
        self.models.iter().find_map(|model| match model {
            Encoder::T5(model) => Some(model),
            Encoder::Clip(_) => None,
        })
    }

    /// Runs CLIP's encoders over a request's texts, with its adapters by number and weight, and begins with T5.
    pub(super) fn begin(&self, reading: &Reading, loras: &[(u32, f32)]) -> Result<Encoding> {
        // One entry is for all texts alike.
        let adapters = AdapterRows::weighted(vec![loras.to_vec()], &self.placement.device)?;
        let mut clip = vec![self.read_by_clip(&reading.prompt, reading.skip, &adapters)?];
        let mut of_t5 = vec![t5_text(&reading.prompt)];
        if let Some(Negative::Texts(texts)) = &reading.negative {
            // Nothing is left out for the negative prompt, as in diffusers.
            clip.push(self.read_by_clip(texts, 0, &adapters)?);
            of_t5.push(t5_text(texts));
        }
        let texts = || of_t5.iter().flatten();
        let tokens: Vec<&[u32]> = texts().map(|text| text.tokens()).collect();
        let seen: Vec<usize> = texts().map(|text| text.seen()).collect();
        let t5 = match self.t5() {
            Some(model) => Some(model.begin(&tokens, &seen)?),
            None => None,
        };
        Ok(Encoding { clip, t5 })
    }

    /// Takes texts through some more of T5's layers; what the denoiser is told of them, after the last.
    pub(super) fn advance(
        &self,
        encoding: &mut Encoding,
        reading: &Reading,
        denoiser: &dyn Denoiser,
    ) -> Result<Option<Conditions>> {
        let mut t5 = None;
        if let (Some(model), Some(passing)) = (self.t5(), &mut encoding.t5) {
            let mut through = false;
            for _ in 0..LAYERS_A_STEP {
                through = model.advance(passing)?;
                if through {
                    break;
                }
            }
            if !through {
                return Ok(None);
            }
            t5 = Some(model.finish(passing)?);
        }
        let side = |number: usize, texts: &[Text]| -> Result<Side> {
            let clip = encoding.clip.get(number).cloned().unwrap_or_default();
            let t5 = match (&t5, t5_text(texts)) {
                (Some(hidden), Some(text)) => {
                    let weighed = text.weigh(&hidden.get(number)?)?;
                    let seen = weighed.narrow(0, 0, text.seen())?;
                    Some(self.placement.move_in(&seen)?)
                }
                _ => None,
            };
            Ok(Side {
                context: denoiser.context(&Encoded { clip, t5 })?,
                ids: reading
                    .ids
                    .as_ref()
                    .and_then(|ids| ids.get(number))
                    .cloned(),
            })
        };
        let towards = side(0, &reading.prompt)?;
        let away = match &reading.negative {
            None => None,
            Some(Negative::Texts(texts)) => Some(side(1, texts)?),
            Some(Negative::Zeros) => Some(zeros(&towards, reading)?),
        };
        Ok(Some(Conditions { towards, away }))
    }

    /// What CLIP's encoders make of one text each.
    fn read_by_clip(
        &self,
        texts: &[Text],
        skip: usize,
        adapters: &AdapterRows,
    ) -> Result<Vec<PromptEmbedding>> {
        let (hidden, pooled) = match self.clip {
            Clip::Hidden(hidden, pooled) => (hidden(skip), pooled),
            Clip::Pooled => (HiddenState::Normed { skip: 0 }, true),
        };
        let mut read = Vec::with_capacity(texts.len());
        for (model, text) in self.models.iter().zip(texts) {
            if let (Encoder::Clip(model), Text::Clip(chunks)) = (model, text) {
                let chunks: &Chunks = chunks;
                read.extend(encode(
                    model,
                    &[chunks],
                    Wanted { hidden, pooled },
                    adapters,
                )?);
            }
        }
        Ok(read)
    }
}

/// T5's text among those of all encoders.
fn t5_text(texts: &[Text]) -> Option<&T5Text> {
    texts.iter().find_map(|text| match text {
        Text::T5(text) => Some(text),
        Text::Clip(_) => None,
    })
}

/// Nothing at all to be guided away from, but for sizes.
fn zeros(towards: &Side, reading: &Reading) -> Result<Side> {
    let pooled = towards.context.pooled.as_ref();
    Ok(Side {
        context: Context {
            words: towards.context.words.zeros_like()?,
            pooled: pooled.map(Tensor::zeros_like).transpose()?,
        },
        ids: reading.ids.as_ref().and_then(|ids| ids.get(1)).cloned(),
    })
}
