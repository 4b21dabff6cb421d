//! Pictures and latents in tiles that overlap and are blended, one tile a step, so that no step takes long and memory stays that of
//! a tile. Mirrors `diffusers` models/autoencoders/autoencoder_kl.py (tiled_decode, _tiled_encode, blend_v, blend_h), whose tiles
//! differ a little from a whole: each has its own middle and its own norms.

use candle_core::{Device, Tensor};

use super::kl::AutoencoderKl;
use crate::error::{ImageError, Result};

/// Of a tile's side, what is shared with the next.
const OVERLAP: f64 = 0.25;

/// The sides of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSizes {
    /// In pixels.
    pub sample: usize,
    /// In latents.
    pub latent: usize,
}

impl TileSizes {
    /// Tiles of `sample` pixels where a latent is `pixels` of them.
    ///
    /// # Errors
    /// For tiles whose quarter is no whole number of latents: diffusers' own sums then leave a picture of another size.
    pub fn new(sample: usize, pixels: usize) -> Result<Self> {
        let latent = sample / pixels.max(1);
        if latent == 0 || latent * pixels != sample || !latent.is_multiple_of(4) {
            return Err(ImageError::Input(format!(
                "tiles of {sample} pixels, where a latent is {pixels}; a multiple of {} is wanted",
                4 * pixels
            )));
        }
        Ok(Self { sample, latent })
    }

    /// Whether latents of this height and width are more than a tile. Then diffusers decodes them in tiles if it was told to.
    pub fn are_exceeded_by(&self, height: usize, width: usize) -> bool {
        height > self.latent || width > self.latent
    }
}

/// Work that is done a tile at a time.
#[derive(Debug, Clone)]
pub struct Tiled {
    direction: Direction,
    input: Tensor,
    plan: Plan,
    rows: usize,
    columns: usize,
    done: usize,
    /// The lowest lines of the row of tiles above, as they were blended.
    above: Vec<Tensor>,
    /// The same of this row, so far.
    lowest: Vec<Tensor>,
    /// The rightmost lines of the tile to the left.
    left: Option<Tensor>,
    /// What is kept of this row's tiles.
    row: Vec<Tensor>,
    finished: Vec<Tensor>,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Encode,
    Decode,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Side of a tile that goes in.
    side: usize,
    /// From one tile that goes in to the next.
    stride: usize,
    /// Lines of what comes out that are blended.
    blend: usize,
    /// Lines of what comes out that are kept.
    keep: usize,
}

impl Plan {
    fn new(side: usize, out_side: usize) -> Self {
        let blend = (out_side as f64 * OVERLAP) as usize;
        Self {
            side,
            stride: (side as f64 * (1.0 - OVERLAP)) as usize,
            blend,
            keep: out_side - blend,
        }
    }
}

impl Tiled {
    /// Latents [batch, latent_channels, height, width] to a picture.
    ///
    /// # Errors
    /// When they have another number of dimensions.
    pub fn decode(latents: &Tensor, sizes: TileSizes) -> Result<Self> {
        let plan = Plan::new(sizes.latent, sizes.sample);
        Self::new(Direction::Decode, latents, plan)
    }

    /// Pictures [batch, in_channels, height, width] to what
    /// [`LatentDistribution::of_moments`](super::LatentDistribution::of_moments) takes.
    ///
    /// # Errors
    /// When they have another number of dimensions.
    pub fn encode(pictures: &Tensor, sizes: TileSizes) -> Result<Self> {
        let plan = Plan::new(sizes.sample, sizes.latent);
        Self::new(Direction::Encode, pictures, plan)
    }

    fn new(direction: Direction, input: &Tensor, plan: Plan) -> Result<Self> {
        let (_, _, height, width) = input.dims4()?;
        Ok(Self {
            direction,
            input: input.clone(),
            plan,
            rows: height.div_ceil(plan.stride.max(1)),
            columns: width.div_ceil(plan.stride.max(1)),
            done: 0,
            above: Vec::new(),
            lowest: Vec::new(),
            left: None,
            row: Vec::new(),
            finished: Vec::new(),
        })
    }

    /// How many tiles there are: calls of [`step`](Self::step) until it has a result.
    pub fn tiles(&self) -> usize {
        self.rows * self.columns
    }

    /// How many are done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Does the next tile; gives the whole after the last.
    ///
    /// # Errors
    /// What the autoencoder says, and [`ImageError::Input`] after the last tile.
    pub fn step(&mut self, autoencoder: &AutoencoderKl) -> Result<Option<Tensor>> {
        if self.done >= self.tiles() {
            return Err(ImageError::Input("a tile after the last".to_owned()));
        }
        let (row, column) = (self.done / self.columns, self.done % self.columns);
        let tile = self.tile(row, column)?;
        let mut tile = match self.direction {
            Direction::Encode => autoencoder.moments(&tile)?,
            Direction::Decode => autoencoder.decode(&tile)?,
        };
        if let Some(above) = self.above.get(column) {
            tile = blend(above, &tile, (2, self.plan.blend))?;
        }
        if let Some(left) = &self.left {
            tile = blend(left, &tile, (3, self.plan.blend))?;
        }
        self.lowest.push(end(&tile, (2, self.plan.blend))?);
        self.left = Some(end(&tile, (3, self.plan.blend))?);
        let kept = start(&start(&tile, (2, self.plan.keep))?, (3, self.plan.keep))?;
        self.row.push(kept);
        self.done += 1;
        if column + 1 == self.columns {
            self.finished.push(Tensor::cat(&self.row, 3)?);
            self.row.clear();
            self.left = None;
            self.above = std::mem::take(&mut self.lowest);
        }
        match self.done == self.tiles() {
            true => Ok(Some(Tensor::cat(&self.finished, 2)?)),
            false => Ok(None),
        }
    }

    fn tile(&self, row: usize, column: usize) -> Result<Tensor> {
        let (_, _, height, width) = self.input.dims4()?;
        let Plan { side, stride, .. } = self.plan;
        let (top, left) = (row * stride, column * stride);
        let lines = self.input.narrow(2, top, side.min(height - top))?;
        let tile = lines.narrow(3, left, side.min(width - left))?;
        Ok(tile.contiguous()?)
    }
}

/// The first lines of `x` along a dimension, all when it has fewer.
fn start(x: &Tensor, (dim, lines): (usize, usize)) -> Result<Tensor> {
    Ok(x.narrow(dim, 0, lines.min(x.dim(dim)?))?.contiguous()?)
}

/// The last lines.
fn end(x: &Tensor, (dim, lines): (usize, usize)) -> Result<Tensor> {
    let have = x.dim(dim)?;
    let lines = lines.min(have);
    Ok(x.narrow(dim, have - lines, lines)?.contiguous()?)
}

/// `x` with its first lines going over from those that `before` ends with.
fn blend(before: &Tensor, x: &Tensor, (dim, most): (usize, usize)) -> Result<Tensor> {
    let lines = most.min(before.dim(dim)?).min(x.dim(dim)?);
    if lines == 0 {
        return Ok(x.clone());
    }
    let mut shape = [1; 4];
    if let Some(side) = shape.get_mut(dim) {
        *side = lines;
    }
    let weights = |of: &dyn Fn(f64) -> f64| -> Result<Tensor> {
        let weight = |line: usize| of(line as f64 / lines as f64) as f32;
        let weights = Tensor::from_iter((0..lines).map(weight), &Device::Cpu)?;
        Ok(weights.reshape(&shape)?.to_device(x.device())?)
    };
    let old = end(before, (dim, lines))?.broadcast_mul(&weights(&|part| 1.0 - part)?)?;
    let new = start(x, (dim, lines))?.broadcast_mul(&weights(&|part| part)?)?;
    let rest = x.narrow(dim, lines, x.dim(dim)? - lines)?.contiguous()?;
    Ok(Tensor::cat(&[&(old + new)?, &rest], dim)?)
}
