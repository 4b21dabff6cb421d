//! The picture that a drawing begins with, and the mask of what may change: encoded piece by piece, then mixed with each drawing's noise.
//! After `diffusers` pipeline_stable_diffusion_img2img.py and …_inpaint.py (`prepare_latents`, `prepare_mask_latents`).

use super::coder::{Coder, Pieces};
use super::drawing::Drawing;
use super::frame::Part;
use crate::autoencoder::LatentDistribution;
use crate::error::Result;
use crate::noise::Draw;
use crate::pixels::Size;

/// A picture to begin with.
pub(super) struct Start {
    /// [3, height, width] from -1 to 1.
    pixels: Vec<f32>,
    size: Size,
    pub(super) mask: Option<Mask>,
    /// Whether the drawings begin with noise alone: a mask with a strength of 1.
    noise_alone: bool,
    encoding: Option<Pieces>,
    image: Option<LatentDistribution>,
    masked: Option<LatentDistribution>,
    /// What drawings are put back into, where they are a part of a picture.
    pub(super) part: Option<Part>,
}

/// What may change.
pub(super) struct Mask {
    /// [height, width] of the picture: 1 where it is drawn anew.
    pub(super) pixels: Vec<f32>,
    /// The same of the latents.
    pub(super) latents: Vec<f32>,
    /// Whether the model is told the mask and the rest of the picture, as one of nine channels is.
    pub(super) told: bool,
}

impl Mask {
    /// A mask of a picture; the latents' is every n-th pixel of it (`torch.nn.functional.interpolate`, nearest).
    pub(super) fn new(pixels: Vec<f32>, size: Size, [_, rows, columns]: [usize; 3]) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        let at = |row: usize, column: usize| {
            let place = row * height / rows * width + column * width / columns;
            pixels.get(place).copied().unwrap_or(0.0)
        };
        let latents = (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .map(|(row, column)| at(row, column))
            .collect();
        Self {
            pixels,
            latents,
            told: false,
        }
    }
}

impl Start {
    pub(super) fn new((pixels, size): (Vec<f32>, Size), mask: Option<Mask>, strength: f64) -> Self {
        Self {
            pixels,
            size,
            noise_alone: mask.is_some() && strength >= 1.0,
            mask,
            encoding: None,
            image: None,
            masked: None,
            part: None,
        }
    }

    /// Whether the drawings may begin.
    pub(super) fn is_encoded(&self) -> bool {
        self.image.is_some() && (self.masked.is_some() || !self.wants_masked())
    }

    fn wants_masked(&self) -> bool {
        self.mask.as_ref().is_some_and(|mask| mask.told)
    }

    pub(super) fn leave_device(&mut self) {
        self.encoding = None;
    }

    /// Bytes on the host.
    pub(super) fn bytes(&self) -> usize {
        let mask = self.mask.as_ref().map_or(0, |mask| mask.pixels.len());
        let part = self.part.as_ref().map_or(0, Part::bytes);
        4 * (self.pixels.len() + mask) + part
    }

    /// Encodes a piece.
    pub(super) fn encode(&mut self, coder: &Coder) -> Result<()> {
        let pieces = match &mut self.encoding {
            Some(pieces) => pieces,
            None => {
                let (width, height) = (self.size.width as usize, self.size.height as usize);
                let begun = coder.encoding(self.next_pixels(), [3, height, width])?;
                self.encoding.insert(begun)
            }
        };
        if let Some(found) = coder.encode(pieces)? {
            self.encoding = None;
            match self.image {
                None => self.image = Some(found),
                Some(_) => self.masked = Some(found),
            }
        }
        Ok(())
    }

    /// The whole picture first, and then, where the model is told of it, what the mask leaves of it.
    fn next_pixels(&self) -> Vec<f32> {
        let kept = |mask: &Mask| -> Vec<f32> {
            let planes = self.pixels.chunks(mask.pixels.len().max(1));
            planes
                .flat_map(|plane| plane.iter().zip(&mask.pixels))
                .map(|(value, mask)| if *mask < 0.5 { *value } else { 0.0 })
                .collect()
        };
        match (&self.image, &self.mask) {
            (Some(_), Some(mask)) => kept(mask),
            _ => self.pixels.clone(),
        }
    }

    /// The latents that a drawing begins with.
    pub(super) fn begin(&self, drawing: &Drawing, coder: &Coder) -> Result<Vec<f32>> {
        let Some(image) = &self.image else {
            return Ok(Vec::new());
        };
        let noise = drawing.noise(Draw::Initial, image.mean.elem_count());
        if self.noise_alone {
            let sigma = drawing.sampler.init_noise_sigma();
            let scaled = noise.into_iter().map(|x| (f64::from(x) * sigma) as f32);
            return Ok(scaled.collect());
        }
        self.noised(drawing, coder, image)
    }

    /// The first picture with as much noise as the next step expects.
    fn noised(
        &self,
        drawing: &Drawing,
        coder: &Coder,
        image: &LatentDistribution,
    ) -> Result<Vec<f32>> {
        let len = image.mean.elem_count();
        let picture = coder.sample(image, drawing.noise(Draw::Start, len))?;
        let noise = drawing.noise(Draw::Initial, len);
        let mut latents = vec![0.0; len];
        drawing.sampler.add_noise(&picture, &noise, &mut latents)?;
        Ok(latents)
    }

    /// After a step: what the mask keeps is the first picture's again, with as much noise as the next step expects. A model that is
    /// told the mask needs none of this.
    pub(super) fn keep(&self, drawing: &Drawing, coder: &Coder) -> Result<Option<Vec<f32>>> {
        let (Some(mask), Some(image)) = (&self.mask, &self.image) else {
            return Ok(None);
        };
        if mask.told {
            return Ok(None);
        }
        let kept = self.noised(drawing, coder, image)?;
        let places = mask.latents.iter().cycle();
        let mixed = drawing.latents.iter().zip(&kept).zip(places);
        let mixed = mixed.map(|((new, old), mask)| (1.0 - mask) * old + mask * new);
        Ok(Some(mixed.collect()))
    }

    /// The five channels that a model is told besides the latents: the mask, and what it leaves of the picture.
    pub(super) fn told(&self, drawing: &Drawing, coder: &Coder) -> Result<Option<Vec<f32>>> {
        let told = self.mask.as_ref().filter(|mask| mask.told);
        let (Some(mask), Some(masked)) = (told, &self.masked) else {
            return Ok(None);
        };
        let noise = drawing.noise(Draw::Masked, masked.mean.elem_count());
        let mut channels = mask.latents.clone();
        channels.extend(coder.sample(masked, noise)?);
        Ok(Some(channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_of_latents_is_every_nth_pixel() {
        let size = Size {
            width: 6,
            height: 4,
        };
        let mut pixels = vec![0.0; 24];
        pixels[2 * 6 + 3] = 1.0;
        pixels[1] = 1.0;
        let mask = Mask::new(pixels, size, [4, 2, 2]);
        assert_eq!(mask.latents, [0.0, 0.0, 0.0, 1.0]);
    }
}
