//! What a request's texts are read into, off the engine's thread: tokens for each text encoder, and for models that are told them sizes, for
//! SDXL of the picture that is to be imitated. Apart from `encoders`, which makes numbers of them. After `encode_prompt` and `_get_add_time_ids` of `diffusers`
//! pipeline_stable_diffusion.py and pipeline_stable_diffusion_xl.py.

use chandler_core::{Micro, Prompts, RequestError};

use super::families::{Clip, TextLengths};
use crate::pixels::Size;
use crate::prompt::chunks::Chunks;
use crate::prompt::clip_tokenizer::ClipTokenizer;
use crate::prompt::t5_text::T5Text;
use crate::prompt::t5_tokenizer::T5Tokenizer;
use crate::prompt::weighting::{Piece, Syntax, parse};

/// How beautiful a refiner is told that the picture and the negative one are, when nobody says.
const AESTHETIC_SCORES: [f64; 2] = [6.0, 2.5];

/// What a request is read into.
pub(super) struct Reading {
    /// For each encoder.
    pub(super) prompt: Vec<Text>,
    /// The same, where the drawing is guided away from something.
    pub(super) negative: Option<Negative>,
    pub(super) skip: usize,
    pub(super) ids: Option<[Vec<f64>; 2]>,
    /// Tokens that the denoiser attends to; 0 where those of one pass need not have as many.
    pub(super) length: usize,
}

/// A text for one encoder.
pub(super) enum Text {
    Clip(Chunks),
    T5(T5Text),
}

/// What a drawing is guided away from.
pub(super) enum Negative {
    /// Texts for each encoder.
    Texts(Vec<Text>),
    /// Nothing at all, not even an empty text: SDXL's `force_zeros_for_empty_prompt`.
    Zeros,
}

/// Reads prompts: the tokenizers, and what is known of the model.
pub(super) struct Reader {
    /// What is looked at of CLIP's encoders.
    pub(super) clip: Clip,
    /// In the order of the encoders.
    pub(super) tokenizers: Vec<TextReader>,
    /// Layers of the shallowest of CLIP's encoders.
    pub(super) layers: usize,
    /// SDXL's switch.
    pub(super) force_zeros: bool,
    /// Whether the denoiser is told sizes, and whether a score of beauty with them.
    pub(super) told: Told,
    /// How long T5's texts are.
    pub(super) lengths: TextLengths,
    /// Whether texts are read in small letters, without space around them.
    pub(super) small_letters: bool,
}

/// The tokenizer of an encoder.
pub(super) struct TextReader {
    /// Which of a request's prompts is its own, counted from 0.
    pub(super) prompt: usize,
    pub(super) tokenizer: Tokenizer,
}

pub(super) enum Tokenizer {
    Clip(ClipTokenizer),
    T5(T5Tokenizer),
}

/// What the denoiser is told besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// Sizes and crops.
    Sizes,
    /// Sizes, crops and a score of beauty: a refiner.
    SizesAndScore,
    /// The picture's own height and width, and their quotient: PixArt-α.
    Shape,
}

impl Told {
    /// The first of a request's numbers that has no place in what the denoiser is told.
    pub(super) fn untold(self, micro: &Micro) -> Option<&'static str> {
        let targets = micro.target_size.or(micro.negative_target_size).is_some();
        let sizes = micro
            .original_size
            .or(micro.negative_original_size)
            .is_some();
        let crops = micro.crop.or(micro.negative_crop).is_some();
        let scores = micro.aesthetic_scores.is_some();
        let refiner = self == Self::SizesAndScore;
        let told_sizes = refiner || self == Self::Sizes;
        let asked = [
            ("original_size", sizes && !told_sizes),
            ("crops_coords_top_left", crops && !told_sizes),
            ("target_size", targets && self != Self::Sizes),
            ("aesthetic_score", scores && !refiner),
        ];
        let untold = asked.into_iter().find(|(_, untold)| *untold);
        untold.map(|(field, _)| field)
    }
}

/// The parts of a request that are read.
pub(super) struct Sought<'a> {
    pub(super) prompt: &'a Prompts,
    pub(super) negative: &'a Prompts,
    pub(super) clip_skip: usize,
    pub(super) guided: bool,
    pub(super) micro: &'a Micro,
    pub(super) size: Size,
}

impl Reader {
    /// Reads a request's texts; gives back how many tokens they have, too.
    ///
    /// # Errors
    /// A text that is too long or that nobody reads, or more layers left out than there are.
    pub(super) fn read(&self, texts: &Sought<'_>) -> Result<(Reading, u32), RequestError> {
        self.check(texts)?;
        let mut prompt = self.texts(texts.prompt, "prompt")?;
        let empty = texts.negative.first.is_none() && texts.negative.second.is_none();
        let mut negative = match texts.guided {
            false => None,
            true if empty && self.force_zeros => Some(Negative::Zeros),
            true => Some(Negative::Texts(
                self.texts(texts.negative, "negative_prompt")?,
            )),
        };
        let mut all: Vec<&mut Text> = prompt.iter_mut().collect();
        if let Some(Negative::Texts(negative)) = &mut negative {
            all.extend(negative);
        }
        let (length, tokens) = self.settle(all);
        let reading = Reading {
            prompt,
            negative,
            skip: texts.clip_skip,
            ids: self.ids(texts.micro, texts.size),
            length,
        };
        Ok((reading, tokens))
    }

    /// Refuses what the encoders have no use for.
    fn check(&self, texts: &Sought<'_>) -> Result<(), RequestError> {
        match self.clip {
            Clip::Pooled if texts.clip_skip > 0 => {
                let message = "this model looks at none of the layers that could be left out";
                return Err(RequestError::unsupported("clip_skip", message));
            }
            Clip::Hidden(..) if texts.clip_skip + 1 >= self.layers => {
                let message = format!(
                    "clip_skip is {}; the text encoder has {} layers, of which at least two are kept",
                    texts.clip_skip, self.layers
                );
                return Err(RequestError::field("clip_skip", message));
            }
            Clip::Pooled | Clip::Hidden(..) => {}
        }
        for (prompts, field) in [
            (texts.prompt, "prompt"),
            (texts.negative, "negative_prompt"),
        ] {
            for number in [1, 2] {
                let read = self.tokenizers.iter().any(|t| t.prompt == number);
                if own(prompts, number).is_some() && !read {
                    let message = format!(
                        "this model has no text encoder of number {}: nobody reads it",
                        number + 1
                    );
                    let field = format!("{field}_{}", number + 1);
                    return Err(RequestError::unsupported(field, message));
                }
            }
        }
        Ok(())
    }

    /// A text for each encoder, which reads the first where it has none of its own.
    fn texts(&self, prompts: &Prompts, field: &str) -> Result<Vec<Text>, RequestError> {
        let text = |reader: &TextReader| {
            let (text, field) = match own(prompts, reader.prompt) {
                Some(text) => (text, format!("{field}_{}", reader.prompt + 1)),
                None => (
                    prompts.first.as_deref().unwrap_or_default(),
                    field.to_owned(),
                ),
            };
            let mut pieces = parse(text, Syntax::Weighted, &field)?;
            if self.small_letters {
                pieces.iter_mut().for_each(Piece::lower);
            }
            match &reader.tokenizer {
                Tokenizer::Clip(tokenizer) => {
                    let mut chunks = Chunks::new(tokenizer, &pieces, &field)?;
                    if let Clip::Pooled = self.clip {
                        chunks.keep_first();
                    }
                    Ok(Text::Clip(chunks))
                }
                Tokenizer::T5(tokenizer) => {
                    let text = T5Text::new(tokenizer, &pieces, &field)?;
                    self.has_room(text.tokens().len(), &field)?;
                    Ok(Text::T5(text))
                }
            }
        };
        self.tokenizers.iter().map(text).collect()
    }

    fn has_room(&self, tokens: usize, field: &str) -> Result<(), RequestError> {
        let most = self.lengths.most();
        if tokens <= most {
            return Ok(());
        }
        let message = format!(
            "{field} has {tokens} tokens for T5, its end included; this model reads {most}"
        );
        Err(RequestError::field(field, message))
    }

    /// Brings all texts of a request to one length for each kind of encoder; gives back how many tokens the denoiser attends to, and how
    /// many are the texts' own.
    fn settle(&self, all: Vec<&mut Text>) -> (usize, u32) {
        let (mut windows, mut of_t5, mut tokens) = (1, 0, 0);
        for text in &all {
            match text {
                Text::Clip(chunks) => {
                    windows = windows.max(chunks.count());
                    tokens += chunks.text_tokens();
                }
                Text::T5(text) => {
                    of_t5 = of_t5.max(text.tokens().len());
                    tokens += text.tokens().len().saturating_sub(1);
                }
            }
        }
        let room = match self.lengths {
            TextLengths::Padded(lengths) => lengths.iter().find(|length| of_t5 <= **length),
            TextLengths::Own(_) => None,
        };
        let room = room.copied().unwrap_or(of_t5);
        let (mut by_clip, mut by_t5) = (0, 0);
        for text in all {
            match text {
                Text::Clip(chunks) => {
                    chunks.pad_to(windows);
                    by_clip = chunks.as_slice().iter().map(|c| c.tokens.len()).sum();
                }
                Text::T5(text) => match self.lengths {
                    TextLengths::Padded(_) => {
                        text.fit(room);
                        by_t5 = room;
                    }
                    TextLengths::Own(_) => text.pad_unseen(room),
                },
            }
        }
        (by_clip + by_t5, tokens as u32)
    }

    /// The numbers of sizes for the prompt and for what it is guided away from.
    fn ids(&self, micro: &Micro, size: Size) -> Option<[Vec<f64>; 2]> {
        let own = [size.height, size.width];
        if self.told == Told::Shape {
            let [height, width] = own.map(f64::from);
            let ids = vec![height, width, height / width];
            return Some([ids.clone(), ids]);
        }
        let original = micro.original_size.unwrap_or(own);
        let crop = micro.crop.unwrap_or_default();
        let target = micro.target_size.unwrap_or(own);
        let sides = [
            (original, crop, target),
            (
                micro.negative_original_size.unwrap_or(original),
                micro.negative_crop.unwrap_or(crop),
                micro.negative_target_size.unwrap_or(target),
            ),
        ];
        let scores = micro.aesthetic_scores.unwrap_or(AESTHETIC_SCORES);
        let pair = |pair: [u32; 2]| pair.map(f64::from);
        let mut scores = scores.into_iter();
        let ids = sides.map(|(original, crop, target)| {
            let mut ids = [pair(original), pair(crop)].concat();
            match self.told {
                Told::SizesAndScore => ids.extend(scores.next()),
                Told::Sizes | Told::Nothing | Told::Shape => ids.extend(pair(target)),
            }
            ids
        });
        (self.told != Told::Nothing).then_some(ids)
    }
}

/// The text of a number of its own, where it has one.
fn own(prompts: &Prompts, number: usize) -> Option<&str> {
    let text = match number {
        1 => prompts.second.as_deref(),
        2 => prompts.third.as_deref(),
        _ => None,
    };
    text.filter(|text| !text.is_empty())
}
