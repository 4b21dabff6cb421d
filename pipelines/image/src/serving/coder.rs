//! The autoencoder as the pipeline uses it: a picture or its latents in pieces, each of which is one step's work, and host numbers scaled
//! as the denoiser has them. Apart from the autoencoder, which knows tensors and no steps.

use candle_core::{Device, Tensor};

use super::sizes::TILED_PIXELS;
use crate::autoencoder::{
    AutoencoderConfig, AutoencoderKl, LatentDistribution, Scaling, TileSizes, Tiled,
};
use crate::error::Result;

/// An autoencoder with what its configuration says of latents.
pub(super) struct Coder {
    model: AutoencoderKl,
    scaling: Scaling,
    /// None for an autoencoder of an odd sample size, whose pictures are always in one piece.
    tiles: Option<TileSizes>,
    /// Pixels for each side of a latent.
    factor: usize,
}

/// Work on a picture that was begun.
pub(super) enum Pieces {
    /// In one piece.
    Whole(Tensor),
    /// A tile at a time.
    Tiled(Box<Tiled>),
}

impl Coder {
    pub(super) fn new(model: AutoencoderKl, config: &AutoencoderConfig) -> Self {
        Self {
            model,
            scaling: config.scaling.clone(),
            tiles: config.tile_sizes().ok(),
            factor: config.pixels(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.model.bytes()
    }

    /// The tiles of a picture of so many pixels, where it is large.
    fn tiles(&self, pixels: usize) -> Option<TileSizes> {
        self.tiles.filter(|_| pixels as u64 > TILED_PIXELS)
    }

    /// Begins to decode latents as the denoiser has them, [channels, height, width].
    pub(super) fn decoding(&self, latents: Vec<f32>, shape: [usize; 3]) -> Result<Pieces> {
        let [_, height, width] = shape;
        let latents = self.scaling.from_model(&row(latents, shape)?)?;
        Ok(
            match self.tiles(height * width * self.factor * self.factor) {
                Some(tiles) => Pieces::Tiled(Box::new(Tiled::decode(&latents, tiles)?)),
                None => Pieces::Whole(latents),
            },
        )
    }

    /// Begins to encode a picture, [3, height, width].
    pub(super) fn encoding(&self, picture: Vec<f32>, shape: [usize; 3]) -> Result<Pieces> {
        let [_, height, width] = shape;
        let picture = row(picture, shape)?;
        Ok(match self.tiles(height * width) {
            Some(tiles) => Pieces::Tiled(Box::new(Tiled::encode(&picture, tiles)?)),
            None => Pieces::Whole(picture),
        })
    }

    /// The next piece of a decoding; the picture [1, 3, height, width] after the last.
    pub(super) fn decode(&self, pieces: &mut Pieces) -> Result<Option<Tensor>> {
        match pieces {
            Pieces::Whole(latents) => Ok(Some(self.model.decode(latents)?)),
            Pieces::Tiled(tiled) => tiled.step(&self.model),
        }
    }

    /// The next piece of an encoding; where the latents lie, on the host, after the last.
    pub(super) fn encode(&self, pieces: &mut Pieces) -> Result<Option<LatentDistribution>> {
        let found = match pieces {
            Pieces::Whole(picture) => self.model.encode(picture)?,
            Pieces::Tiled(tiled) => match tiled.step(&self.model)? {
                Some(moments) => LatentDistribution::of_moments(&moments)?,
                None => return Ok(None),
            },
        };
        Ok(Some(LatentDistribution {
            mean: found.mean.to_device(&Device::Cpu)?,
            logvar: found.logvar.to_device(&Device::Cpu)?,
        }))
    }

    /// A sample of where latents lie, as the denoiser has them.
    pub(super) fn sample(&self, lies: &LatentDistribution, noise: Vec<f32>) -> Result<Vec<f32>> {
        let noise = Tensor::from_vec(noise, lies.mean.shape(), &Device::Cpu)?;
        let latents = self.scaling.to_model(&lies.sample(&noise)?)?;
        Ok(latents.flatten_all()?.to_vec1()?)
    }
}

/// [1, channels, height, width] on the host.
fn row(numbers: Vec<f32>, [channels, height, width]: [usize; 3]) -> Result<Tensor> {
    let shape = (1, channels, height, width);
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}
