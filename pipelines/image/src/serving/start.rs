//! The picture that a drawing begins with, and the mask of what may change: encoded piece by piece, then mixed with each drawing's noise.
//! After `diffusers` pipeline_stable_diffusion_img2img.py and …_inpaint.py (`prepare_latents`, `prepare_mask_latents`).

use candle_core::{DType, Device, Tensor};

use super::drawing::Drawing;
use crate::autoencoder::{AutoencoderKl, Encoding};
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
    encoding: Option<Encoding>,
    image: Option<Moments>,
    masked: Option<Moments>,
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

/// A normal distribution of latents, each [channels, height, width].
struct Moments {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Moments {
    fn of(mean: &Tensor, log_variance: &Tensor) -> Result<Self> {
        let host = |x: &Tensor| -> Result<Vec<f32>> {
            let x = x.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            Ok(x.flatten_all()?.to_vec1()?)
        };
        let deviation = host(log_variance)?.into_iter();
        Ok(Self {
            mean: host(mean)?,
            // As `DiagonalGaussianDistribution` bounds it.
            deviation: deviation
                .map(|x| (0.5 * x.clamp(-30.0, 20.0)).exp())
                .collect(),
        })
    }

    /// A sample of it, as the denoiser expects latents.
    fn sample(&self, drawing: &Drawing, draw: Draw, vae: &AutoencoderKl) -> Vec<f32> {
        let noise = drawing.noise(draw, self.mean.len());
        let spread = self.deviation.iter().zip(noise);
        let mut latents: Vec<f32> = self
            .mean
            .iter()
            .zip(spread)
            .map(|(mean, (deviation, noise))| mean + deviation * noise)
            .collect();
        vae.config().to_model(&mut latents);
        latents
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
        4 * (self.pixels.len() + mask)
    }

    /// Encodes a piece.
    pub(super) fn encode(&mut self, vae: &AutoencoderKl) -> Result<()> {
        let encoding = match &mut self.encoding {
            Some(encoding) => encoding,
            None => {
                let pixels = self.next_pixels();
                let (width, height) = (self.size.width as usize, self.size.height as usize);
                let pixels = Tensor::from_vec(pixels, (1, 3, height, width), &Device::Cpu)?;
                let pixels = vae.placement().move_in(&pixels)?;
                self.encoding.insert(vae.encoding(&pixels)?)
            }
        };
        if let Some((mean, log_variance)) = encoding.advance(vae)? {
            let moments = Moments::of(&mean, &log_variance)?;
            self.encoding = None;
            match self.image {
                None => self.image = Some(moments),
                Some(_) => self.masked = Some(moments),
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
    pub(super) fn begin(&self, drawing: &Drawing, vae: &AutoencoderKl) -> Vec<f32> {
        let Some(image) = &self.image else {
            return Vec::new();
        };
        let noise = drawing.noise(Draw::Initial, image.mean.len());
        if self.noise_alone {
            let sigma = drawing.sampler.init_noise_sigma();
            return noise
                .into_iter()
                .map(|x| (f64::from(x) * sigma) as f32)
                .collect();
        }
        let mut latents = image.sample(drawing, Draw::Start, vae);
        drawing.sampler.add_noise(&mut latents, &noise);
        latents
    }

    /// After a step: what the mask keeps is the first picture's again, with as much noise as the next step expects. A model that is
    /// told the mask needs none of this.
    pub(super) fn keep(&self, drawing: &Drawing, vae: &AutoencoderKl) -> Option<Vec<f32>> {
        let (mask, image) = (self.mask.as_ref()?, self.image.as_ref()?);
        if mask.told {
            return None;
        }
        let mut kept = image.sample(drawing, Draw::Start, vae);
        if drawing.sampler.next().is_some() {
            let noise = drawing.noise(Draw::Initial, kept.len());
            drawing.sampler.add_noise(&mut kept, &noise);
        }
        let places = mask.latents.iter().cycle();
        let mixed = drawing.latents.iter().zip(&kept).zip(places);
        Some(
            mixed
                .map(|((new, old), mask)| (1.0 - mask) * old + mask * new)
                .collect(),
        )
    }

    /// The five channels that a model is told besides the latents: the mask, and what it leaves of the picture.
    pub(super) fn told(&self, drawing: &Drawing, vae: &AutoencoderKl) -> Option<Vec<f32>> {
        let mask = self.mask.as_ref().filter(|mask| mask.told)?;
        let masked = self.masked.as_ref()?;
        let mut channels = mask.latents.clone();
        channels.extend(masked.sample(drawing, Draw::Masked, vae));
        Some(channels)
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
