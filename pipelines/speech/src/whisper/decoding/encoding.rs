//! Windows on their way from frames to what the decoder looks at: the encoder's stages, then a layer of the decoder at a time.
//! Apart from the batch, which does not know that there are stages of two kinds.

use candle_core::Tensor;

use crate::error::Result;
use crate::whisper::caches::Caches;
use crate::whisper::decoder::Decoder;
use crate::whisper::encoder::{self, Encoding};

/// The parts of a model that windows go through.
pub(super) struct Encoder<'a> {
    pub(super) encoder: &'a encoder::Encoder,
    pub(super) decoder: &'a Decoder,
}

/// Windows that go through together.
pub(super) struct Underway {
    members: Vec<WindowBlock>,
    at: At,
}

struct WindowBlock {
    block: u32,
    /// Whether nobody waits for it any more.
    forgotten: bool,
}

enum At {
    /// In the encoder.
    Encoder(Box<Encoding>),
    /// Being kept for the decoder: what the encoder gave, and the next layer.
    Decoder(Tensor, usize),
}

impl Underway {
    /// Takes up the frames of some windows, with their blocks of the cross-attention cache.
    pub(super) fn begin(encoder: &encoder::Encoder, windows: Vec<(u32, Vec<f32>)>) -> Result<Self> {
        let frames: Vec<&[f32]> = windows
            .iter()
            .map(|(_, frames)| frames.as_slice())
            .collect();
        let member = |(block, _): &(u32, Vec<f32>)| WindowBlock {
            block: *block,
            forgotten: false,
        };
        Ok(Self {
            at: At::Encoder(Box::new(encoder.begin(&frames)?)),
            members: windows.iter().map(member).collect(),
        })
    }

    pub(super) fn windows(&self) -> usize {
        self.members.len()
    }

    /// Does the next stage; whether that was the last.
    pub(super) fn advance(&mut self, model: &Encoder<'_>, caches: &mut Caches) -> Result<bool> {
        match &mut self.at {
            At::Encoder(encoding) => {
                if model.encoder.advance(encoding)? {
                    let encoded = model.encoder.finish(encoding)?;
                    self.at = At::Decoder(encoded, 0);
                }
                Ok(false)
            }
            At::Decoder(encoded, layer) => {
                let blocks: Vec<u32> = self.members.iter().map(|member| member.block).collect();
                model.decoder.look_at(*layer, encoded, &blocks, caches)?;
                *layer += 1;
                Ok(*layer >= model.decoder.layers())
            }
        }
    }

    /// Blocks of windows that somebody waits for.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u32> + '_ {
        let members = self.members.iter().filter(|member| !member.forgotten);
        members.map(|member| member.block)
    }

    /// Blocks of the others.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = u32> + '_ {
        let members = self.members.iter().filter(|member| member.forgotten);
        members.map(|member| member.block)
    }

    /// Notes that nobody waits for this block any more.
    pub(super) fn forget(&mut self, block: u32) {
        for member in &mut self.members {
            member.forgotten |= member.block == block;
        }
    }

    /// Whether nobody waits for any.
    pub(super) fn is_forgotten(&self) -> bool {
        self.members.iter().all(|member| member.forgotten)
    }
}
