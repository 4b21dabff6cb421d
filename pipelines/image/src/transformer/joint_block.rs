//! The block of two sequences, image and text, each with layers of its own and one attention over both. Mirrors `diffusers`
//! models/attention.py, `JointTransformerBlock` (SD 3), and transformer_flux.py, `FluxTransformerBlock`, which compute the same but
//! for FLUX's rotation.

use candle_core::Tensor;
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::Norm;
use chandler_nn::rope::Rotation;

use super::attention::{Heading, IMAGE, Names, TEXT, attend};
use super::conditioning::{Modulation, Told, add_gated, clip, modulate, plain_norm};
use super::config::Heads;
use super::feed_forward::FeedForward;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// What a block has.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) heads: Heads,
    /// Queries and keys are normed.
    pub(super) normed: bool,
    /// The image attends to itself once more, beside: SD 3.5 medium.
    pub(super) dual: bool,
    /// The text is not needed after it: SD 3's last.
    pub(super) last: bool,
}

/// What a sequence goes through after attention.
struct After {
    out: Projection,
    norm: Norm,
    feed: FeedForward,
}

impl After {
    /// `out` and `feed` are what its layers are called.
    fn load(at: &Loader<'_>, (out, feed): (&str, &str), width: usize) -> Result<Self> {
        Ok(Self {
            out: Projection::load(&at.at("attn"), out, width, width)?,
            norm: plain_norm(at, width)?,
            feed: FeedForward::load(&at.at(feed), width)?,
        })
    }

    /// `x` after what it attended to, and `besides`, were added, and its feed-forward layer.
    fn forward(
        &self,
        (x, attended): (&Tensor, &Tensor),
        besides: Option<Tensor>,
        (gates, adapters): ([&Tensor; 4], &AdapterRows),
    ) -> Result<Tensor> {
        let [gate, shift, scale, feed_gate] = gates;
        let mut x = add_gated(x, &self.out.forward(attended, adapters)?, gate)?;
        if let Some(besides) = besides {
            x = (x + besides)?;
        }
        let normed = modulate(&self.norm.forward(&x)?, shift, scale)?;
        add_gated(&x, &self.feed.forward(&normed, adapters)?, feed_gate)
    }

    fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.push(Layer::Linear(&mut self.out));
        self.feed.layers(found);
    }

    fn bytes(&self) -> usize {
        self.out.bytes() + self.norm.bytes() + self.feed.bytes()
    }
}

/// The image's modulation, and its second attention where it has one.
enum ImageNorm {
    Single(Modulation<6>),
    Dual {
        modulation: Modulation<9>,
        heading: Box<Heading>,
        out: Projection,
    },
}

/// The text's layers.
enum TextSide {
    Goes {
        modulation: Modulation<6>,
        after: Box<After>,
    },
    Ends(Modulation<2>),
}

/// The block.
pub(super) struct JointBlock {
    heads: Heads,
    norm: Norm,
    image_norm: ImageNorm,
    image: Heading,
    image_after: After,
    text: Heading,
    text_side: TextSide,
}

impl JointBlock {
    pub(super) fn load(at: &Loader<'_>, shape: Shape) -> Result<Self> {
        let Shape {
            heads,
            normed,
            dual,
            last,
        } = shape;
        let width = heads.width();
        let heading =
            |module: &str, names: &Names| Heading::load(&at.at(module), names, heads, normed);
        let (norm1, norm1_context) = (at.at("norm1"), at.at("norm1_context"));
        Ok(Self {
            heads,
            norm: plain_norm(at, width)?,
            image_norm: match dual {
                false => ImageNorm::Single(Modulation::load(&norm1, width)?),
                true => ImageNorm::Dual {
                    modulation: Modulation::load(&norm1, width)?,
                    heading: Box::new(heading("attn2", &IMAGE)?),
                    out: Projection::load(&at.at("attn2"), "to_out.0", width, width)?,
                },
            },
            image: heading("attn", &IMAGE)?,
            image_after: After::load(at, ("to_out.0", "ff"), width)?,
            text: heading("attn", &TEXT)?,
            text_side: match last {
                false => TextSide::Goes {
                    modulation: Modulation::load(&norm1_context, width)?,
                    after: Box::new(After::load(at, ("to_add_out", "ff_context"), width)?),
                },
                true => TextSide::Ends(Modulation::load(&norm1_context, width)?),
            },
        })
    }

    /// `image` and `text` [batch, tokens, width] after the block; the text as it came when it is not needed any more. `told` is
    /// what `TimeText` gives, `rotation` for text and image together, in this order, of every sample.
    pub(super) fn forward(
        &self,
        (image, text): (&Tensor, &Tensor),
        told: &Told<'_>,
        rotation: Option<&Rotation>,
    ) -> Result<(Tensor, Tensor)> {
        let (image_normed, text_normed) = (self.norm.forward(image)?, self.norm.forward(text)?);
        let (parts, besides) = self.image_parts(&image_normed, told)?;
        let [shift, scale, gate, feed_shift, feed_scale, feed_gate] = parts;
        let image_headed = self
            .image
            .forward(&modulate(&image_normed, &shift, &scale)?, told.adapters)?;
        let text_tokens = text.dim(1)?;
        let split = |attended: &Tensor| -> Result<(Tensor, Tensor)> {
            let of_text = attended.narrow(1, 0, text_tokens)?;
            Ok((attended.narrow(1, text_tokens, image.dim(1)?)?, of_text))
        };
        let attend = |shift: &Tensor, scale: &Tensor| -> Result<(Tensor, Tensor)> {
            let normed = modulate(&text_normed, shift, scale)?;
            let text = self.text.forward(&normed, told.adapters)?;
            split(&attend(
                &[text, image_headed.clone()],
                self.heads,
                rotation,
            )?)
        };
        let (of_image, text) = match &self.text_side {
            TextSide::Goes { modulation, after } => {
                let [shift, scale, gate, feed_shift, feed_scale, feed_gate] =
                    modulation.forward(told)?;
                let (of_image, of_text) = attend(&shift, &scale)?;
                let gates = [&gate, &feed_shift, &feed_scale, &feed_gate];
                let text = after.forward((text, &of_text), None, (gates, told.adapters))?;
                (of_image, clip(text)?)
            }
            TextSide::Ends(modulation) => {
                let [scale, shift] = modulation.forward(told)?;
                (attend(&shift, &scale)?.0, text.clone())
            }
        };
        let gates = [&gate, &feed_shift, &feed_scale, &feed_gate];
        let image =
            self.image_after
                .forward((image, &of_image), besides, (gates, told.adapters))?;
        Ok((image, text))
    }

    /// The modulation's six parts, and what the second attention adds.
    fn image_parts(
        &self,
        normed: &Tensor,
        told: &Told<'_>,
    ) -> Result<([Tensor; 6], Option<Tensor>)> {
        match &self.image_norm {
            ImageNorm::Single(modulation) => Ok((modulation.forward(told)?, None)),
            ImageNorm::Dual {
                modulation,
                heading,
                out,
            } => {
                let [a, b, c, d, e, f, own_shift, own_scale, own_gate] =
                    modulation.forward(told)?;
                let own = modulate(normed, &own_shift, &own_scale)?;
                let own = heading.forward(&own, told.adapters)?;
                let own = out.forward(&attend(&[own], self.heads, None)?, told.adapters)?;
                let own = own.broadcast_mul(&own_gate)?;
                Ok(([a, b, c, d, e, f], Some(own)))
            }
        }
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        match &mut self.image_norm {
            ImageNorm::Single(modulation) => found.push(modulation.layer()),
            ImageNorm::Dual {
                modulation,
                heading,
                out,
            } => {
                found.push(modulation.layer());
                heading.layers(found);
                found.push(Layer::Linear(out));
            }
        }
        self.image.layers(found);
        self.image_after.layers(found);
        self.text.layers(found);
        match &mut self.text_side {
            TextSide::Goes { modulation, after } => {
                found.push(modulation.layer());
                after.layers(found);
            }
            TextSide::Ends(modulation) => found.push(modulation.layer()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let image_norm = match &self.image_norm {
            ImageNorm::Single(modulation) => modulation.bytes(),
            ImageNorm::Dual {
                modulation,
                heading,
                out,
            } => modulation.bytes() + heading.bytes() + out.bytes(),
        };
        let text_side = match &self.text_side {
            TextSide::Goes { modulation, after } => modulation.bytes() + after.bytes(),
            TextSide::Ends(modulation) => modulation.bytes(),
        };
        let headings = self.image.bytes() + self.text.bytes();
        self.norm.bytes() + image_norm + headings + self.image_after.bytes() + text_side
    }
}
